"""Pictures, made-up CAMs and tensors of the reference values."""

import functools
import json
from typing import Any

import fill
import numpy as np
import pytest
import torch
from golden import Golden
from torch import Tensor

from wsss.methods.single_stage.online_labels import Thresholds

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def drawn(golden: Golden, name: str, shape: Any, scale: float = 1.0) -> Tensor:
    """Return T(name, shape, scale) of the README."""
    values = fill.tensor(f"{golden.case('key')}.{name}", tuple(shape))
    return torch.from_numpy(values * np.float32(scale))


def normalised(*pictures: Any) -> Tensor:
    """Return pictures (H, W, 3) as the networks see them, a batch."""
    values = [(np.asarray(picture, np.float64) - MEAN) / STD for picture in pictures]
    return torch.from_numpy(np.stack(values).transpose(0, 3, 1, 2).astype(np.float32))


def scene_cam(case: Any, image: Any) -> Tensor:
    """Return the made-up CAM (classes, h, w) of a scene's image."""
    rows, columns = np.mgrid[0 : case["h"], 0 : case["w"]].astype(np.float64)
    cam = np.zeros((case["classes"], case["h"], case["w"]))
    for number, y, x, width, height in image["blobs"]:
        blob = height * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width * width))
        cam[int(number)] = np.maximum(cam[int(number)], blob)
    return torch.from_numpy(cam.astype(np.float32))


def one_hot(case: Any) -> Tensor:
    """Return the labels (B, classes) of a scene's images."""
    found = torch.zeros(len(case["images"]), case["classes"])
    for row, image in zip(found, case["images"], strict=True):
        row[image["labels"]] = 1
    return found


def boxes(published: Any) -> Tensor:
    """Return where images are in their crops (B, 4), of boxes as top, bottom, left, right."""
    return torch.tensor(published)[:, [0, 2, 1, 3]]


class Scene:
    """A batch of pictures with made-up CAMs, labels and boxes."""

    def __init__(self, golden: Golden, name: str) -> None:
        self.case = golden.case(name)
        images = self.case["images"]
        self.pictures = [fill.image(self.case["h"], self.case["w"], i["seed"]) for i in images]
        self.labels = one_hot(self.case)
        self.boxes = boxes([image["box"] for image in images])
        self.thresholds, self.background = thresholds(golden)

    @property
    def cams(self) -> Tensor:
        """The CAMs (B, classes, h, w)."""
        return torch.stack([scene_cam(self.case, image) for image in self.case["images"]])

    @property
    def valid(self) -> Tensor:
        """The CAMs of the present classes."""
        return self.cams * self.labels[:, :, None, None]

    @property
    def unit(self) -> Tensor:
        """The pictures in [0, 1]."""
        stacked = np.stack(self.pictures).transpose(0, 3, 1, 2).astype(np.float32) / 255
        return torch.from_numpy(stacked)


def thresholds(golden: Golden) -> tuple[Thresholds, float]:
    """Return the thresholds of the set, and that of the background."""
    found = golden.case("thr")
    return Thresholds(found["high"], found["low"]), found["bkg"]


def given(golden: Golden, *names: str) -> Any:
    """Return an entry of extra.json: what the README alone says of the cases."""
    found = golden.json("extra.json")
    for name in names:
        found = found[name]
    return found


class Values(dict[str, Any]):
    """Values by name; a test that asks for one that is not there is skipped."""

    def __missing__(self, name: str) -> Any:
        pytest.skip(f"the set has no value {name}")


def values(golden: Golden, *names: str) -> Any:
    """Return an entry of values.json; skips the test if the set has no such value."""
    text = golden.path("values.json").read_text(encoding="utf-8")
    return functools.reduce(
        lambda found, name: found[name], names, json.loads(text, object_hook=Values)
    )


def rows(values: Tensor) -> Tensor:
    """Return rows of unit length."""
    return torch.nn.functional.normalize(values, dim=1)
