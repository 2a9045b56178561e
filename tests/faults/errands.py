"""The commands that die in a campaign beside the stages of a run: imports, given and frozen networks, exports.

All of them work in one folder: a drawn dataset, a run by CAM, and runs that import what that run exports.
"""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import yaml
from answer import wsss
from checkout import ROOT
from deaths import Action, deaths, forked
from kills import Outcome
from made_clip import toy_tower

from wsss.data import labelmap
from wsss.settings.base import merge
from wsss.settings.resolve import read_yaml
from wsss.storage.archive import pack_arrays

METHODS = ("cam", "brought", "labelled", "scored", "clip_es", "weclip", "excel")
CAM, BROUGHT, LABELLED, SCORED, CLIP_ES, WECLIP, EXCEL, WORDS = (
    f"shapes/{method}/common/s0" for method in (*METHODS, "words")
)
SETTINGS = {
    "methods": list(METHODS),
    "classifier": {"train": {"save_seconds": 1}},
    "segmenter": {"test": {"crf": "none"}},
    "imports": {
        "brought": {"cam": "exported/cams", "knowledge": "none"},
        "labelled": {"pseudo": "exported/pseudo", "masks": "exported/masks.json"},
        "scored": {"logits": "scores"},
    },
    "overrides": {
        "frozen affinities and regions": {
            "method": "brought",
            "set": {
                "affinity": {"kind": "frozen", "backbone": "toy", "stride": 4},
                "pseudo": {"regions": "regions"},
            },
        }
    },
}

WITH_WORDS = {
    "methods": [*METHODS, "words"],
    "variants": {
        "words": {
            "method": "clip_es",
            "set": {"networks": {"clip": {"hyper_parameters": {"text": "words"}}}},
        }
    },
}


@dataclass(frozen=True)
class Errand:
    """A command, or a part of the preparation. kind: what it is counted as; none, if it never dies."""

    action: Action
    name: str
    kind: str = ""


def command(kind: str, text: str) -> Errand:
    """Return the errand of a command of the program."""
    return Errand(lambda: _called(text.split()), f"wsss {text}", kind)


def _called(words: list[str]) -> int:
    answer = wsss(*words)
    os.write(1, answer.said.encode(errors="replace"))
    return answer.code


def prepared(function: Callable[[], None]) -> Errand:
    """Return the errand of a function that prepares files."""

    def action() -> int:
        function()
        return 0

    return Errand(action, function.__name__)


def write_scores() -> None:
    """Write scores of the validation images as another program would: from the labels of the run."""
    Path("scores").mkdir()
    for path in sorted(Path("exported/masks").glob("*.png")):
        labels = labelmap.decode(path.read_bytes(), str(path))
        scores = np.stack([(labels == label) * 5.0 for label in range(8)]).astype(np.float32)
        np.save(f"scores/{path.stem}.npy", scores)


def write_regions() -> None:
    """Write two regions of each training image: its upper and its lower half."""
    Path("regions").mkdir()
    for path in sorted(Path("exported/pseudo").glob("*.png")):
        labels = labelmap.decode(path.read_bytes(), str(path))
        masks = np.zeros((2, *labels.shape), bool)
        masks[0, : len(labels) // 2], masks[1, len(labels) // 2 :] = True, True
        Path(f"regions/{path.stem}.npz").write_bytes(pack_arrays({"masks": masks}))


def write_photographs() -> None:
    """Write a folder of images with a subfolder."""
    for place, path in enumerate(sorted(Path("exported/tree/JPEGImages").iterdir())[:4]):
        target = Path("photos", "more" if place % 2 else ".", path.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())


STAGES = (
    "data prepare shapes", f"train {CAM} classifier", f"cam {CAM}", f"calibrate {CAM} cam",
    f"evaluate {CAM} seed", f"confident {CAM}", f"affinity {CAM}", f"walk {CAM}",
    f"calibrate {CAM} walk", f"evaluate {CAM} walk", f"pseudo {CAM}", f"evaluate {CAM} pseudo",
    f"segmenter {CAM}", f"masks {CAM}", f"evaluate {CAM} segmentation",
)  # fmt: skip
ERRANDS = [
    *(command("", text) for text in STAGES),
    command("exports", f"export cams {CAM} --style npz --out exported/cams"),
    command("exports", f"export cams {CAM} --style psa --what walk --out exported/walk"),
    command("exports", f"export png {CAM} --what pseudo --out exported/pseudo"),
    command("exports", f"export png {CAM} --what masks --out exported/masks"),
    command("exports", f"export coco {CAM} --what masks --out exported/masks.json"),
    command("exports", f"export voc-tree {CAM} --out exported/tree"),
    command("exports", f"export scores {CAM} --out exported/scores.csv"),
    prepared(write_scores),
    prepared(write_regions),
    prepared(write_photographs),
    command("imports", f"import {BROUGHT}"),
    command("imports", f"import {LABELLED}"),
    command("imports", f"import {SCORED}"),
    command("", f"calibrate {BROUGHT} cam"),
    command("frozen affinities", f"affinity {BROUGHT}"),
    command("frozen affinities", f"walk {BROUGHT}"),
    command("", f"calibrate {BROUGHT} walk"),
    command("regions", f"pseudo {BROUGHT}"),
    command("given networks", f"train {CLIP_ES} clip"),
    command("given networks", f"cam {CLIP_ES}"),
    command("frozen CLIP", f"train {WECLIP} classifier"),
    command("frozen CLIP", f"cam {WECLIP}"),
    command("frozen CLIP", f"decode {WECLIP}"),
    command("frozen CLIP", f"train {EXCEL} classifier"),
    command("predict", f"predict {CAM} photos --recursive --out predicted"),
    command("predict", f"predict {WECLIP} photos --with decoder --out decoded"),
    command("gallery, tables", f"show {CAM} --images 4 --output shown"),
    command("gallery, tables", f"show {CAM} --images 2 --output shown"),
    command("gallery, tables", f"panels {CAM} --images 2 --output shown.png"),
    command("gallery, tables", "table --from work/shapes/cam --output tables"),
    command("versions", "dvc"),
]  # fmt: skip
TEXT = [  # tried where open_clip is installed
    command("text", "text shapes"),
    command("text", f"train {WORDS} clip"),
]
KINDS = tuple(dict.fromkeys(errand.kind for errand in ERRANDS if errand.kind))


def errands(folder: Path, count: int, chance: random.Random) -> Iterator[Outcome]:
    """Run all errands in an empty folder, and yield what became of `count` deaths of each.

    Raises:
        RuntimeError: an errand fails, undisturbed.
    """
    has_tower = find_spec("open_clip") is not None
    settings = merge(read_yaml(ROOT / "params/smoke.yaml"), SETTINGS)
    settings |= WITH_WORDS if has_tower else {}
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    with toy_tower(folder) if has_tower else nullcontext():
        for errand in [*ERRANDS, *(TEXT if has_tower else [])]:
            if errand.kind:
                yield from deaths(errand.action, errand.kind, errand.name, folder, count, chance)
            elif (ending := forked(errand.action, folder)).status:
                raise RuntimeError(f"{errand.name} failed: {ending.said}")
