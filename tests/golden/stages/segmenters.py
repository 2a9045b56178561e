"""The published segmenters as a run builds, trains and tests them: with their presets."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fill
import numpy as np
import pytest
import torch
from golden import CRF_DEVICES, Golden
from numpy.typing import NDArray
from pictures import CPU, normalised
from PIL import Image
from torch import Tensor

from wsss.data.index import Entry
from wsss.inference.multiscale import inference
from wsss.inference.trained import normalisation
from wsss.inference.views import segmenter_augmentation
from wsss.nets.deeplab import LAYOUTS, DeepLab, build_deeplab
from wsss.settings import SegmenterParams
from wsss.settings.resolve import validate_params
from wsss.stages.masks import decide
from wsss.storage import checkpoint

PRESETS = {  # of each manifest
    "deeplabv2_resnet101_msc": "deeplab_v2_coco",
    "seg_deeplabv1_resnet38": "deeplab_v1_resnet38",
    "seg_deeplabv3plus_resnet101": "deeplab_v3plus_resnet101",
    "resnet38_seg": "resnet38_mctformer",
}
SCALE = {  # what keeps the made-up weights in a useful range
    "deeplabv2_resnet101_msc": {
        r"base\.aspp\.c[0-3]\.weight": 0.02, r".*increase\.bn\.weight": 0.25,
    },
    "seg_deeplabv1_resnet38": {r"conv_fov\.weight": 0.02},
    "seg_deeplabv3plus_resnet101": {r"backbone\.layer.*\.bn3\.weight": 0.25},
    "resnet38_seg": {r"fc8_seg_conv1\.weight": 0.02},
}  # fmt: skip
CLASSES = 20
LOSS, GRADIENT = {"rtol": 1e-4}, {"rtol": 1e-3}
MULTISCALE = {"absolute": 1e-3}  # of probabilities
LABELS = 0.995
Arrays = dict[str, NDArray[Any]]


def settings(manifest: str) -> SegmenterParams:
    return validate_params({"segmenter": {"preset": PRESETS[manifest]}}).segmenter


def load(golden: Golden, manifest: str) -> DeepLab:
    net = build_deeplab(settings(manifest), CLASSES)
    checkpoint.adopt(net, golden.checkpoint(manifest, SCALE[manifest]), LAYOUTS[manifest])
    return net.eval()


def renamed(manifest: str, names: Sequence[str]) -> list[str]:
    """Return our names of published parameters."""
    empty = {name: torch.empty(0) for name in names}
    return list(checkpoint.rename(empty, LAYOUTS[manifest].table))


def label(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    first, second, _ = fill.image(height, width, seed).transpose(2, 0, 1)
    found = np.select([first < 110, first < 145], [0, 3], 15)
    return np.where((second >= 120) & (second < 130), 255, found).astype(np.uint8)


def batch(net: DeepLab, side: int, seed: int) -> dict[str, Tensor]:
    """Return the training crops of a case (side, seed) with their labels."""
    masks = [label(side, side, seed + offset) for offset in (10, 11)]
    images = normalised(net, [(side, side, seed), (side, side, seed + 1)])
    return {"image": images, "mask": torch.from_numpy(np.stack(masks)).long()}


def gradients(manifest: str, net: DeepLab, loss: Tensor, names: Sequence[str]) -> list[float]:
    weights = dict(net.named_parameters())
    found = torch.autograd.grad(loss, [weights[name] for name in renamed(manifest, names)])
    return [gradient.norm().item() for gradient in found]


def looks_of(
    manifest: str, net: DeepLab, case: Sequence[int], folder: Path
) -> tuple[Entry, NDArray[np.float32]]:
    """Return a picture and what the test makes of it: joined looks (classes, H, W)."""
    path = folder / "picture.png"
    Image.fromarray(fill.image(*case)).save(path)
    entry = Entry("picture", str(path), None, (), "val", (case[0], case[1]), "")
    params = settings(manifest)
    with torch.inference_mode():
        (_, (maps,)), *_ = inference(
            net, [[entry]], segmenter_augmentation(params), normalisation(net), CPU
        )
    return entry, maps.numpy()


def compare_decisions(
    golden: Golden, manifest: str, entry: Entry, seen: NDArray[np.float32], net: DeepLab
) -> None:
    """Compare the labels of the test, without and with its CRF."""
    expected = golden.arrays(f"{manifest}.npz")
    test, maps = settings(manifest).test, torch.from_numpy(seen)
    plain = test.model_copy(update={"crf": "none"})
    for key, params in (("ms_pred", plain), ("ms_crf_pred", test)):
        if key in expected:
            for golden.suffix, device in CRF_DEVICES.items():
                found = decide([entry], maps, params, normalisation(net), device)[0]
                golden.same(f"{manifest} {key}", found, expected[key], LABELS)
    golden.suffix = ""


def compare_thinned(
    golden: Golden, manifest: str, stem: str, found: Tensor, **limits: float
) -> None:
    """Compare every n-th channel and place of (..., C, h, w): `logits_s4`, `feature_c16_s2`."""
    expected = golden.arrays(f"{manifest}.npz")
    key = next((key for key in expected if re.fullmatch(rf"{stem}(_c\d+)?_s\d+", key)), None)
    if key is None:
        pytest.skip(f"the set has no {stem} of {manifest}")
    *channels, places = (int(number) for number in re.findall(r"_[cs](\d+)", key))
    thin = found[..., :: channels[0] if channels else 1, ::places, ::places]
    golden.close(f"{manifest} {stem}", thin, expected[key], **limits)
