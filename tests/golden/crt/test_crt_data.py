"""What CRT shares with other methods: pictures, crops, the optimiser, scores."""

from typing import Any

import fill
import numpy as np
import torch
from crt_networks import PUBLISHED
from golden import Golden
from torch import nn

from wsss.data.images import IMAGENET
from wsss.data.normalisation import Normalisation
from wsss.inference.views import ViewResizing
from wsss.refine.affinity import reduce_labels
from wsss.scores import metrics
from wsss.training.augment import Draws, change, content, resize_labels, scaled_size
from wsss.training.optimizer import optimizer, rate

PLAIN = Normalisation((0, 0, 0), (1, 1, 1), 1.0)


def test_pictures(golden: Golden) -> None:
    expected, case = golden.arrays("image_ops.npz"), golden.case("image_ops")
    image = fill.image(*case["size"], case["seed"])
    normal = Normalisation(*IMAGENET)(image).transpose(1, 2, 0)
    golden.close("normalised", normal, expected["normalised"], rtol=1e-6, absolute=1e-6)
    for key in (key for key in expected if key.startswith("rescale")):
        found = ViewResizing().view([image], float(key.removeprefix("rescale")), PLAIN)[0]
        golden.same(key, found.permute(1, 2, 0), expected[key])
    labels = expected["label"]
    for key in (key for key in expected if key.startswith("label_")):
        size = expected[key].shape
        golden.same(key, resize_labels(labels, size, "centre"), expected[key])
    quarter = expected["label_quarter"]
    golden.same("reduced labels", reduce_labels(labels, quarter.shape), quarter)


def test_crops(golden: Golden) -> None:
    augment = PUBLISHED.networks["classifier"].augment
    for number, case in enumerate(golden.json("crop_boxes.json")):
        if "rounding_of" in case:
            found = [scaled_size(case["rounding_of"], f, augment) for f in (0.5, 0.25)]
            golden.same(f"rounded {number}", found, [case["half"], case["quarter"]])
            continue
        (height, width), side = case["size"], case["crop"]
        top, bottom, left, right, *image = case["box"]
        params = augment.model_copy(update={"crop_px": side, "jitter": 0.0})
        draws = Draws((height, width), top=image[0] - top, left=image[2] - left)
        golden.same(f"crop {number}", content(draws, params), (top, left, bottom, right))
        picture = fill.image(height, width, number)
        cut, _ = change(picture, None, draws, params, PLAIN)
        inside = picture[image[0] : image[1], image[2] : image[3]]
        golden.same(f"cut {number}", cut[:, top:bottom, left:right], inside.transpose(2, 0, 1))
        assert cut.sum() == inside.sum(), "what is filled up is not 0"


class Pair(nn.Module):
    """A weight of the backbone, and one of a new layer."""

    def __init__(self, start: Any) -> None:
        super().__init__()
        self.backbone, self.head = nn.Module(), nn.Module()
        self.backbone.weight, self.head.weight = (nn.Parameter(torch.tensor(r)) for r in start)


def test_the_optimiser(golden: Golden) -> None:
    expected, case = golden.arrays("poly_sgd.npz"), golden.case("poly_sgd")
    train = PUBLISHED.networks["classifier"].train
    ours = [
        train.lr,
        train.lr * train.head_lr_scale,
        train.weight_decay,
        train.momentum,
        train.power,
    ]
    wanted = [*case["lr"], case["weight_decay"], case["momentum"], case["power"]]
    golden.close("settings of the optimiser", ours, wanted, rtol=1e-12)
    pair = Pair(expected["param0"])
    params = train.model_copy(update={"frozen": (), "head": ()})
    running = optimizer(pair, params)
    for step, gradients in enumerate(expected["grads"]):
        # A step after the last scheduled one keeps the rate that the one before had.
        lrs = []
        for group in running.param_groups:
            group["lr"] = params.lr * group["factor"] * rate(params, step, case["max_step"])
            lrs.append(group["lr"])
        golden.close(f"rates at step {step}", lrs, expected["lr_f64"][step], rtol=1e-9)
        for weight, gradient in zip(pair.parameters(), gradients, strict=True):
            weight.grad = torch.from_numpy(gradient)
        running.step()
        found = torch.stack([weight.detach() for weight in pair.parameters()])
        golden.close(f"weights after step {step}", found, expected["params"][step], rtol=1e-6)


def test_scores(golden: Golden) -> None:
    arrays, expected = golden.arrays("metrics.npz"), golden.json("metrics.json")
    theirs = expected["pseudo_label"]
    classes = len(theirs["iou"])
    counts = metrics.confusion(arrays["gt"], arrays["pred"], classes, "background")
    scores, pixels = metrics.class_scores(counts), metrics.pixel_scores(counts)
    convention = PUBLISHED.evaluation.convention
    iou = [np.nan if value is None else value for value in theirs["iou"]]
    golden.close("IoU", scores["iou"], iou, rtol=1e-12)
    golden.close("mIoU", metrics.mean_iou(counts, convention), theirs["miou"], rtol=1e-12)
    for ours, name in (("false_positive", "fp"), ("false_negative", "fn")):
        golden.close(name, scores[ours], theirs[name], rtol=1e-12, absolute=1e-12)
    deeplab = expected["deeplab_scores"]
    names = ("Pixel Accuracy", "Mean Accuracy", "Frequency Weighted IoU", "Mean IoU")
    found = [*pixels.values(), metrics.mean_iou(counts, "B")]
    golden.close("scores of DeepLab", found, [deeplab[name] for name in names], rtol=1e-9)
