"""The pictures of the sets as networks see them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fill
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from wsss.data.index import Entry
from wsss.inference.cam_maps import cam_size, high_size, to_cam
from wsss.inference.multiscale import inference
from wsss.inference.trained import normalisation
from wsss.inference.views import cam_augmentation
from wsss.machine.runtime import Runtime
from wsss.methods.base import Method
from wsss.settings import CamParams
from wsss.storage.cam_archive import Cam

CPU = Runtime(torch.device("cpu"), torch.float32)


def normalised(net: Any, cases: Sequence[Sequence[int]]) -> Tensor:
    """Return the pictures of cases (h, w, seed) as a batch."""
    normalise = normalisation(net)
    return torch.stack([torch.from_numpy(normalise(fill.image(*case))) for case in cases])


def cams(case: Sequence[int], count: int = 2) -> NDArray[np.float32]:
    """Return the smooth class maps that belong to a case (h, w, seed)."""
    height, width, seed = case
    image = fill.image(height, width, seed + 1).astype(np.float32)
    return np.clip((image[..., :count] - 100) / 110, 0, 1).transpose(2, 0, 1)


def label_map(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Return the label picture of a case: classes 0, 3, 15, and 255."""
    image = fill.image(height, width, seed)
    found = np.where(image[..., 0] < 110, 0, np.where(image[..., 0] < 145, 3, 15))
    return np.where((image[..., 1] >= 120) & (image[..., 1] < 130), 255, found).astype(np.uint8)


def localized(
    method: Method,
    net: Any,
    case: Sequence[int],
    params: CamParams,
    labels: Sequence[int],
    folder: Path,
) -> Cam:
    """Return the multi-scale CAM of a picture, made as the stage does."""
    path = folder / "picture.png"
    Image.fromarray(fill.image(*case)).save(path)
    entry = Entry("picture", str(path), None, (), "train", (case[0], case[1]), "")
    sizes = (cam_size(params.stride), high_size)
    found = inference(
        lambda images: method.cam(net, images),
        [[entry]],
        dataclasses.replace(cam_augmentation(params), map_sizes=sizes),
        normalisation(net),
        CPU,
    )
    (_, (maps, high)) = next(found)
    return to_cam(maps[0], labels, entry.size, params.stride, high[0], params.normalise)
