"""Folders of a study with one finished run: toy networks of first weights, and the real stages after."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_run import make_dataset

from wsss.data.index import Entry, Index
from wsss.methods.base import build_method
from wsss.nets.affinitynet import build_affinity_network
from wsss.nets.deeplab import build_deeplab
from wsss.runs.record import recorder
from wsss.runs.run import Run, stage_kind
from wsss.runs.sources import source_files
from wsss.settings.resolve import load_params
from wsss.stages.calibrate import calibrate
from wsss.stages.cam import cam
from wsss.stages.evaluate import evaluate
from wsss.stages.masks import masks
from wsss.stages.pseudo import pseudo
from wsss.stages.walk import walk
from wsss.storage import checkpoint
from wsss.training import session

RUN = "shapes/cam/common/s0"
CLASSES = ("cat", "hare", "mouse")
PARAMS = """\
cam: {scales: [1.0, 1.5]}
walk: {log2_steps: 3}
pseudo: {threshold: 0.3, crf: psa}
segmenter: {rates: [1, 2], test: {scales: [1.0], mirror: true, crf: psa}}
crf: {device: cpu}
evaluation: {thresholds: 20}
"""


def make_study(folder: Path, pictures: Index, seed: int, stages: int | None = None) -> Path:
    """Write a study whose networks have the first weights of `seed`; its paths are relative.

    stages: number of stages that are run; None: all.
    """
    pytest.importorskip("pydensecrf")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("pictures").mkdir()
        Path("params.yaml").write_text(PARAMS)
        images = tuple(map(_copied, [*pictures.split("train")[:8], *pictures.split("val")[:3]]))
        run = Run.parse(RUN, load_params([Path("params.yaml")]))
        drawn = Index("shapes", pictures.classes, images)
        index = make_dataset(drawn, "shapes", run.params, CLASSES)
        torch.manual_seed(seed)
        for stage in run.stages()[:stages]:
            _make(run, stage, index)
    return folder


def _copied(entry: Entry) -> Entry:
    """Return an image with relative paths, of copies in the working folder."""
    files = [shutil.copy(str(path), "pictures") for path in (entry.path, entry.mask)]
    name = f"{entry.split}-{entry.name.removeprefix(entry.split):0>5}"
    return replace(entry, name=name, path=files[0], mask=files[1])


def _make(run: Run, stage: str, index: Index) -> None:
    stages: dict[str, Callable[[Run], object]] = {
        "cam": lambda run: cam(run, None),
        "walk": lambda run: walk(run, None),
        "pseudo": pseudo,
        "masks": lambda run: masks(run, None),
    }
    if stage in run.trained:
        path = run.path(f"{stage}.safetensors")
        net = _network(run, stage, len(index.classes))
        checkpoint.save(path, net.state_dict(), session.header(run, stage, index))
        inputs = [file for file in source_files(run, stage) if file.is_file()]
        recorder(run, stage).write(path.with_suffix(".json"), inputs, [path])
    elif stage.startswith("eval/"):
        evaluate(run, stage.removeprefix("eval/"))
    elif stage_kind(stage) == "calibrate":
        calibrate(run, stage.removeprefix("calibrate-"))
    elif stage in stages:
        stages[stage](run)


def _network(run: Run, stage: str, classes: int) -> torch.nn.Module:
    if stage == "affinity":
        return build_affinity_network(run.settings.affinity)
    if stage == "segmenter":
        return build_deeplab(run.settings.segmenter, classes)
    return build_method(run, classes).build(stage)


@pytest.fixture(scope="session")
def other_study(squares: Index, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run of the same name that has CAMs of another network, and no more."""
    return make_study(tmp_path_factory.mktemp("other"), squares, 1, stages=2)


@pytest.fixture(scope="session")
def study(squares: Index, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a finished run; no test may change it."""
    return make_study(tmp_path_factory.mktemp("study"), squares, 0)
