"""Masks of the decoders over scales, their CRF, and how they are scored."""

import dataclasses
import random
from pathlib import Path
from typing import Any

import fill
import numpy as np
import pytest
import torch
from family import adopted
from golden import FORWARD, Golden
from PIL import Image
from scenes import Scene, given, values

from wsss.data.index import Entry
from wsss.data.normalisation import Normalisation
from wsss.inference.multiscale import inference
from wsss.inference.trained import normalisation
from wsss.inference.views import ViewMerging, ViewResizing, decode_augmentation
from wsss.machine.runtime import Runtime
from wsss.refine import crf
from wsss.scores.metrics import confusion, image_f1, mean_iou, pixel_scores
from wsss.settings import AugmentParams, DecodeParams, Params
from wsss.settings.resolve import resolve_settings
from wsss.training.augment import Draws, change, content

CPU = Runtime(torch.device("cpu"), torch.float32)
ON_COCO = {  # what differs on COCO
    "cpdgl": {"square_px": None},
    "toco": {"square_px": True, "square_first": True, "mirror_merge": "max", "merge": "sum"},
}


def inference_params(name: str, base: int, coco: bool) -> DecodeParams:
    """Return a method's published test with squares of `base` pixels."""
    own = resolve_settings(Params(), "shapes", name, "published").decode
    changes = ON_COCO[name] if coco else {}
    found = own.model_copy(update=changes)
    return found.model_copy(update={"square_px": base if found.square_px else None})


def looked(golden: Golden, net: Any, augmentation: Any, folder: Path) -> Any:
    """Return what a network sees of the set's picture over all scales."""
    height, width = golden.case("seg_size")
    path = folder / "picture.png"
    Image.fromarray(fill.image(height, width, golden.case("seg_seed"))).save(path)
    entry = Entry("picture", str(path), None, (), "val", (height, width), "")
    look = lambda images: net(images)  # noqa: E731
    with torch.inference_mode():
        found = inference(look, [[entry]], augmentation, normalisation(net), CPU)
        return next(found)[1][0]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "factor"), [("cpdgl", 2), ("toco", 4)])
def test_masks_over_scales(golden: Golden, tmp_path: Path, name: str, factor: int) -> None:
    expected = golden.arrays(f"seg_{name}.npz")
    base, stride = golden.case("seg_base"), factor * golden.case("seg_stride")
    _, net = adopted(golden, name)
    for dataset in ("voc", "coco"):
        params = inference_params(name, base, dataset == "coco")
        seen = looked(golden, net, decode_augmentation(params), tmp_path)
        found = seen[:, :, ::stride, ::stride]
        golden.close(f"{name} masks, {dataset}", found, expected[f"seg_{dataset}"], **FORWARD)
        golden.same(f"{name} masks, {dataset}, labels", seen.argmax(1),
                    expected[f"argmax_{dataset}"], 0.999)  # fmt: skip
    if "val_argmax" in expected:
        once = inference_params(name, base, False).model_copy(
            update={"scales": (1.0,), "mirror": False}
        )
        seen = looked(golden, net, decode_augmentation(once), tmp_path)
        golden.same(f"{name} masks, validation", seen.argmax(1), expected["val_argmax"], 0.999)
    if "seg_cam" in expected:
        _decoder_as_cam(golden, net, expected["seg_cam"], stride, tmp_path)


def _decoder_as_cam(golden: Golden, net: Any, wanted: Any, stride: int, folder: Path) -> None:
    scales = resolve_settings(Params(), "shapes", "toco", "published").decode.scales
    params = DecodeParams(scales=sorted(scales))
    augmentation = dataclasses.replace(
        decode_augmentation(params),
        resizing=ViewResizing("bilinear", floor=True),
        merging=ViewMerging(mirror_maximum=True),
    )
    seen = looked(golden, net, augmentation, folder).softmax(1)[:, 1:, ::stride, ::stride]
    golden.close("toco decoder as CAM", seen, wanted, **FORWARD)


def test_crfs(golden: Golden, crf_device: str | None) -> None:
    expected, scene = golden.arrays("crf.npz"), Scene(golden, "labels")
    cams = scene.cams[0].double()
    logits = torch.cat([torch.full_like(cams[:1], 3.0), 6 * cams])
    scores = logits.softmax(0).float().numpy()
    blobs = [0, *(int(blob[0]) + 1 for blob in scene.case["images"][0]["blobs"])]
    step = given(golden, "strides", "crf")
    for name, key in (("toco_seg", "seg"), ("toco_cam", "camlabel")):
        found = crf.refine_scores(scene.pictures[0], scores, name, crf_device)
        golden.same(f"crf {key}, labels", found.argmax(0), expected[f"argmax_{key}"], 0.995)
        golden.close(f"crf {key}, Q", found[blobs][:, ::step, ::step], expected[f"q_{key}"],
                     absolute=1e-3, share=0.99)  # fmt: skip


def test_scores(golden: Golden) -> None:
    misc, shape = values(golden, "misc"), (2, *golden.case("eval_shape"))
    case = given(golden, "scores")
    draw = np.random.Generator(np.random.PCG64(case["seed"]))
    truth = draw.choice(case["draws"], shape)
    kept = draw.random(shape) < case["kept"]
    guess = np.where(
        kept, np.where(truth == 255, 0, truth), draw.integers(0, case["guesses"], shape)
    )
    for name in ("scores21", "scores81"):
        wanted, counts = misc[name], confusion(truth, guess, int(name[6:]))
        golden.close(f"{name}, mIoU", mean_iou(counts, "B"), wanted["miou"], rtol=1e-6)
        found = pixel_scores(counts)
        golden.close(f"{name}, pixels", found["pixel_accuracy"], wanted["pAcc"], rtol=1e-6)
        golden.close(f"{name}, classes", found["mean_accuracy"], wanted["mAcc"], rtol=1e-6)
    pairs = (([1, 0, 1, 0, 0], [1, 1, 1, 0, 0]), ([0, 1, 0], [0, 0, 0]))
    for number, (ours, theirs) in enumerate(pairs):
        found = image_f1(np.array([ours], bool), np.array([theirs], bool))
        golden.close(f"f1 {number}", found, misc["f1"][number], rtol=1e-6)


def test_random_crop(golden: Golden) -> None:
    plain = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1.0)
    picture = given(golden, "random_crop", "picture")
    for number, case in enumerate(values(golden, "misc", "random_crop")):
        height, width, side = case["h"], case["w"], case["size"]
        random.seed(case["seed"])
        np.random.seed(case["seed"])  # noqa: NPY002  # as the published code draws
        tall, wide = max(height, side), max(width, side)
        down = np.random.randint(tall - height + 1)  # noqa: NPY002
        right = np.random.randint(wide - width + 1)  # noqa: NPY002
        top, left = random.randint(0, tall - side), random.randint(0, wide - side)  # noqa: S311
        draws = Draws((height, width), top=top - down, left=left - right)
        params = AugmentParams(crop_px=side, image_fill="black", interpolation="bilinear")
        image = change(fill.image(height, width, picture), None, draws, params, plain)[0]
        top, left, bottom, right = content(draws, params)
        golden.same(f"random crop {number}, box", (top, bottom, left, right), case["img_box"])
        golden.same(f"random crop {number}, sum", int(image.sum()), case["crop_sum"])
        golden.same(f"random crop {number}, first pixel", image[:, top, left], case["crop_00"])
