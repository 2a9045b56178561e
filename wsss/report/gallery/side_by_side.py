"""Panels of runs: one picture with a row for each image and a column for each run and stage, and the truth.

Of several runs side by side, papers call it the qualitative comparison. Labels are exactly as they are scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from wsss.data.images import load_entry
from wsss.data.index import Entry, Index
from wsss.errors import ConfigError, MissingError
from wsss.report.figures.panels import Row, choose, chosen, heat_of, read_truth, sheet
from wsss.report.gallery.material import STAGES, Material, artifact_of, of_one_dataset, split_of
from wsss.runs.run import Run
from wsss.storage.files import replacing

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
LONGEST = {"JPEG": 65_500, "WEBP": 16_383}  # side that a format can hold, pixels
QUALITY = 90  # of JPEG and WebP, in percent


@dataclass(frozen=True)
class Column:
    """A stage of a run in the picture; head: what stands above it."""

    material: Material
    what: str
    head: str


def side_by_side(
    runs: Sequence[Run], stages: Sequence[str], images: int | Sequence[str], path: Path
) -> int:
    """Write the picture of some stages of `runs` and return how many images it has.

    stages: names of `STAGES`; a run that has no such stage by design has no column for it. A file that
    several runs share, as the CAMs of a variant and its base, is shown once.
    images: the number of images, spread evenly over the split of the stages; or their names.
    path: its ending says the format: .png, .jpg or .webp.

    Raises:
        ConfigError: the runs are of several datasets, the stages of several splits, no run has them, the
            ending is unknown, or the picture is too large for its format.
        DatasetError: the dataset has no image of such a name.
        MissingError: a stage is not finished.
        StaleError: a finished stage is out of date.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(f"{path}: name it with one of the endings {', '.join(FORMATS)}.")
    split = _split(stages)
    materials = of_one_dataset(runs)
    entries = _entries(materials[0].index, split, images)
    picture = _picture(materials, [what for what in STAGES if what in stages], entries)
    if max(picture.size) > LONGEST.get(kind, max(picture.size)):
        raise ConfigError(
            f"{path}: {' x '.join(map(str, picture.size))} pixels are more than {kind} can hold. Name "
            "a .png, or fewer images."
        )
    with replacing(path) as temporary:
        picture.save(temporary, kind, quality=QUALITY)
    return len(entries)


def panel(
    run: Run, index: Index, stages: Sequence[str], images: int | Sequence[str]
) -> Image.Image:
    """Return the picture of some stages of a run whose records have been verified.

    stages: names of `STAGES`, in their order, of one split. images: as in `side_by_side`.
    """
    material = Material(run, run.title, index, frozenset(run.stages()))
    return _picture([material], stages, _entries(index, _split(stages), images))


def _picture(
    materials: Sequence[Material], stages: Sequence[str], entries: Sequence[Entry]
) -> Image.Image:
    columns = _columns(materials, stages)
    heads = ["image", *(column.head for column in columns), "truth"]
    return sheet(materials[0].index, heads, [_row(columns, entry) for entry in entries])


def _entries(index: Index, split: str, images: int | Sequence[str]) -> list[Entry]:
    """Return the images of a split that are shown."""
    if isinstance(images, int):
        return chosen(index, choose((entry.name for entry in index.split(split)), images))
    entries = chosen(index, images)
    for entry in entries:
        if entry.split != split:
            raise ConfigError(
                f"The image {entry.name!r} is of the split {entry.split}, these stages are of {split}. Name "
                f"one of {split}, as index.json lists them."
            )
    return entries


def _split(stages: Sequence[str]) -> str:
    """Return the split of all stages."""
    for what in stages:
        if what not in STAGES:
            raise ConfigError(
                f"There is no stage {what!r} to show. Name one of {', '.join(STAGES)}."
            )
    splits = {split_of(what): what for what in stages}
    if len(splits) > 1:
        one, other = splits.values()
        raise ConfigError(
            f"{one} and {other} are of different images, {' and '.join(splits)}. Draw a picture of each."
        )
    return next(iter(splits))


def _columns(materials: Sequence[Material], stages: Sequence[str]) -> list[Column]:
    """Return the columns from left to right: all runs with the first stage, then with the next."""
    columns: list[Column] = []
    for what in stages:
        distinct: dict[tuple[Path, float | None], Material] = {}
        for material in materials:
            if artifact_of(what) in material.run.stages():
                distinct.setdefault(_content(material, what), material)
        for material in distinct.values():
            stage = f"seed (> {material.threshold:g})" if what == "seed" else STAGES[what]
            names_stage = len(stages) > 1 or len(distinct) == 1
            words = [material.title] * (len(distinct) > 1) + [stage] * names_stage
            columns.append(Column(material, what, ", ".join(words)))
    if not columns:
        raise ConfigError(
            f"None of the runs has {' or '.join(stages)}. `wsss methods` lists what each method makes."
        )
    return columns


def _content(material: Material, what: str) -> tuple[Path, float | None]:
    """Return what the pictures of a column are made of; equal for runs that share it."""
    if what not in material.columns:
        raise MissingError(
            f"No {STAGES[what]} of {material.run} yet: run snakemake --cores 1 {material.file(what)}."
        )
    return material.file(what), material.threshold if what == "seed" else None


def _row(columns: Sequence[Column], entry: Entry) -> Row:
    """Return the pictures of an image; CAMs come first, as in the flow."""
    image = load_entry(entry)
    heats = [heat_of(image, each.material.cam(entry)) for each in columns if each.what == "cam"]
    labels = [each.material.labels(each.what, entry) for each in columns if each.what != "cam"]
    return Row(image, heats, [*labels, read_truth(entry)])
