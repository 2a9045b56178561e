"""PSA: ResNet-38, its classifier with its CAMs, and AffinityNet."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden import FORWARD, Golden, unpack
from numpy.typing import NDArray
from pictures import localized, normalised
from torch import Tensor, nn

from wsss import checkpoint
from wsss.affinity import offsets, pair_affinities, windows
from wsss.methods.cam import CAM, CamNet
from wsss.nets.affinitynet import PSA_LAYOUT, AffinityNet
from wsss.schema import CamParams, ClassifierParams

CLASSES = 20
RADIUS = 5
CHANNELS = (64, 128, 256)
Arrays = dict[str, NDArray[Any]]


def classifier(golden: Golden) -> tuple[CAM, CamNet]:
    settings = ClassifierParams(backbone="resnet38", settings={"dropout": 0.5})
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
    golden.close("psa affinities", published_pairs(features), expected["aff"], **FORWARD)
    _dense(golden, features, expected)
    _affinity_loss(golden, net, expected)


def published_pairs(features: Tensor) -> Tensor:
    """Return affinities (B, offsets, sources) of PSA's sources alone: they have all neighbours."""
    height, width = features.shape[2:]
    rows, columns = slice(0, height - RADIUS + 1), slice(RADIUS - 1, width - RADIUS + 1)
    found = []
    for offset, values in pair_affinities(features, RADIUS):
        here = windows(height, width, offset)[0]
        whole = values.new_full((len(values), height, width), torch.nan)
        whole[:, here[0], here[1]] = values
        found.append(whole[:, rows, columns].flatten(1))
    return torch.stack(found, 1)


def _dense(golden: Golden, features: Tensor, expected: Arrays) -> None:
    height, width = features.shape[2:]
    cells = np.arange(height * width).reshape(height, width)
    start = cells[: height - RADIUS + 1, RADIUS - 1 : width - RADIUS + 1].ravel()
    matrix = np.eye(height * width)
    for (dy, dx), values in zip(offsets(RADIUS), published_pairs(features)[0], strict=True):
        matrix[start, start + dy * width + dx] = values
        matrix[start + dy * width + dx, start] = values
    golden.close(
        "psa affinity matrix, sums", matrix.sum(1), expected["aff_dense_rowsum"], **FORWARD
    )
    golden.same("psa affinity matrix, entries", (matrix > 0).sum(), expected["aff_dense_nnz"])


def _affinity_loss(golden: Golden, net: AffinityNet, expected: Arrays) -> None:
    case = golden.case("psa", "affl")
    shape = tuple(expected["lab_shape"])
    kinds = [
        torch.from_numpy(unpack(expected[f"lab_{kind}"], shape).astype(np.float32))
        for kind in ("bg", "fg", "neg")
    ]
    golden.same("psa pair counts", [kind.sum().item() for kind in kinds], expected["lab_counts"])
    alike = published_pairs(net(normalised(net, [case])))[0]
    terms = [
        (kind * -(1 + 1e-5 - alike if unlike else alike + 1e-5).log()).sum() / (kind.sum() + 1e-5)
        for kind, unlike in zip(kinds, (False, False, True), strict=True)
    ]
    total = terms[0] / 4 + terms[1] / 4 + terms[2] / 2
    measured = [term.item() for term in (*terms, total)]
    golden.close("psa affinity loss", measured, expected["loss_bg_fg_neg_total"], rtol=1e-4)
    ours = {}
    for name in expected["grad_names"]:
        renamed = checkpoint.rename({str(name): torch.zeros(1)}, PSA_LAYOUT.table)
        ours[str(name)] = next(iter(renamed))
    norms = gradient_norms(net, total, ours)
    golden.close("psa affinity gradients", norms, expected["grad_l2"], rtol=1e-3)
