"""What follows the CAMs with the published settings: labels, AffinityNet, its training, the walk."""

from pathlib import Path
from typing import Any

import fill
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conformers import (
    CLASSES,
    EXACT,
    GRADIENT,
    LOSS,
    PUBLISHED,
    gradient_norms,
    sampled,
    statistics,
    total,
    weights,
)
from golden import Golden
from numpy.typing import NDArray
from pictures import normalised
from PIL import Image
from torch import Tensor, nn

from wsss.data.index import Entry
from wsss.data.normalisation import Normalisation
from wsss.data.resize import pad_to_multiple
from wsss.nets.affinitynet import PSA_LAYOUT, AffinityNet
from wsss.nets.backbone import IMAGENET
from wsss.refine import crf
from wsss.refine.affinity import (
    WEIGHTS,
    affinity_loss,
    from_thresholds,
    inner_radius,
    offsets,
    pair_affinities,
    reduce_labels,
    windows,
)
from wsss.refine.random_walk import cells, random_walk, transition, with_background
from wsss.stages.affinity import pair_margin
from wsss.stages.pseudo import label
from wsss.storage import archive, checkpoint
from wsss.storage.cam_archive import Cam, pack
from wsss.training.augment import Draws, change
from wsss.training.optimizer import freeze, optimizer, parameter_groups, rate

AFFINITY, WALK = PUBLISHED.affinity, PUBLISHED.walk
STRIDE = AFFINITY.stride
LABELS, CRF_LABELS = 0.999, 0.995
# The reference squares its matrix in float32, ours walks in float64: repeated in float64, the reference
# moves by 8e-6. And affinities that differ by 4e-7 differ by 1e-5 of their value after the power of 14.
DRIFT = {"atol": 5e-5}
Arrays = dict[str, NDArray[Any]]


def affinity_net(golden: Golden) -> AffinityNet:
    net = AffinityNet(AFFINITY.backbone, STRIDE, AFFINITY.channels).eval()
    checkpoint.adopt(net, weights(golden, "resnet38_aff", "resnet38_aff"), PSA_LAYOUT)
    return net


def pairs_of(features: Tensor) -> tuple[list[tuple[tuple[int, int], Tensor]], int]:
    """Return the affinities of neighbours on a grid, and its margin."""
    radius = inner_radius(*features.shape[2:], AFFINITY.radius)
    return list(pair_affinities(features, radius, radius - 1)), radius - 1


