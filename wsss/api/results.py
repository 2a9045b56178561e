"""The results of a run: its maps, labels, truths and scores, from any folder.

Imports neither torch nor timm.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wsss.data.images import LabelReader, load_entry, load_truth
from wsss.data.index import SPLITS, Entry, Index, load_index
from wsss.errors import ConfigError, DatasetError, MissingError
from wsss.runs.evaluation import BoxEvaluation, Evaluation, Scoring
from wsss.runs.record import read_record
from wsss.runs.recorded import RecordedRun
from wsss.runs.run import VALIDATED, scored_artifact, stage_kind
from wsss.scores.metrics import erode, seed
from wsss.settings import Params
from wsss.settings.layers import Layer
from wsss.settings.resolve import read_layers, validate_layers
from wsss.storage.archive import Reader
from wsss.storage.cam_archive import Cam, CamReader

if TYPE_CHECKING:  # takes half a second
    import pandas as pd

PathLike = str | os.PathLike[str]
PARAMS_FILE = "params.yaml"
MAPS = ("seed", "walk")  # evaluations of class maps
LISTED = 6  # runs named in one message


@dataclass(frozen=True)
class ClassMaps:
    """The class maps of one image: CAMs, or walked CAMs.

    stored: the maps as the archives of a run hold them. classes: names of the K classes, in the order
    of the maps.
    """

    stored: Cam
    classes: tuple[str, ...]

    @cached_property
    def maps(self) -> NDArray[np.float32]:
        """The maps at image size, (K, H, W), of scores in [0, 1]."""
        return self.stored.full()

    @property
    def labels(self) -> NDArray[np.int64]:
        """The label (K,) of each map in label images, from 1."""
        return self.stored.labels.astype(np.int64) + 1

    @property
    def small(self) -> NDArray[np.float32]:
        """The maps as they are stored, (K, h, w), one score for each cell of `stride` pixels."""
        return self.stored.cam.astype(np.float32)

    @property
    def stride(self) -> int:
        """Image pixels per cell of `small`."""
        return self.stored.stride

    @property
    def background(self) -> NDArray[np.float32] | None:
        """The background score (H, W) that walked along with the maps (PSA); None if none did."""
        if self.stored.background is None:
            return None
        return np.asarray(self.stored.full_background(0.0)[0], np.float32)

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """Return the map (H, W) of a class."""
        if name not in self.classes:
            raise DatasetError(
                f"There is no map of {name!r}. The maps are of {', '.join(self.classes) or 'no class'}."
            )
        return np.asarray(self.maps[self.classes.index(name)])


def open_run(
    name: str, root: PathLike = ".", params: PathLike | Sequence[PathLike] = ()
) -> RunResults:
    """Return the results of a run, which may be of another version of the code.

    name: dataset/method/protocol/sSEED. root: the folder that holds `work/`; `~` is the home folder.
    params: parameter files, instead of the `params.yaml` of `root`; the settings in the records of the
    run override them. Relative paths start at `root`: those of parameter files, of folders of methods,
    and of images in the index.

    Raises:
        ConfigError: the name is not one of a run, or a parameter file has a problem.
        MissingError: there is no such run.
    """
    return RunResults(located(name, root, params))


def located(name: str, root: PathLike, params: PathLike | Sequence[PathLike]) -> RecordedRun:
    """Return a run of the folder `root` with the settings of its records."""
    folder = Path(root).expanduser().absolute()
    files = [params] if isinstance(params, str | os.PathLike) else params
    paths = [folder / Path(file).expanduser() for file in files]
    run = RecordedRun.parse(name, _params(folder, paths), folder)
    if not run.folder.is_dir():
        raise MissingError(f"There is no folder {run.folder}. {_present(run.work)}")
    return run


def _params(root: Path, files: Sequence[Path]) -> Params:
    """Return the parameters of files; of `params.yaml` in `root`, or the defaults, without any."""
    default = root / PARAMS_FILE
    layers = read_layers(files or [path for path in (default,) if path.is_file()])
    where = ", ".join(map(str, files)) or str(default)
    return validate_layers([_from(layer, root) for layer in layers], where)


def _from(layer: Layer, root: Path) -> Layer:
    """Return a layer whose folders of methods start at `root`."""
    folders = layer.settings.get("methods_path")
    if not isinstance(folders, list):
        return layer
    methods_path = [str(root / str(folder)) for folder in folders]
    return replace(layer, settings={**layer.settings, "methods_path": methods_path})


def _present(work: Path) -> str:
    names = sorted(path.relative_to(work).as_posix() for path in work.glob("*/*/*/s*"))
    if not names:
        return "Set root to the folder that holds `work/` with the runs."
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"The runs there are {', '.join(names[:LISTED])}{more}."


class RunResults:
    """The results of one run; nothing is computed again.

    Files are read when they are asked for, and archives stay open: open the run again to read what
    has been computed since. A stage is named as its evaluation: `seed`, `seed-NETWORK`, `decode`, `walk`,
    `pseudo`, `segmentation`.
    """

    def __init__(self, run: RecordedRun) -> None:
        self._run = run
        self._maps: dict[str, CamReader] = {}
        self._labels: dict[str, LabelReader] = {}

    def __repr__(self) -> str:
        return f"wsss.open_run({str(self._run)!r}, root={str(self._run.root)!r})"

    @property
    def name(self) -> str:
        """The name of the run, dataset/method/protocol/sSEED."""
        return str(self._run)

    @property
    def folder(self) -> Path:
        """The folder of the files of the run."""
        return self._run.folder

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that can be scored, in the order of the pipeline."""
        return tuple(self._run.scored)

    @cached_property
    def _index(self) -> Index:
        return load_index(self._run.index)

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        return {entry.name: self._rooted(entry) for entry in self._index.images}

    def _rooted(self, entry: Entry) -> Entry:
        """Return an image whose files start at the root of the run."""
        root = self._run.root
        mask = None if entry.mask is None else str(root / entry.mask)
        return replace(entry, path=str(root / entry.path), mask=mask)

    def _entry(self, name: str) -> Entry:
        if name not in self._entries:
            raise DatasetError(
                f"{self._run.dataset} has no image {name!r}. `images()` lists their names."
            )
        return self._entries[name]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels 1, 2, … of label images; 0 is background, 255 is no label."""
        return self._index.classes

    def images(self, *splits: str) -> list[str]:
        """Return the names of all images, or those of some splits (train, aug, val, test), sorted."""
        unknown = [split for split in splits if split not in SPLITS]
        if unknown:
            raise ConfigError(f"{unknown[0]!r} is not a split. The splits are {', '.join(SPLITS)}.")
        names = splits or SPLITS
        return [entry.name for entry in self._index.split(*names)]

    def scored_images(self, stage: str) -> list[str]:
        """Return the names of the images that the score of a stage counts, sorted."""
        self._check(stage)
        split = "val" if stage in VALIDATED else "train"
        return [entry.name for entry in self._index.scored(split, self._run.held_out(stage))]

    def image(self, name: str) -> NDArray[np.uint8]:
        """Return an image, RGB (H, W, 3), upright."""
        return load_entry(self._entry(name))

    def image_labels(self, name: str) -> tuple[str, ...]:
        """Return the classes that an image is labelled with, in class order."""
        return self._entry(name).labels

    def truth(self, name: str) -> NDArray[np.uint8]:
        """Return the true label image (H, W): 0 is background, 255 is not scored.

        Raises:
            DatasetError: the image has no mask.
        """
        entry = self._entry(name)
        if entry.mask is None:
            raise DatasetError(f"The image {name!r} of {self._run.dataset} has no mask.")
        return load_truth(entry, len(self.classes))

    def cam(self, name: str, stage: str = "cam") -> ClassMaps:
        """Return the stored maps of an image. stage: cam, cam-NETWORK or walk.

        Raises:
            ConfigError: the run has no such maps.
            MissingError: they are not computed yet, or the image has none.
        """
        present = [*self._run.cams, *(["walk"] if "walk" in self._run.stages() else [])]
        if stage not in present:
            raise ConfigError(f"{self.name} has no maps {stage!r}. It has {', '.join(present)}.")
        if stage not in self._maps:
            self._maps[stage] = CamReader(self._run.path(f"{stage}.zip"))
        stored = self._maps[stage][self._entry(name).name]
        return ClassMaps(stored, tuple(self.classes[number] for number in stored.labels))

    def labels(self, stage: str, name: str) -> NDArray[np.uint8]:
        """Return the label image (H, W) that the score of a stage counts: 0 to C, or 255 for no label.

        Of maps (seed, walk) it is their label image at the threshold of the score.

        Raises:
            ConfigError: the run has no such stage.
            MissingError: it is not computed yet, or the image has no labels.
        """
        self._check_masks(stage)
        archive = scored_artifact(stage)
        if stage_kind(stage) in MAPS:
            return self._thresholded(stage, self.cam(name, archive).stored)
        if archive not in self._labels:
            self._labels[archive] = LabelReader(Reader(self._run.path(f"{archive}.zip")))
        return self._labels[archive](self._entry(name))

    def _thresholded(self, stage: str, cam: Cam) -> NDArray[np.uint8]:
        scoring = Scoring.of(self._run, stage)
        level = cam.full_background(1.0 if scoring.threshold is None else scoring.threshold)[0]
        labels = seed(cam.full(), cam.labels, level)
        return erode(labels, scoring.erode_px) if scoring.erode_px else labels

    def score(self, stage: str) -> Evaluation:
        """Return the scores of a stage with their protocol: `miou` in [0, 1], `classes`, `curve`.

        Raises:
            ConfigError: the run has no such stage.
            MissingError: it is not scored yet.
        """
        self._check_masks(stage)
        return read_record(
            self._run.path(f"eval/{stage}.json"), Evaluation, "an evaluation of masks"
        )

    def box_score(self) -> BoxEvaluation:
        """Return the scores of the boxes of a method that localizes."""
        self._check("boxes")
        return read_record(
            self._run.path("eval/boxes.json"), BoxEvaluation, "an evaluation of boxes"
        )

    def _check(self, stage: str) -> None:
        if stage not in self._run.scored:
            raise ConfigError(
                f"{self.name} has no stage {stage!r}. It has {', '.join(self._run.scored)}."
            )

    def _check_masks(self, stage: str) -> None:
        self._check(stage)
        if stage == "boxes":
            raise ConfigError(f"{self.name} yields boxes, not masks. box_score() has their scores.")

    @property
    def finished(self) -> tuple[str, ...]:
        """The stages that are scored."""
        return tuple(s for s in self.stages if self._run.path(f"eval/{s}.json").is_file())

    def table(self) -> pd.DataFrame:
        """Return the rows of this run in the results table, one for each scored stage; see `table`."""
        return table([self])


def table(runs: Iterable[RunResults]) -> pd.DataFrame:
    """Return the results table of runs, which may be of several folders, as a data frame.

    It has a row for each dataset, method, protocol and scored stage, over all seeds among `runs`, and the
    columns of `results/table.csv`. Scores are in [0, 1]; gains are over the rows of `cam` among them.

    Raises:
        MissingError: no stage is scored yet.
        StaleError: seeds of a row have other settings, or rows of a dataset were scored on other images.
    """
    import pandas as pd  # noqa: PLC0415  # takes half a second

    from wsss.report.tables.rows import compared, score_of, table_rows  # noqa: PLC0415

    opened = list(runs)
    pairs = [(run._run, what) for run in opened for what in run.finished if what != "boxes"]
    if not pairs:
        names = ", ".join(run.name for run in opened) or "an empty list"
        raise MissingError(f"No masks are scored in {names}. Run `snakemake`, then open it again.")
    scores = [score_of(run, what) for run, what in pairs]
    rows = compared(table_rows(scores), scores)
    return pd.DataFrame([{**asdict(row), "difference": row.difference} for row in rows])
