"""What other programs bring to a pond: CAMs, labels, scores, regions, one good file for each image."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from pond import PARAMS, SIZE

from wsss.data import labelmap
from wsss.storage.archive import pack_arrays

TRAIN, VAL = ("p0", "p1"), ("p2",)
NAMES = ("frog", "newt")  # the classes of a pond
ALL = (*TRAIN, *VAL)
Content = Any  # what an array, a dictionary of arrays or a text is before it becomes bytes


def maps() -> np.ndarray:
    """Return two maps (2, H, W) in [0, 1]: of frog in the upper half, of newt in the lower one."""
    scores = np.zeros((2, *SIZE), np.float32)
    scores[0, :12], scores[1, 12:] = 0.9, 0.8
    return scores


def labels() -> np.ndarray:
    """Return labels (H, W) with both classes and background."""
    values = np.zeros(SIZE, np.uint8)
    values[:8], values[8:16] = 1, 2
    return values


def npy(content: Content) -> bytes:
    """Return a `.npy` file of an array, or of a dictionary as published code pickles it."""
    buffer = io.BytesIO()
    np.save(buffer, content, allow_pickle=True)
    return buffer.getvalue()


def png(content: np.ndarray) -> bytes:
    """Return a PNG of an array of grey values."""
    buffer = io.BytesIO()
    Image.fromarray(content).save(buffer, "PNG")
    return buffer.getvalue()


def by_number(scores: np.ndarray) -> dict[int, np.ndarray]:
    return dict(enumerate(scores))


def by_keys(scores: np.ndarray) -> dict[str, np.ndarray]:
    return {"keys": np.arange(len(scores)), "high_res": scores}


def coco() -> dict[str, Any]:
    """Return labels of all images in the format of COCO: a polygon of each class in each image."""
    polygons = ([0, 0, 40, 0, 40, 8, 0, 8], [0, 8, 40, 8, 40, 16, 0, 16])
    images = [
        {"id": number, "file_name": f"{name}.png", "height": SIZE[0], "width": SIZE[1]}
        for number, name in enumerate(ALL)
    ]
    objects = [
        {
            "id": 2 * image + kind,
            "image_id": image,
            "category_id": kind + 1,
            "segmentation": [polygon],
            "area": 320,
            "bbox": [0, 8 * kind, 40, 8],
            "iscrowd": 0,
        }
        for image in range(len(ALL))
        for kind, polygon in enumerate(polygons)
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES, 1)]
    return {"images": images, "annotations": objects, "categories": categories}


@dataclass(frozen=True)
class Kind:
    """A kind of file: where it lies, how it is made from its content, and which command reads it.

    key: of `imports`, or "" for regions. path: of the file of an image `{name}`. names: of the images
    that need one.
    """

    name: str
    key: str
    path: str
    content: Callable[[], Content]
    encode: Callable[[Content], bytes]
    names: tuple[str, ...] = TRAIN

    @property
    def victim(self) -> str:
        """The path of the file that cases damage, of the last image."""
        return self.path.format(name=self.names[-1])

    @property
    def source(self) -> str:
        """The path that the settings name."""
        return self.path if "/" not in self.path else self.path.partition("/")[0]

    def put(self, folder: Path) -> Path:
        """Write good files and settings that name them; return the file that cases damage."""
        for name in self.names:
            path = folder / self.path.format(name=name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(self.encode(self.content()))
        content = yaml.safe_load(PARAMS)
        content |= {"methods": ["brought"], "imports": {"brought": {self.key: self.source}}}
        (folder / "params.yaml").write_text(yaml.safe_dump(content))
        return folder / self.victim


def grey(scores: np.ndarray) -> bytes:
    """Return a map (H, W) in [0, 1] as a grey PNG."""
    return png((scores * 255).round().astype(np.uint8))


def logits() -> np.ndarray:
    """Return scores (3, H, W) of background and both classes."""
    return np.eye(3, dtype=np.float32)[labels()].transpose(2, 0, 1) * 5


PSA = Kind("maps of PSA", "cam", "maps/{name}.npy", lambda: by_number(maps()), npy)
IRN = Kind("maps of IRNet", "cam", "maps/{name}.npy", lambda: by_keys(maps()), npy)
NPZ = Kind("maps in npz", "cam", "maps/{name}.npz", lambda: by_keys(maps()), pack_arrays)
LABELS = Kind("pseudo labels", "pseudo", "labels/{name}.png", labels, labelmap.encode)
MASKS = Kind("predictions", "masks", "labels/{name}.png", labels, labelmap.encode, VAL)
COCO = Kind("labels of COCO", "pseudo", "labels.json", coco, lambda c: json.dumps(c).encode())
LOGITS = Kind("scores", "logits", "scores/{name}.npy", logits, npy, VAL)
LOGITS_NPZ = Kind(
    "scores in npz", "logits", "scores/{name}.npz", lambda: {"x": logits()}, pack_arrays, VAL
)
KINDS = (PSA, IRN, NPZ, LABELS, MASKS, COCO, LOGITS, LOGITS_NPZ)