@torch.inference_mode()
@pytest.mark.slow
def test_affinity_net(golden: Golden) -> None:
    expected, net = golden.arrays("affinity_forward.npz"), affinity_net(golden)
    for case, picture in golden.case("affinity").items():
        images = normalised(net, [picture])
        for name, tap in zip(("conv4", "conv5", "conv6"), net.backbone(images), strict=True):
            golden.same(f"{case} {name} shape", tap.shape, expected[f"{case}_{name}_shape"])
            kept, wanted = sampled(tap, 64), expected[f"{case}_{name}_sample"]
            golden.close(f"{case} {name} sample", kept, wanted, **EXACT)
            wanted = expected[f"{case}_{name}_stats"]
            golden.close(f"{case} {name} statistics", statistics(tap), wanted, **EXACT)
        pairs, margin = pairs_of(net(images))
        flat = torch.stack([alike[0].flatten() for _, alike in pairs])
        golden.close(f"{case} affinities", flat[None], expected[f"{case}_aff"], **EXACT)
        height, width = (-(-side // STRIDE) for side in images.shape[2:])
        dense = matrix(pairs, height, width, margin)
        golden.close(f"{case} matrix", dense, expected[f"{case}_aff_dense"], **EXACT)


def matrix(pairs: Any, height: int, width: int, margin: int) -> NDArray[np.float64]:
    """Return the affinities of all cells (cells, cells)."""
    numbers, dense = np.arange(height * width).reshape(height, width), np.eye(height * width)
    for step, alike in pairs:
        here, there = (numbers[end].ravel() for end in windows(height, width, step, margin))
        dense[here, there] = dense[there, here] = alike.flatten()
    return dense


def pair_kinds(label: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
    """Return which pairs (offsets, pairs) are background, alike, and unlike."""
    ends = [
        [label[end].ravel() for end in windows(*label.shape, step, pair_margin(AFFINITY))]
        for step in offsets(AFFINITY.radius)
    ]
    here, there = (np.stack(each) for each in zip(*ends, strict=True))
    known, same = (here < 255) & (there < 255), here == there
    return {
        "bg_pos": known & same & (here == 0),
        "fg_pos": known & same & (here > 0),
        "neg": known & ~same,
    }


def test_labels_of_pairs(golden: Golden) -> None:
    expected = golden.arrays("affinity_labels.npz")
    for kind, found in pair_kinds(expected["extract_label"]).items():
        golden.same(f"pairs {kind}", found, expected[f"extract_{kind}"])


def test_crops_for_affinities(golden: Golden) -> None:
    expected, case = golden.arrays("affinity_labels.npz"), golden.case("affinity_labels")
    picture = fill.image(*case["picture"])
    mask = from_thresholds(expected["comp_la"], expected["comp_ha"], range(CLASSES))
    plain = {"crop_px": case["crop"], "jitter": 0.0, "hue": 0.0}
    params = AFFINITY.augment.model_copy(update=plain)
    size = mask.shape
    draws = expected["comp_crop_draws_range_value"]
    left, top = (
        int(value) if side > case["crop"] else -int(value)
        for side, (_, value) in zip(reversed(size), draws, strict=True)
    )
    for name, mirror in (("comp", False), ("comp_flip", True)):
        found = Draws((size[0], size[1]), mirror, top=top, left=left)
        image, cut = change(picture, mask, found, params, Normalisation(*IMAGENET))
        assert cut is not None
        label = reduce_labels(cut, (case["crop"] // STRIDE,) * 2, AFFINITY.label_cell)
        golden.same(f"{name} labels", label, expected[f"{name}_label"])
        if f"{name}_image_sample" in expected:
            wanted = expected[f"{name}_image_sample"]
            golden.close(f"{name} picture", sampled(image, len(wanted)), wanted, **EXACT)
        for kind, pairs in pair_kinds(label).items():
            if f"{name}_{kind}" in expected:
                golden.same(f"{name} pairs {kind}", pairs, expected[f"{name}_{kind}"])


@pytest.mark.slow
def test_the_loss_of_affinities(golden: Golden) -> None:
    case, net = golden.json("affinity_losses.json"), affinity_net(golden)
    freeze(net, AFFINITY.train)
    frozen = {name for name, weight in net.named_parameters() if not weight.requires_grad}
    theirs = checkpoint.rename(
        {name: torch.zeros(1) for name in case["params_without_grad"]}, PSA_LAYOUT.table
    )
    assert set(theirs) <= frozen
    groups = [len(group["params"]) for group in parameter_groups(net, AFFINITY.train)]
    sizes = case["param_group_sizes_after_train_call"]
    golden.same("affinity groups", groups, [size for size in sizes if size])
    side = case["size"]
    features = net(normalised(net, [(side, side, seed) for seed in case["image_seeds"]]))
    labels, margin = torch.tensor(case["label_maps"]), pair_margin(AFFINITY)
    terms = affinity_loss(pair_affinities(features, AFFINITY.radius, margin), labels, margin)
    found = [terms[name].item() / WEIGHTS[name] for name in WEIGHTS]
    wanted = [case["bg_loss"], case["fg_loss"], case["neg_loss"]]
    golden.close("affinity losses", found, wanted, **LOSS)
    loss = total(terms)
    golden.close("affinity loss", loss.detach(), case["loss"], **LOSS)
    norms = gradient_norms(net, loss, list(case["grad_l2"]), PSA_LAYOUT)
    golden.close("affinity gradients", norms, list(case["grad_l2"].values()), **GRADIENT)


def test_the_optimiser_of_affinities(golden: Golden) -> None:
    case = golden.json("affinity_losses.json")["poly_sgd"]
    params = AFFINITY.train.model_copy(update={"frozen": (), "head_lr_scale": 1.0})
    assert (params.momentum, params.weight_decay) == (
        case["sgd_momentum"],
        case["group_weight_decay"],
    )
    net = nn.Module()
    net.scalar = nn.Parameter(torch.tensor(case["start"]))
    rule, after, rates = optimizer(net, params), [], []
    for step, _ in enumerate(case["parameter_after_each_step"]):
        rates.append(params.lr * rate(params, step, case["max_step"]))
        rule.param_groups[0]["lr"] = rates[-1]
        net.scalar.grad = torch.tensor(case["constant_gradient"])
        rule.step()
        after.append(net.scalar.item())
    golden.close("affinity rates", rates, case["lr_used_each_step"], rtol=1e-9)
    golden.close("affinity steps", after, case["parameter_after_each_step"], rtol=1e-6)


def test_labels_before_and_after_the_crf(golden: Golden, crf_device: str | None) -> None:
    expected, picture = golden.arrays("crf_label.npz"), fill.image(*golden.case("crf"))
    params, labels = AFFINITY.confident, expected["labels"]
    unary = crf.labels_unary(labels, CLASSES + 1, crf.counted(params, (), CLASSES + 1))
    golden.close("crf energies", np.unique(unary), np.sort(expected["unary_values"]), **LOSS)
    found = crf.infer(picture, [unary], params.crf, crf_device)[0].argmax(0)
    golden.same("crf labels", found, expected["out"], CRF_LABELS)


@torch.inference_mode()
@pytest.mark.slow
def test_the_walk(golden: Golden) -> None:
    expected, case = golden.arrays("random_walk.npz"), golden.case("walk")
    names = expected["classes"].tolist()
    maps = np.stack([expected[f"cam_{number}"] for number in names])
    net = affinity_net(golden)
    features = net(pad_to_multiple(normalised(net, [case["picture"]]), STRIDE))
    height, width = features.shape[2:]
    given = torch.from_numpy(expected["syn_affinity"])
    background = WALK.background
    assert background != "none"
    pooled = cells(with_background(maps, background, WALK.background_value), STRIDE)
    for kind in ("net", "syn"):
        pairs, margin = pairs_of(features) if kind == "net" else from_matrix(given, height, width)
        near = [(at, alike[0].numpy()) for at, alike in pairs]
        step = transition(near, height, width, WALK.beta, margin)
        walked = random_walk(pooled, step, 2**WALK.log2_steps)
        golden.close(f"walk {kind}", walked, expected[f"{kind}_walk_lowres"], **DRIFT)
        grown = F.interpolate(torch.from_numpy(walked)[None], scale_factor=STRIDE, mode="bilinear")
        if kind == "syn":
            first, every = case["first"], case["step"]
            kept = grown[0, :, first::every, first::every]
            golden.close("walk, large", kept, expected["syn_walk_fullres_sub5"], **DRIFT)
        rows, columns = case["picture"][:2]
        found = np.array([0, *(n + 1 for n in names)])[grown[0, :, :rows, :columns].argmax(0)]
        golden.same(f"walk {kind}, labels", found, expected[f"{kind}_label_argmax"], LABELS)


def from_matrix(
    given: Tensor, height: int, width: int
) -> tuple[list[tuple[tuple[int, int], Tensor]], int]:
    """Return the affinities of neighbours from those of all cells (cells, cells)."""
    numbers, found = np.arange(height * width).reshape(height, width), []
    for step in offsets(height + width):
        here, there = windows(height, width, step, 0)
        if numbers[here].size:
            found.append((step, given[numbers[here], numbers[there]][None]))
    return found, 0


def test_labels_after_the_walk(golden: Golden, tmp_path: Path, crf_device: str | None) -> None:
    expected, (height, width, number) = (
        golden.arrays("random_walk.npz"),
        golden.case("walk", "picture"),
    )
    picture = tmp_path / "picture.png"
    Image.fromarray(fill.image(height, width, number)).save(picture)
    item = Entry("picture", str(picture), None, (), "train", (height, width), "")
    names = expected["classes"].astype(np.int16)
    for kind in ("net", "syn"):
        walked = expected[f"{kind}_walk_lowres"].astype(np.float16)
        cam = Cam(names, walked[1:], (height, width), STRIDE, background=walked[:1])
        with archive.Writer(tmp_path / f"{kind}.zip") as writer:
            writer.add("picture.npz", pack(cam))
        found = label(tmp_path / f"{kind}.zip", PUBLISHED.pseudo, CLASSES + 1, item, crf_device)
        golden.same(f"pseudo labels {kind}", found, expected[f"{kind}_label_crf"], CRF_LABELS)
