"""The optimiser that PSA and IRNet share, and the augmentation of DeepLab-v2."""

from collections.abc import Sequence

import fill
import numpy as np
import pytest
import torch
from golden import Golden
from segmenters import label, settings
from torch import nn

from wsss.data.normalisation import Normalisation
from wsss.nets.resnet101_caffe import CaffeResNet101
from wsss.settings import AugmentParams, TrainParams
from wsss.training.augment import Draws, change, scaled_size
from wsss.training.optimizer import optimizer, rate


class Pair(nn.Module):
    """A weight of the backbone, and one of a new layer."""

    def __init__(self, start: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.backbone, self.head = nn.Module(), nn.Module()
        self.backbone.weight, self.head.bias = (nn.Parameter(torch.tensor(row)) for row in start)


@pytest.mark.parametrize(("name", "decay_bias"), [("irn", True), ("psa", False)])
def test_the_optimiser(golden: Golden, name: str, decay_bias: bool) -> None:
    expected = golden.arrays("optim.npz")
    steps, decay, momentum = expected[f"{name}_max_step_wd_mom"].tolist()
    rates = expected[f"{name}_lr"]
    params = TrainParams(
        optimizer="sgd", lr=rates[0, 0], head_lr_scale=rates[0, 1] / rates[0, 0], momentum=momentum,
        weight_decay=decay, decay_bias=decay_bias, warmup=0.0,
    )  # fmt: skip
    pair = Pair(expected[f"{name}_w0"])
    running = optimizer(pair, params)
    lrs, values = [], []
    for step, gradients in enumerate(expected[f"{name}_grads"]):
        for group in running.param_groups:
            group["lr"] = params.lr * group["factor"] * rate(params, step, int(steps))
        lrs.append([group["lr"] for group in running.param_groups])
        for parameter, gradient in zip(pair.parameters(), gradients, strict=True):
            parameter.grad = torch.from_numpy(gradient)
        running.step()
        values.append(torch.stack([p.detach().clone() for p in pair.parameters()]).numpy())
    golden.close(f"optim {name} rates", lrs, rates, rtol=1e-6)
    golden.close(f"optim {name} weights", np.stack(values), expected[f"{name}_params"], rtol=1e-6)


def drawn_scale(
    size: tuple[int, int], calls: Sequence[Sequence[int]], params: AugmentParams
) -> float:
    """Return the scale at which the offsets of the crop have the published ranges."""
    for scale in params.scales:
        sides = scaled_size(size, scale, params)
        if [max(side - params.crop_px, 0) for side in sides] == [call[1] for call in calls]:
            return scale
    raise AssertionError("no scale fits the published draws")


def test_the_augmentation_of_deeplab_v2(golden: Golden) -> None:
    expected = golden.arrays("deeplabv2.npz")
    height, width, seed = golden.case("deeplabv2", "aug")
    calls = expected["aug_randint_calls"].tolist()  # of the row, then of the column
    crop = {"crop_px": len(expected["aug_label"])}
    params = settings("deeplabv2_resnet101_msc").augment.model_copy(update=crop)
    size = scaled_size((height, width), drawn_scale((height, width), calls, params), params)
    draws = Draws(size, mirror=True, top=calls[0][2], left=calls[1][2])
    caffe = CaffeResNet101
    normalise = Normalisation(caffe.mean, caffe.std, caffe.unit, caffe.bgr)
    image, mask = change(
        fill.image(height, width, seed), label(height, width, seed + 1), draws, params, normalise
    )
    # OpenCV and torch place pixels alike and differ in the last bits of grey levels up to 255.
    wanted = expected["aug_image"].transpose(2, 0, 1)
    golden.close("deeplabv2 augmented image", image, wanted, atol=1e-5)
    assert mask is not None
    golden.same("deeplabv2 augmented labels", mask, expected["aug_label"])
