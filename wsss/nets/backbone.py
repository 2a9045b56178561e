"""Backbones: networks that compute features at several strides; a toy network and timm's CNNs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from wsss.data.images import IMAGENET
from wsss.errors import ConfigError


class Backbone(nn.Module):
    """Maps images (B, 3, H, W) to features, finest first.

    channels, strides: one number per feature map; classification heads use the last map. mean, std:
    normalisation of the images. unit: 8-bit values are divided by it before the normalisation. bgr:
    blue is the first channel, in images, mean and std.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    unit: float = 255.0
    bgr: bool = False

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features (B, channels[i], H / strides[i], W / strides[i])."""
        raise NotImplementedError

    def adapt(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return initial weights, reshaped to fit this network."""
        return state


@dataclass(frozen=True)
class InitialPart:
    """Initial weights of a part of a network. weights: their name. digest: SHA-256 of the part's tensors."""

    weights: str
    digest: str


class Network(nn.Module):
    """A backbone with heads; weights outside `backbone` are new and use the heads' learning rate.

    initial: the initial weights of parts, by the attribute that has the part.
    """

    backbone: Backbone
    initial: Mapping[str, InitialPart] = MappingProxyType({})

    def make_room(self, state: Mapping[str, Tensor]) -> None:
        """Give buffers whose length is known to files of weights alone the shapes in `state`."""


class ToyBackbone(Backbone):
    """A CNN of 100,000 weights, trained from scratch in a minute on one core."""

    mean, std = IMAGENET

    def __init__(self, stride: int = 8, width: int = 16) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 4 * width)
        strides = (2, 4, min(stride, 8), stride)
        blocks, channels, current = [], 3, 1
        for out, target in zip(widths, strides, strict=True):
            blocks.append(_block(channels, out, target // current))
            channels, current = out, target
        self.blocks = nn.ModuleList(blocks)
        self.channels, self.strides = widths[1:], strides[1:]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of the last three blocks."""
        features = []
        for block in self.blocks:
            images = block(images)
            features.append(images)
        return features[1:]


def _block(channels: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
        nn.Conv2d(out, out, 3, 1, 1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(inplace=True),
    )


class TimmBackbone(Backbone):
    """A CNN of timm without its pooling and classifier."""

    def __init__(self, name: str, stride: int) -> None:
        super().__init__()
        body = timm_model(name, **({} if stride == 32 else {"output_stride": stride}))
        self.body = body
        normalisation = body.default_cfg
        self.mean, self.std = tuple(normalisation["mean"]), tuple(normalisation["std"])
        try:
            with torch.inference_mode():
                probe = self.eval()(torch.zeros(1, 3, 128, 128))
        except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise unusable(name, error) from None
        self.channels = tuple(feature.shape[1] for feature in probe)
        self.strides = tuple(128 // feature.shape[-1] for feature in probe)
        self.train()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the intermediate features of stride 4 or more, then the last features."""
        last, features = self.body.forward_intermediates(images)
        return [feature for feature in features[:-1] if _stride(images, feature) >= 4] + [last]


def timm_model(name: str, **options: bool | int | str) -> Any:
    """Return a network of timm with random weights, without its pooling and classifier.

    Raises:
        ConfigError: timm cannot build it in this form.
    """
    import timm  # noqa: PLC0415  # takes four seconds to import

    create: Any = timm.create_model  # its own types do not know the options of networks
    try:
        return create(name, **{"num_classes": 0, "global_pool": "", **options})
    except (AssertionError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise unusable(name, error) from None


def unusable(name: str, error: Exception) -> ConfigError:
    """Return the error for a network of timm that has no feature maps for images of any size."""
    reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
    return ConfigError(
        f"{name} cannot be a backbone with this stride ({reason}). Set stride: 32, or take another "
        "network: of timm's, convolutional ones and plain transformers can, such as resnet50 and "
        "vit_small_patch16_224.dino."
    )


def _stride(images: Tensor, feature: Tensor) -> int:
    return round(images.shape[-1] / feature.shape[-1])


def freeze_norm(module: nn.Module, patterns: Sequence[str] = ("*",)) -> None:
    """Freeze the statistics of the BatchNorm layers whose names match one of the shell `patterns`."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and matches(name, patterns):
            layer.eval()


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Return whether a name matches one of the shell `patterns`."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
