"""DeepLab-v2 with the published settings, and the scores of everything that yields a mask."""

from typing import Any

import fill
import numpy as np
import pytest
import torch
from conformers import (
    CLASSES,
    EXACT,
    GRADIENT,
    LOSS,
    PUBLISHED,
    gradient_norms,
    sampled,
    statistics,
    weights,
)
from golden import CRF_DEVICES, Golden
from pictures import normalised
from torch import Tensor, nn

from wsss.inference.trained import normalisation
from wsss.nets.deeplab import LAYOUTS, DeepLab, build_deeplab, reduce_labels, resize
from wsss.refine.crf import refine_scores
from wsss.scores import metrics
from wsss.stages.masks import crf_picture
from wsss.stages.segmenter import Segmentation
from wsss.storage import checkpoint
from wsss.training.optimizer import freeze, rate

MANIFEST = "deeplabv2_resnet101_msc"
CRF = "deeplab_msc"
LABELS, CRF_LABELS = 0.999, 0.995


def load(golden: Golden) -> DeepLab:
    net = build_deeplab(PUBLISHED.segmenter, CLASSES)
    checkpoint.adopt(net, weights(golden, MANIFEST, MANIFEST), LAYOUTS[MANIFEST])
    return net.eval()


def watched(net: DeepLab) -> dict[str, list[Tensor]]:
    """Return what each layer gives, in the order of the looks."""
    seen: dict[str, list[Tensor]] = {}
    parts: dict[str, Any] = {f"layer{n}": getattr(net.backbone, f"layer{n}") for n in range(1, 6)}
    for name, part in {**parts, "aspp": net.head}.items():

        def keep(_: nn.Module, __: Any, found: Tensor, name: str = name) -> None:
            seen.setdefault(name, []).append(found)

        part.register_forward_hook(keep)
    return seen


@pytest.mark.slow
@torch.inference_mode()
def test_deeplab_v2(golden: Golden) -> None:
    expected, net = golden.arrays("deeplab_forward.npz"), load(golden)
    seen = watched(net)
    for case, picture in golden.case("deeplab").items():
        seen.clear()
        logits = net(normalised(net, [picture]))
        golden.close(f"{case} logits", logits, expected[f"{case}_logits"], **EXACT)
        for name, looks in seen.items():
            for number, found in enumerate(looks):
                key = f"{case}_{name}_p{number}"
                golden.same(f"{key} shape", found.shape, expected[f"{key}_shape"])
                wanted = expected[f"{key}_sample"]
                golden.close(f"{key} sample", sampled(found, len(wanted)), wanted, **EXACT)
                golden.close(f"{key} stats", statistics(found), expected[f"{key}_stats"], **EXACT)
        full = resize(logits, picture[:2])
        golden.same(f"{case} labels", full[0].argmax(0), expected[f"{case}_labels"], LABELS)
        for kind, key in (("wrapped", "upstream_image"), ("bgr", "raw_bgr_image")):
            image = crf_picture(fill.image(*picture), kind, normalisation(net))
            wanted = expected[f"{case}_crf_labels_{key}"]
            for golden.suffix, device in CRF_DEVICES.items():
                found = refine_scores(image, full[0].softmax(0).numpy(), CRF, device).argmax(0)
                golden.same(f"{case} crf {kind}", found, wanted, CRF_LABELS)
        golden.suffix = ""


@pytest.mark.slow
def test_the_loss_of_deeplab_v2(golden: Golden) -> None:
    case, params = golden.json("deeplab_losses.json"), PUBLISHED.segmenter
    expected, net = golden.arrays("deeplab_scores.npz"), load(golden)
    freeze(net.train(), params.train)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
    side = case["crop"]
    masks = torch.from_numpy(expected["train_labels"]).long()
    images = normalised(net, [(side, side, seed) for seed in case["image_seeds"]])
    outputs = net.outputs(images)
    shapes = [list(logits.shape) for logits in outputs.values()]
    golden.same("deeplab outputs", shapes, case["logit_shapes"])
    half = list(outputs.values())[1].shape[2:]
    golden.same("deeplab labels, half", reduce_labels(masks, half), expected["resized_labels_half"])
    terms = Segmentation(net, params)({"image": images, "mask": masks}, 0)
    found = [term.item() for term in terms.values()]
    golden.close("deeplab losses", found, case["loss_per_output"], **LOSS)
    loss = torch.stack(list(terms.values())).sum() / params.train.accumulate
    wanted = case["iter_loss_divided_by_iter_size_2"]
    golden.close("deeplab loss", loss.detach(), wanted, **LOSS)
    norms = gradient_norms(net, loss, list(case["grad_l2"]), LAYOUTS[MANIFEST])
    golden.close("deeplab gradients", norms, list(case["grad_l2"].values()), **GRADIENT)


def test_the_rates_of_deeplab_v2(golden: Golden) -> None:
    case = golden.json("deeplab_losses.json")
    train = PUBLISHED.segmenter.train
    wanted = next(value for key, value in case.items() if key.startswith("poly_lr_iter_max_"))
    found = [train.lr * rate(train, step, len(wanted)) for step in range(1, len(wanted))]
    golden.close("deeplab rates", found, wanted[:-1], rtol=1e-9)  # the last one is never used


def test_the_scores_of_deeplab_v2(golden: Golden) -> None:
    expected, case = golden.arrays("deeplab_scores.npz"), golden.json("deeplab_losses.json")
    counts = metrics.confusion(expected["gt"], expected["pred"], CLASSES + 1)
    wanted, scores = case["scores_example"]["result"], metrics.pixel_scores(counts)
    found = [*scores.values(), metrics.mean_iou(counts, "B")]
    keys = ("Pixel Accuracy", "Mean Accuracy", "Frequency Weighted IoU", "Mean IoU")
    golden.close("deeplab scores", found, [wanted[key] for key in keys], rtol=1e-9)
    iou = metrics.class_scores(counts)["iou"]
    golden.close("deeplab IoU", iou, list(wanted["Class IoU"].values()), rtol=1e-9)


def test_scores_of_seeds_and_labels(golden: Golden) -> None:
    expected, case = golden.arrays("evaluation.npz"), golden.json("evaluation.json")
    params = PUBLISHED.evaluation
    levels = {key: float(key.removeprefix("npy_")) for key in case if key.startswith("npy_")}
    curve = metrics.ThresholdCurve(CLASSES + 1, np.array(sorted(levels.values()), np.float32))
    shape = (CLASSES + 1, CLASSES + 1 + (params.unlabelled == "missed"))
    counts = np.zeros(shape, np.int64)
    for name in dict.fromkeys(key.partition("_")[0] for key in expected):
        own = {key: expected[key] for key in expected if key.startswith(f"{name}_cam_")}
        labels = [int(key.rpartition("_")[2]) for key in own]
        truth = expected[f"{name}_gt"]
        curve.add(truth, np.stack(list(own.values())), labels)
        counts += metrics.confusion(truth, expected[f"{name}_png"], CLASSES + 1, params.unlabelled)
    matrices = dict(zip(sorted(levels.values()), curve.matrices(), strict=True))
    found = {key: matrices[level] for key, level in levels.items()} | {"png": counts}
    for key, matrix in found.items():
        iou = np.nan_to_num(metrics.class_scores(matrix)["iou"])
        given = [*iou, metrics.mean_iou(matrix, params.convention)]
        # The published IoU has 1e-10 added to its divisor, which is at least one pixel.
        golden.close(f"scores {key}", np.array(given) * 100, list(case[key].values()), rtol=1e-9)
