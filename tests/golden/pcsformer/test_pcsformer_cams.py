"""From pictures to seeds as published: crops, sizes, looks, sums, normalised maps, labels."""

import dataclasses
from pathlib import Path
from typing import Any

import fill
import numpy as np
import pytest
import torch
from conformers import CLASSES, EXACT, PUBLISHED, conformer, method, sampled
from golden import Golden
from numpy.typing import NDArray
from pictures import CPU
from PIL import Image
from torch import Tensor

from wsss.data.index import Entry, Index
from wsss.data.normalisation import Normalisation
from wsss.inference.cam_maps import NORMALISERS, merged_cam
from wsss.inference.multiscale import ImageViews, multiscale
from wsss.inference.trained import normalisation
from wsss.inference.views import cam_augmentation
from wsss.methods.pcsformer.method import views
from wsss.nets.backbone import IMAGENET
from wsss.refine import crf
from wsss.scores.metrics import seed
from wsss.stages.cam import cam_forward, pending_cams
from wsss.training.augment import Draws, change, scaled_size
from wsss.training.batches import Squares

CAM = PUBLISHED.cam
NAMES = tuple(str(number) for number in range(CLASSES))
NORMALISE = Normalisation(*IMAGENET)
STORED = {"absolute": 1e-3}  # a small range on a large offset, kept as float16
CRF_LABELS = 0.995
Arrays = dict[str, NDArray[Any]]


def present(expected: Arrays, case: str) -> list[int]:
    """Return the classes of a picture."""
    keys = (key for key in expected if key.startswith(f"{case}_cam_"))
    return sorted(int(key.rpartition("_")[2]) for key in keys)


def entry(golden: Golden, case: str, folder: Path, labels: list[int]) -> Entry:
    """Write a picture; return its entry."""
    size = golden.case("pictures", case)
    path = folder / f"{case}.png"
    Image.fromarray(fill.image(*size)).save(path)
    names = tuple(NAMES[number] for number in labels)
    return Entry(case, str(path), None, names, "train", (size[0], size[1]), "")


def test_crops_and_their_second_view(golden: Golden) -> None:
    expected, case = golden.arrays("preprocess.npz"), golden.case("preprocess")
    picture, pc = fill.image(*case["picture"]), method().params["pc"]
    params = pc.augment.model_copy(update={"jitter": 0.0, "hue": 0.0})
    for name in (key.removesuffix("_target_long") for key in expected if "target_long" in key):
        factor = int(expected[f"{name}_target_long"]) / max(picture.shape[:2])
        size = scaled_size(picture.shape[:2], factor, params)
        draws = expected[f"{name}_draws_range_value"]
        left, top = (
            int(value) if side > params.crop_px else -int(value)
            for side, (_, value) in zip(reversed(size), draws, strict=True)
        )
        crop, _ = change(picture, None, Draws(size, top=top, left=left), params, NORMALISE)
        large, small = views(
            torch.from_numpy(crop)[None], pc.hyper_parameters.second_view_px
        ).values()
        for view, found in (("view1", large), ("view2", small)):
            key = next(key for key in expected if key.startswith(f"{name}_{view}_sub"))
            first, step = case[view]["first"], case[view]["step"]
            kept = found[0, :, first::step, first::step]
            golden.close(f"{name} {view}", kept, expected[key], absolute=1e-5)
        rows, columns = np.abs(crop).sum(0).nonzero()
        box = [rows.min(), rows.max() + 1, columns.min(), columns.max() + 1]
        golden.same(f"{name} box", box, expected[f"{name}_content_box"])
        sums = [crop.sum(dtype=np.float64), np.abs(crop).sum(dtype=np.float64)]
        golden.close(f"{name} sums", sums, expected[f"{name}_view1_sum"], **EXACT)


def test_sizes_of_looks(golden: Golden) -> None:
    expected = golden.arrays("preprocess.npz")
    rows = next(value for key, value in expected.items() if key.startswith("test_sizes"))
    how = cam_augmentation(CAM).resizing
    for row in rows:
        width, height = int(row[0]), int(row[1])
        sizes = [how.base((height, width)), *(how.size((height, width), s) for s in CAM.scales)]
        found = [side for size in sizes for side in reversed(size)]
        golden.same(f"sizes of {width} x {height}", found, row[2:])


def test_looks_at_pictures(golden: Golden, tmp_path: Path) -> None:
    expected = golden.arrays("preprocess.npz")
    for number, case in enumerate(golden.case("pictures")):
        item = entry(golden, case, tmp_path, [])
        (images,) = ImageViews([[item]], NORMALISE, cam_augmentation(CAM))
        both = [view for image in images for view in (image[0], image[0].flip(2))]
        shapes, samples = expected[f"ms{number}_shapes"], expected[f"ms{number}_samples"]
        golden.same(f"{case} looks, shapes", [view.shape for view in both], shapes)
        kept = np.stack([sampled(view, samples.shape[1]) for view in both])
        golden.close(f"{case} looks", kept, samples, **EXACT)


