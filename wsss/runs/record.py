"""The record beside every artifact: which code made it, from which inputs, with which settings."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from wsss.errors import MissingError, one_line
from wsss.runs.occasion import Occasion, write_occasion
from wsss.runs.origin import Origin, commit, origin
from wsss.runs.run import Run
from wsss.storage.files import read_json, sha256, write_json

PACKAGES = (  # they can change numbers
    *("torch", "timm", "numpy", "pillow", "pydensecrf2"),
    *("scipy", "pycocotools", "safetensors", "ijson"),
)
VALUE_LENGTH = 40  # characters of a wrong value that a message shows


class RecordModel(BaseModel):
    """Base of everything that is read from a record; keys without a field are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Acceptance(RecordModel):
    """A person's word that results of the code `was` are those of the code `now`.

    commit: of the checkout in which it was given, None outside Git.
    """

    was: str
    now: str
    because: str
    date: str
    commit: str | None = None


class Record(RecordModel):
    """What every record says about the stage that wrote it.

    params: the settings that the stage depends on. code: the fingerprint of its code. inputs,
    outputs: SHA-256 of every file, by path. origin: what it ran on. accepted: later code whose
    results would be the same. Times and the commit are in the `Occasion`.
    """

    stage: str
    params: dict[str, object]
    code: str
    seed: int | None = None
    inputs: dict[str, str]
    outputs: dict[str, str]
    versions: dict[str, str]
    device: str
    origin: Origin | None = None
    accepted: tuple[Acceptance, ...] = ()

    def is_of(self, code: str) -> bool:
        """Return whether the stage ran with this code, or with code that was accepted as equal."""
        return code == self.code or any(code == acceptance.now for acceptance in self.accepted)

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits for all fields but the acceptances."""
        content = json.dumps(self.model_dump(exclude={"accepted"}), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


Model = TypeVar("Model", bound=RecordModel)


def read_record(path: Path, model: type[Model], kind: str = "a record") -> Model:
    """Return the content of a JSON file as `model`; kind: what the file should be, for messages.

    Raises:
        MissingError: the file is absent, or lacks a key of the model, or has a wrong value.
    """
    try:
        return model.model_validate(read_json(path))
    except ValidationError as error:
        problem = one_line(_problem(error))
        raise MissingError(f"{path} is not {kind}: {problem}. Delete it and run again.") from None


def _problem(error: ValidationError) -> str:
    """Return the first problem in words, with its key as in `protocol.split`."""
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"it has no {key!r}"
    value = repr(first["input"])
    short = value if len(value) <= VALUE_LENGTH else value[: VALUE_LENGTH - 1] + "…"
    return f"{f'{key!r} is' if key else 'it holds'} {short} ({first['msg']})"


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that can change numbers."""
    numbers = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            numbers[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return numbers


@dataclass
class Recorder:
    """The record of a stage that is running; its clock starts when it is created.

    images_per_s: speed of a training, if the stage is one.
    """

    stage: str
    params: Mapping[str, object]
    code: str
    seed: int | None = None
    device: str = "cpu"
    images_per_s: float | None = None
    started: float = field(default_factory=time.monotonic)

    def write(
        self,
        path: Path,
        inputs: Iterable[Path],
        outputs: Iterable[Path],
        **content: object,
    ) -> None:
        """Write the record of the finished stage and its occasion.

        content: further keys of the record, written last.
        """
        record = Record(
            stage=self.stage,
            params=dict(self.params),
            code=self.code,
            seed=self.seed,
            inputs={item.as_posix(): sha256(item) for item in inputs},
            outputs={item.as_posix(): sha256(item) for item in outputs},
            versions=versions(),
            device=self.device,
            origin=origin(),
        )
        self._write_occasion(path, record.digest)
        write_json(path, {**record.model_dump(exclude={"accepted"}), **content})

    def _write_occasion(self, path: Path, digest: str) -> None:
        wall_s, (number, is_dirty) = round(time.monotonic() - self.started, 2), commit()
        write_occasion(
            path,
            Occasion(
                record=digest,
                wall_s=wall_s,
                images_per_s=self.images_per_s,
                commit=number,
                dirty=is_dirty,
            ),
        )


def recorder(run: Run, stage: str, device: str = "cpu") -> Recorder:
    """Start the record of a stage of a run."""
    return Recorder(stage, run.slice(stage), run.code(stage), run.seed, device)
