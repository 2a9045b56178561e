"""Results of other programs that take part in the comparison: CAMs, pseudo labels, predictions.

An import stands among the methods; the stages whose files are given are read instead of computed.
Imports neither torch nor timm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from wsss.settings.base import Strict
from wsss.settings.method_spec import MethodSpec

NAME = re.compile(r"[A-Za-z][\w.-]*")
UNKNOWN = "unknown"  # what `knowledge` says unless somebody says it
STAGES = {"cam": "cam", "pseudo": "pseudo", "masks": "masks", "logits": "masks"}  # key -> stage
USES = {  # key -> the other settings that change its result
    "cam": ("classes", "missing", "normalise", "resize"),
    "pseudo": ("classes", "missing"),
    "masks": ("classes",),
    "logits": ("classes", "resize"),
}


class ImportedSpec(MethodSpec):
    """The description of an import, in the form that the workflow and the tables read."""

    stages: tuple[str, ...]

    @property
    def imported(self) -> tuple[str, ...]:
        """The stages whose files are given."""
        return self.stages


class ImportParams(Strict):
    """Files of another program: at least one of cam, pseudo, masks and logits."""

    title: str = Field("", description="name in tables; empty: the name of the import")
    knowledge: str = Field(
        UNKNOWN,
        description="what the files have learned from beyond the image labels and ImageNet-1k, such as "
        "CLIP, for the column extra knowledge; none: nothing",
    )
    cam: str | None = Field(
        None,
        description="folder with the CAMs of the training images: .npy dictionaries of PSA, SEAM, "
        "MCTformer, IRNet or CRT, .npz files, or grey PNGs called IMAGE_CLASS.png",
    )
    pseudo: str | None = Field(
        None,
        description="folder of indexed or grey PNGs, or a JSON file in COCO's format, with the pseudo "
        "labels of the training images",
    )
    masks: str | None = Field(
        None, description="the same with the predicted masks of the validation images"
    )
    logits: str | None = Field(
        None,
        description="folder of .npy or .npz files with scores (1 + classes, h, w) of the validation "
        "images; segmenter.test.crf refines them",
    )
    classes: tuple[str, ...] = Field(
        (),
        description="names of all classes in the order in which the files number them, without "
        "background; empty: the order of the dataset",
    )
    normalise: Literal["none", "max", "range"] = Field(
        "none",
        description="how each class map is scaled to [0, 1]. none: it is; max: divide the positive part "
        "by the largest score; range: subtract the smallest score, divide by the range",
    )
    resize: bool = Field(
        False, description="whether maps of another shape are stretched over their image"
    )
    missing: Literal["error", "blank"] = Field(
        "error",
        description="training images without a file. blank: their maps are 0, their pseudo labels 255",
    )

    @model_validator(mode="after")
    def _has_files(self) -> ImportParams:
        if not self.keys:
            raise ValueError(f"name files with one of {', '.join(STAGES)}")
        if self.masks and self.logits:
            raise ValueError("masks and logits exclude each other")
        return self

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that name files."""
        return tuple(key for key in STAGES if getattr(self, key))

    def key(self, stage: str) -> str:
        """Return the key with the files of a stage."""
        return next(key for key in self.keys if STAGES[key] == stage)

    def source(self, stage: str, seed: int) -> str:
        """Return the path of the files of a stage; `{seed}` in it stands for the seed of the run."""
        path = str(getattr(self, self.key(stage))).replace("{seed}", str(seed))
        return Path(path).expanduser().as_posix()

    def slice(self, stage: str) -> dict[str, Any]:
        """Return the settings that the import of a stage depends on."""
        key = self.key(stage)
        used = self.model_dump(mode="json", include=set(USES[key]))
        return {"source": getattr(self, key), "kind": key, **used}

    def spec(self, name: str) -> ImportedSpec:
        """Return the description of the import `name`."""
        stages = tuple(STAGES[key] for key in self.keys)
        return ImportedSpec(title=self.title or name, module="", stages=stages)


def problems(imports: dict[str, ImportParams], methods: tuple[str, ...]) -> Iterator[str]:
    """Yield what is wrong with the names of imports; methods: the names of all methods."""
    for name in imports:
        if name in methods:
            yield f"imports.{name}: this name is taken by a method"
        if not NAME.fullmatch(name):
            yield f"imports.{name}: use letters, digits, '.', '-' and '_', with a letter first"