@pytest.mark.slow
@torch.inference_mode()
def test_seeds_of_pc(golden: Golden, tmp_path: Path) -> None:
    expected, net = golden.arrays("pc_cam_ms.npz"), conformer(golden, "pc")
    for case in golden.case("pictures"):
        labels = present(expected, case)
        item, seen = entry(golden, case, tmp_path, labels), []

        def look(images: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(cam_forward(method(), net, CAM)(images))
            return seen[-1]

        index = Index("pictures", NAMES, (item,))
        ((_, wait),) = pending_cams(look, [[item]], index, CAM, normalisation(net), CPU)
        (cam,) = wait()
        for scale, maps in enumerate(seen):
            for mirror, found in enumerate(maps):
                wanted = expected[f"{case}_raw_s{scale}_f{mirror}"]
                golden.close(f"{case} raw {scale} {mirror}", found[labels], wanted, **EXACT)
        for number, found in zip(labels, cam.full(), strict=True):
            wanted = expected[f"{case}_cam_{number}"]
            golden.close(f"pc {case} seed {number}", found, wanted, **STORED)


@pytest.mark.slow
@torch.inference_mode()
def test_seeds_of_sp(golden: Golden, tmp_path: Path) -> None:
    expected, net = golden.arrays("sp_cam_ms.npz"), conformer(golden, "sp")
    sizes = golden.case("pictures")
    case = min(sizes, key=lambda name: sizes[name][0] * sizes[name][1])  # one: they take long
    labels = present(expected, case)
    item = entry(golden, case, tmp_path, labels)
    index, look = Index("pictures", NAMES, (item,)), cam_forward(method(), net, CAM)
    ((_, wait),) = pending_cams(look, [[item]], index, CAM, normalisation(net), CPU)
    (cam,) = wait()
    for number, found in zip(labels, cam.full(), strict=True):
        golden.close(f"sp {case} seed {number}", found, expected[f"{case}_cam_{number}"], **STORED)


def test_labels_for_affinities(golden: Golden, crf_device: str | None) -> None:
    expected, params = golden.arrays("sp_cam_ms.npz"), PUBLISHED.affinity.confident
    for case, picture in golden.case("pictures").items():
        labels = present(expected, case)
        maps = np.stack([expected[f"{case}_cam_{number}"] for number in labels])
        among = crf.counted(params, labels, CLASSES + 1)
        for level in (params.foreground, params.background):
            compact = seed(maps, range(len(labels)), level)
            unary = crf.labels_unary(compact, len(labels) + 1, among)
            (scores,) = crf.infer(fill.image(*picture), [unary], params.crf, crf_device)
            found = np.array([0, *(n + 1 for n in labels)])[scores.argmax(0)]
            wanted = expected[f"{case}_crf_{level:.2f}"]
            golden.same(f"{case} labels at {level}", found, wanted, CRF_LABELS)


@pytest.mark.slow
@torch.inference_mode()
def test_features_of_squares(golden: Golden, tmp_path: Path) -> None:
    expected, net = golden.arrays("sp_cam_ms.npz"), conformer(golden, "pc")
    side = method().params["features"].hyper_parameters.side_px
    assert side == golden.case("feature_px")
    items = [entry(golden, case, tmp_path, []) for case in golden.case("pictures")]
    index = Index("pictures", NAMES, tuple(items))
    squares = Squares(index, items, normalisation(net), 0)
    found = method().compute("features", {"pc": net}, squares.in_order)
    golden.close("features", found["features"], expected["feature_512"], **EXACT)
    assert found["present"].shape == (len(items), CLASSES)


def test_sums_of_given_looks(golden: Golden) -> None:
    expected = golden.arrays("cam_aggregate.npz")
    height, width = (int(side) for side in expected["size"])
    labels = expected["classes"].tolist()
    raw = [torch.from_numpy(expected[f"raw_{number}"]) for number in range(2 * len(CAM.scales))]
    waiting = [torch.stack(raw[number : number + 2]) for number in range(0, len(raw), 2)]
    blank = [torch.zeros(1, 3, 8, 8)] * len(waiting)
    sizes = (lambda size: size,)
    augmentation = dataclasses.replace(cam_augmentation(CAM), map_sizes=sizes)
    (total,) = multiscale(lambda _: waiting.pop(0), blank, augmentation, (height, width), CPU)
    found = NORMALISERS[CAM.normalise](total[0].relu())
    stored = merged_cam(total, range(len(labels)), (height, width), CAM)
    for place, number in enumerate(labels):
        wanted = expected[f"cam_{number}"]
        golden.close(f"sum, class {number}", found[place], wanted, rtol=1e-5, absolute=1e-7)
        golden.close(f"stored, class {number}", stored.full()[place], wanted, rtol=1e-3, atol=1e-4)
