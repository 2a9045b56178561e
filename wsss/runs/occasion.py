"""What equal runs do not share: how long a stage took, how fast it was, and the commit that it ran at.

It is in a file of its own in `benchmarks/`, so that equal runs have equal records.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from wsss.errors import MissingError
from wsss.runs.run import WORK
from wsss.storage.files import read_json, write_json

FOLDER = Path("benchmarks")


class Occasion(BaseModel):
    """One execution of a stage.

    record: digest of the record that it wrote. wall_s: duration in seconds. images_per_s: speed of a
    training. commit: of the checkout, None outside Git. dirty: whether the code differed from it.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    record: str = ""
    wall_s: float | None = None
    images_per_s: float | None = None
    commit: str | None = None
    dirty: bool | None = None


def occasion_path(record: Path) -> Path:
    """Return the JSON file with the occasion of a record in `work/`."""
    return FOLDER / record.relative_to(WORK).with_suffix(".time")


def write_occasion(record: Path, occasion: Occasion) -> None:
    """Write the occasion of a record. record: path of the record."""
    write_json(occasion_path(record), occasion.model_dump(exclude_none=True))


def read_occasion(record: Path, digest: str) -> Occasion:
    """Return the occasion of a record; an empty one if none is known. digest: of the record."""
    try:
        occasion = Occasion.model_validate(read_json(occasion_path(record)))
    except (MissingError, ValidationError):
        return Occasion()
    return occasion if occasion.record == digest else Occasion()
