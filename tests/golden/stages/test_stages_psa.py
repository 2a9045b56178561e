"""PSA: ResNet-38, its classifier with its CAMs, and AffinityNet."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import FORWARD, Golden
from numpy.typing import NDArray
from pictures import cams, localized, normalised
from torch import Tensor, nn

from wsss.data.resize import pad_to_multiple
from wsss.methods.cam.method import CAM, CamNet
from wsss.nets.affinitynet import PSA_LAYOUT, AffinityNet
from wsss.refine.affinity import WEIGHTS, affinity_loss, pair_affinities, windows
from wsss.refine.random_walk import cells, random_walk, transition, with_background
from wsss.settings import CamParams, MethodNetworkParams, method_spec
from wsss.storage import checkpoint

CLASSES = 20
RADIUS = 5
MARGIN = 4  # the published code leaves out cells nearer than this to the left, right and lower edge
VARIANTS = {  # of the walk: background, beta, log2 of the steps
    "a16": ("power", 16, 8, 8),
    "a4": ("power", 4, 8, 8),
    "b039": ("constant", 0.39, 8, 6),
    "b046": ("constant", 0.46, 14, 7),
}
CHANNELS = (64, 128, 256)
Arrays = dict[str, NDArray[Any]]


def classifier(golden: Golden) -> tuple[CAM, CamNet]:
    settings = MethodNetworkParams(
        backbone="resnet38",
        hyper_parameters=method_spec.hyper_parameters("cam", "classifier", dropout=0.5),
    )
    method = CAM({"classifier": settings}, CLASSES)
    net = method.build("classifier").eval()
    path = golden.checkpoint("psa_resnet38_cls", {"fc8.weight": 0.01})
    checkpoint.adopt(net, path, method.layout("classifier"))
    return method, net


def affinity_net(golden: Golden) -> AffinityNet:
    net = AffinityNet("resnet38", 8, CHANNELS).eval()
    checkpoint.adopt(net, golden.checkpoint("psa_resnet38_aff", {"f9.weight": 0.004}), PSA_LAYOUT)
    return net


def gradient_norms(net: nn.Module, loss: Tensor, names: Mapping[str, str]) -> list[float]:
    """Return the L2 norms of the gradients of the parameters `names` (theirs: ours)."""
    weights = dict(net.named_parameters())
    gradients = torch.autograd.grad(loss, [weights[name] for name in names.values()])
    return [gradient.norm().item() for gradient in gradients]


@pytest.mark.slow
def test_the_classifier(golden: Golden, tmp_path: Path) -> None:
    expected = golden.arrays("psa_cls.npz")
    method, net = classifier(golden)
    with torch.inference_mode():
        for case in ("cls", "cls_small"):
            images = normalised(net, [golden.case("psa", case)])
            golden.close(
                f"psa {case} scores", method.logits(net, images), expected[f"{case}_logits"],
                **FORWARD,
            )  # fmt: skip
            golden.close(
                f"psa {case} maps", method.cam(net, images), expected[f"{case}_cam"], **FORWARD
            )
        params, case = CamParams(stride=1, scales=(1, 0.5, 1.5, 2)), golden.case("psa", "cls")
        cam = localized(method, net, case, params, (3, 14), tmp_path)
    golden.close("psa multi-scale CAM", cam.cam, expected["ms_norm_cam_3_14"], absolute=1e-3)
    _classifier_loss(golden, method, net, expected)


def _classifier_loss(golden: Golden, method: CAM, net: CamNet, expected: Arrays) -> None:
    height, width, seed = golden.case("psa", "cls")
    labels = torch.zeros(2, CLASSES)
    labels[0, [3, 14]] = labels[1, 7] = 1
    images = normalised(net, [(height, width, seed), (height, width, seed + 50)])
    terms = method.losses("classifier", {"classifier": net}, {"image": images, "label": labels}, 0)
    golden.close("psa classifier loss", terms["labels"].item(), expected["loss"], rtol=1e-4)
    ours = {
        name: f"backbone.{name}".replace("backbone.fc8", "classifier")
        for name in expected["grad_names"]
    }
    norms = gradient_norms(net, terms["labels"], ours)
    golden.close("psa classifier gradients", norms, expected["grad_l2"], rtol=1e-3)


@pytest.mark.slow
def test_affinity_net(golden: Golden) -> None:
    expected = golden.arrays("psa_aff.npz")
    net = affinity_net(golden)
    images = normalised(net, [golden.case("psa", "aff")])
    with torch.inference_mode():
        for name, tap in zip(("conv4", "conv5", "conv6"), net.backbone(images), strict=True):
            wanted = expected[f"aff_{name}"]
            golden.close(
                f"psa {name}", tap[:, :: tap.shape[1] // wanted.shape[1]], wanted, **FORWARD
            )
        features = net(images)
    found = [alike.flatten(1) for _, alike in pair_affinities(features, RADIUS, MARGIN)]
    golden.close("psa affinities", torch.stack(found, 1), expected["aff"], **FORWARD)
    _dense(golden, features, expected)
    _affinity_loss(golden, net, expected)


def _dense(golden: Golden, features: Tensor, expected: Arrays) -> None:
    height, width = features.shape[2:]
    cells_of = np.arange(height * width).reshape(height, width)
    matrix = np.eye(height * width)
    for step, values in pair_affinities(features, RADIUS, MARGIN):
        here, there = (cells_of[end].ravel() for end in windows(height, width, step, MARGIN))
        matrix[here, there] = matrix[there, here] = values.flatten()
    golden.close(
        "psa affinity matrix, sums", matrix.sum(1), expected["aff_dense_rowsum"], **FORWARD
    )
    golden.same("psa affinity matrix, entries", (matrix > 0).sum(), expected["aff_dense_nnz"])


def _affinity_loss(golden: Golden, net: AffinityNet, expected: Arrays) -> None:
    features = net(normalised(net, [golden.case("psa", "affl")]))
    labels = torch.from_numpy(expected["lab_map"])[None]
    terms = affinity_loss(pair_affinities(features, RADIUS, MARGIN), labels, MARGIN)
    total = torch.stack(list(terms.values())).sum()
    measured = [terms[name].item() / WEIGHTS[name] for name in WEIGHTS] + [total.item()]
    golden.close("psa affinity loss", measured, expected["loss_bg_fg_neg_total"], rtol=1e-4)
    ours = {}
    for name in expected["grad_names"]:
        renamed = checkpoint.rename({str(name): torch.zeros(1)}, PSA_LAYOUT.table)
        ours[str(name)] = next(iter(renamed))
    norms = gradient_norms(net, total, ours)
    golden.close("psa affinity gradients", norms, expected["grad_l2"], rtol=1e-3)


@pytest.mark.slow
def test_psa_walk(golden: Golden) -> None:
    expected = golden.arrays("psa_aff.npz")
    net, case = affinity_net(golden), golden.case("psa", "rw")
    height, width = case[:2]
    maps = cams(case)
    with torch.inference_mode():
        features = net(pad_to_multiple(normalised(net, [case]), 8))
    pairs = [(step, a[0].numpy()) for step, a in pair_affinities(features, RADIUS, MARGIN)]
    step = transition(pairs, *features.shape[2:], 8, MARGIN)
    golden.close("psa transition, sums", step.sum(axis=0), expected["rw_T_rowsum"], **FORWARD)
    golden.close("psa transition, diagonal", step.diagonal(), expected["rw_T_diag"], **FORWARD)
    for name, (kind, value, beta, log2_steps) in VARIANTS.items():
        pooled = cells(with_background(maps, kind, value), 8)
        if f"rw_cam_pooled_{name}" in expected:
            wanted = expected[f"rw_cam_pooled_{name}"]
            golden.close(f"psa walk {name}, input", pooled, wanted, absolute=1e-5)
        step = transition(pairs, *features.shape[2:], beta, MARGIN)
        walked = random_walk(pooled, step, 2**log2_steps)
        golden.close(f"psa walk {name}", walked, expected[f"rw_out_{name}"], absolute=2e-4)
        large = F.interpolate(torch.from_numpy(walked)[None], scale_factor=8, mode="bilinear")[0]
        found = np.array([0, 6, 15])[large[:, :height, :width].argmax(0)]
        golden.same(f"psa walk {name}, labels", found, expected[f"rw_pred_{name}"], 0.995)
