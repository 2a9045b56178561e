"""DeepLab-v2: network, losses, groups, schedule, CRF."""

import fill
import numpy as np
import pytest
import torch
from golden import CRF_DEVICES, FORWARD, Golden
from numpy.typing import NDArray
from pictures import normalised
from segmenters import CLASSES, GRADIENT, LABELS, LOSS, Arrays, batch, gradients, load, settings

from wsss.inference.trained import normalisation
from wsss.nets.build import published_layout
from wsss.nets.deeplab import DeepLab, build_deeplab, reduce_labels, resize
from wsss.refine.crf import refine_scores
from wsss.stages.masks import crf_picture
from wsss.stages.segmenter import Segmentation
from wsss.storage import checkpoint
from wsss.training.optimizer import freeze, parameter_groups, rate


@pytest.mark.slow
def test_deeplab_v2(golden: Golden) -> None:
    expected, net = golden.arrays("deeplabv2.npz"), load(golden, "deeplabv2_resnet101_msc")
    compare_looks(golden, expected, net)
    compare_training(golden, expected, net)


def compare_looks(golden: Golden, expected: Arrays, net: DeepLab) -> None:
    case = golden.case("deeplabv2", "ev")
    with torch.inference_mode():
        images = normalised(net, [case])
        layers = [net.backbone.layer1(images), *net.backbone(images)]  # type: ignore[operator]
        for number in (1, 3, 5):
            found, wanted = layers[number - 1], expected[f"ev_layer{number}"]
            every = found.shape[1] // wanted.shape[1]
            golden.close(f"deeplabv2 layer{number}", found[:, ::every], wanted, **FORWARD)
        looks = net.outputs(images)
        golden.close("deeplabv2 base", looks["pixels_1"], expected["ev_base"], **FORWARD)
        golden.close("deeplabv2 msc", looks["pixels_max"], expected["ev_msc"], **FORWARD)
        again = net(normalised(net, [golden.case("deeplabv2", "ev2")]))
        golden.close("deeplabv2 msc, other size", again, expected["ev2_msc"], **FORWARD)
    full = resize(looks["pixels_max"], case[:2])
    golden.same("deeplabv2 labels", full.argmax(1)[0], expected["ev_pred"], LABELS)
    compare_crf(golden, expected, full.softmax(1)[0].numpy(), net)


def compare_crf(
    golden: Golden, expected: Arrays, scores: NDArray[np.float32], net: DeepLab
) -> None:
    image = fill.image(*golden.case("deeplabv2", "ev"))
    kinds = {"wrapped": "upstream_wrapped", "bgr": "bgr", "original": "rgb"}
    for kind, key in kinds.items():
        picture = crf_picture(image, kind, normalisation(net))
        if kind == "wrapped":
            golden.same("deeplabv2 wrapped picture", picture, expected["crf_wrapped_image"])
        wanted, top = expected[f"crf_pred_{key}"], expected["crf_Q_bgr_top"]
        for golden.suffix, device in CRF_DEVICES.items():
            posterior = refine_scores(picture, scores, "deeplab_msc", device)
            golden.same(f"deeplabv2 crf {kind}", posterior.argmax(0), wanted, LABELS)
            if kind == "bgr":
                golden.close("deeplabv2 crf Q", posterior.max(0), top, absolute=1e-3, share=0.99)
    golden.suffix = ""


def compare_training(golden: Golden, expected: Arrays, net: DeepLab) -> None:
    manifest = "deeplabv2_resnet101_msc"
    params = settings(manifest)
    freeze(net.train(), params.train)
    crops = batch(net, *golden.case("deeplabv2", "tr"))
    shapes = [list(logits.shape[2:]) for logits in net.outputs(crops["image"]).values()]
    golden.same("deeplabv2 output sizes", shapes, expected["tr_shapes"])
    reduced = reduce_labels(crops["mask"], shapes[0])
    golden.same("deeplabv2 reduced labels", reduced, expected["tr_label_mid"])
    terms = Segmentation(net, params)(crops, 0)
    found = [term.item() for term in terms.values()]
    golden.close("deeplabv2 losses", found, expected["tr_losses_1_05_075_max"], **LOSS)
    total = torch.stack(list(terms.values())).sum() / params.train.accumulate
    golden.close("deeplabv2 total", total, expected["tr_total_div_iter_size2"], **LOSS)
    norms = gradients(manifest, net, total, expected["grad_names"].tolist())
    golden.close("deeplabv2 gradients", norms, expected["grad_l2"], **GRADIENT)
    groups = parameter_groups(net, params.train)
    counts = [[len(g["params"]), sum(p.numel() for p in g["params"])] for g in groups]
    golden.same("deeplabv2 groups", counts, expected["group_counts_1x_10x_20x"])
    assert [group["factor"] for group in groups] == [1, 10, 20]
    assert [group.get("weight_decay") for group in groups] == [None, None, 0]


def test_deeplab_v2s_initial_weights_are_its_backbones(golden: Golden) -> None:
    net = build_deeplab(settings("deeplabv2_resnet101_msc"), CLASSES)
    head = {key: value.clone() for key, value in net.head.state_dict().items()}
    layout = published_layout("resnet101_caffe")
    checkpoint.adopt(net.backbone, golden.checkpoint("deeplabv1_resnet101_coco91"), layout)
    key = "layer3.block1.reduce.conv.weight"
    golden.same(
        "deeplabv1_resnet101_coco91 loads", net.backbone.state_dict()[key],
        fill.tensor(key, net.backbone.state_dict()[key].shape),
    )  # fmt: skip
    assert all(torch.equal(net.head.state_dict()[key], value) for key, value in head.items())


def test_the_rates_of_deeplab_v2_and_v1(golden: Golden) -> None:
    cases = (
        ("deeplabv2.npz", "deeplabv2_resnet101_msc", "sched_iter", "sched_lr_1x", 1),
        ("seg_deeplabv1_resnet38.npz", "seg_deeplabv1_resnet38", "lr_iter", "lr_base", 0),
    )
    for file, manifest, at, key, first in cases:
        expected, train = golden.arrays(file), settings(manifest).train
        found = [
            train.lr * rate(train, int(step) - first, int(train.steps or 0))
            for step in expected[at]
        ]
        golden.close(f"{manifest} rates", found, expected[key], rtol=1e-9)
