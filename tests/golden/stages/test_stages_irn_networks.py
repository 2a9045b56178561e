"""IRNet: the classifier with its CAMs, and the network of boundaries and displacements."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from golden import FORWARD, Golden
from numpy.typing import NDArray
from pictures import localized, normalised

from wsss.inference.cam_maps import high_size
from wsss.methods.cam.method import CAM, CamNet
from wsss.nets.irn import IRN, IRN_LAYOUT, edge_displacement, measure_mean
from wsss.settings import CamParams, IrnParams, MethodNetworkParams, WalkParams, method_spec
from wsss.storage import checkpoint

CLASSES = 20
MEASURED = (150, 140)  # size of the pictures of `mean_shift`
Arrays = dict[str, NDArray[Any]]


def classifier(golden: Golden) -> tuple[CAM, CamNet]:
    settings = MethodNetworkParams(
        backbone="resnet50_irn",
        stride=16,
        hyper_parameters=method_spec.hyper_parameters("cam", "classifier", dropout=0.0),
    )
    method = CAM({"classifier": settings}, CLASSES)
    net = method.build("classifier").eval()
    path = golden.checkpoint("irn_resnet50_cam", {"classifier.weight": 0.002})
    checkpoint.adopt(net, path, method.layout("classifier"))
    return method, net


def irn(golden: Golden) -> IRN:
    net = IRN("resnet50_irn", 16, IrnParams()).eval()
    checkpoint.adopt(net, golden.checkpoint("irn_resnet50_irn"), IRN_LAYOUT)
    assert net.displacement is not None
    net.displacement.mean.zero_()
    return net


@pytest.mark.slow
def test_the_classifier(golden: Golden, tmp_path: Path) -> None:
    expected = golden.arrays("irn_cam.npz")
    method, net = classifier(golden)
    images = normalised(net, [golden.case("irn", "cam")])
    with torch.inference_mode():
        golden.close("irn scores", method.logits(net, images), expected["logits"], **FORWARD)
        maps = method.cam(net, torch.cat([images, images.flip(3)]))
        golden.close("irn maps", maps[0] + maps[1].flip(2), expected["cam"], **FORWARD)
        params, case = CamParams(stride=4, scales=(1, 0.5, 1.5, 2)), golden.case("irn", "ms")
        cam = localized(method, net, case, params, (3, 14), tmp_path)
    sizes = [cam.cam.shape[1:], high_size(cam.size)]
    golden.same("irn multi-scale sizes", sizes, expected["ms_sizes"])
    golden.close("irn multi-scale CAM", cam.cam, expected["ms_strided"], absolute=1e-3)
    golden.close("irn CAM at full size", cam.full(), expected["ms_highres"], absolute=1e-3)
    _classifier_loss(golden, method, net, expected)


def _classifier_loss(golden: Golden, method: CAM, net: CamNet, expected: Arrays) -> None:
    height, width, seed = golden.case("irn", "cam")
    labels = torch.zeros(2, CLASSES)
    labels[0, [3, 14]] = labels[1, 7] = 1
    images = normalised(net, [(height, width, seed), (height, width, seed + 50)])
    terms = method.losses("classifier", {"classifier": net}, {"image": images, "label": labels}, 0)
    golden.close("irn classifier loss", terms["labels"].item(), expected["loss"], rtol=1e-4)
    weights = dict(net.named_parameters())
    names = [str(name).replace("resnet50.", "backbone.body.") for name in expected["grad_names"]]
    gradients = torch.autograd.grad(terms["labels"], [weights[name] for name in names])
    norms = [gradient.norm().item() for gradient in gradients]
    golden.close("irn classifier gradients", norms, expected["grad_l2"], rtol=1e-3)


@pytest.mark.slow
def test_boundaries_and_displacements(golden: Golden) -> None:
    expected = golden.arrays("irn_net.npz")
    net = irn(golden)
    height, width, seed = golden.case("irn", "irn")
    with torch.inference_mode():
        edge, displacement = net(normalised(net, [(height, width, seed)]))
        golden.close("irn boundary logits", edge, expected["edge_logit"], **FORWARD)
        golden.close("irn displacements", displacement, expected["dp"], **FORWARD)
        net.displacement.mean.copy_(torch.tensor([0.5, -0.25]))
        picture = normalised(net, [(height - 5, width - 3, seed + 1)])
        edge, displacement = edge_displacement(net, picture, WalkParams().pad_px)
    golden.close("irn inference, boundaries", edge[0], expected["ED_edge"], **FORWARD)
    golden.close("irn inference, displacements", displacement[0], expected["ED_dp"], **FORWARD)


def test_the_mean_of_displacements(golden: Golden) -> None:
    expected = golden.arrays("irn_net.npz")
    net = irn(golden)
    seed, crop = golden.case("irn", "irn")[2], golden.case("irn", "crop")
    pictures = normalised(net, [(*MEASURED, seed + 10), (*MEASURED, seed + 11)])
    filled = F.pad(pictures, (0, crop, 0, crop))[:, :, :crop, :crop]
    measure_mean(net, filled.split(1))
    golden.close("irn mean displacement", net.displacement.mean, expected["mean_shift"], **FORWARD)
