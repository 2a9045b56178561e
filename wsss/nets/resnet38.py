"""ResNet-38d (Wu et al., 2016), the wide network that PSA (Ahn and Kwak, CVPR 2018) builds on.

Its blocks have pre-activation and no biases; the last blocks are dilated instead of strided, so the
stride stays 8. Layers have the names of the published files.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from wsss.data.images import IMAGENET
from wsss.nets.backbone import Backbone
from wsss.storage.checkpoint import Layout

WIDTHS = {"b2": (128, 3), "b3": (256, 3), "b4": (512, 6)}  # stage -> channels, blocks

# Names of the published ImageNet file (MXNet, ademxapp): `res3b1_branch2a_weight` and the like.
MXNET = Layout(
    (
        (r"^(?:arg|aux):", ""),
        (r"^res(\d)a_(branch[0-9a-z]+)_weight$", r"b\1.conv_\2.weight"),
        (r"^res(\d)[ab](\d)_(branch[0-9a-z]+)_weight$", r"b\1_\2.conv_\3.weight"),
        (r"^bn(\d)a_(branch[0-9a-z]+)_", r"b\1.bn_\2."),
        (r"^bn(\d)[ab](\d)_(branch[0-9a-z]+)_", r"b\1_\2.bn_\3."),
        (r"^bn\w*_(beta|gamma|(?:moving_)?(?:mean|var))$", r"bn7.\1"),
        (r"^conv1a_weight$", "conv1a.weight"),
        (r"\.gamma$", ".weight"),
        (r"\.beta$", ".bias"),
        (r"\.(?:moving_)?(mean|var)$", r".running_\1"),
    ),
    dropped=(r"(?:arg:|aux:)?linear1000_.*",),
)


def _relu_norm(norm: nn.Module, x: Tensor) -> Tensor:
    return F.relu(norm(x), inplace=True)


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut (block R); first, dilation: their dilations."""

    def __init__(
        self, channels: int, middle: int, out: int, stride: int, first: int, dilation: int
    ) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(channels)
        self.conv_branch2a = nn.Conv2d(channels, middle, 3, stride, first, first, bias=False)
        self.bn_branch2b1 = nn.BatchNorm2d(middle)
        self.conv_branch2b1 = nn.Conv2d(middle, out, 3, 1, dilation, dilation, bias=False)
        self.conv_branch1 = (
            None
            if channels == out and stride == 1
            else nn.Conv2d(channels, out, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the block's output and its input after BatchNorm and ReLU."""
        active = _relu_norm(self.bn_branch2a, x)
        shortcut = x if self.conv_branch1 is None else self.conv_branch1(active)
        middle = _relu_norm(self.bn_branch2b1, self.conv_branch2a(active))
        return shortcut + self.conv_branch2b1(middle), active


class Bottleneck(nn.Module):
    """1x1, dilated 3x3 and 1x1 convolutions with dropout of whole channels (block B)."""

    def __init__(self, channels: int, out: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(channels)
        self.conv_branch2a = nn.Conv2d(channels, out // 4, 1, bias=False)
        self.bn_branch2b1 = nn.BatchNorm2d(out // 4)
        self.conv_branch2b1 = nn.Conv2d(out // 4, out // 2, 3, 1, dilation, dilation, bias=False)
        self.bn_branch2b2 = nn.BatchNorm2d(out // 2)
        self.conv_branch2b2 = nn.Conv2d(out // 2, out, 1, bias=False)
        self.conv_branch1 = nn.Conv2d(channels, out, 1, bias=False)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the block's output and its input after BatchNorm and ReLU."""
        active = _relu_norm(self.bn_branch2a, x)
        middle = _relu_norm(self.bn_branch2b1, self.conv_branch2a(active))
        middle = self.conv_branch2b1(self.dropout(middle))
        middle = self.dropout(_relu_norm(self.bn_branch2b2, middle))
        return self.conv_branch1(active) + self.conv_branch2b2(middle), active


class ResNet38(Backbone):
    """Features conv4 (512 channels), conv5 (1024) and conv6 (4096), all at stride 8, rounded up."""

    mean, std = IMAGENET
    channels, strides = (512, 1024, 4096), (8, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.conv1a = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.blocks: list[str] = []
        channels = 64
        for stage, (width, count) in WIDTHS.items():
            for number in range(count):
                stride = 1 if number else 2
                self._add(stage, number, Block(channels, width, width, stride, 1, 1))
                channels = width
        for number, (channels, first) in enumerate(((512, 1), (1024, 2), (1024, 2))):
            self._add("b5", number, Block(channels, 512, 1024, 1, first, 2))
        self._add("b6", 0, Bottleneck(1024, 2048, 4, 0.3))
        self._add("b7", 0, Bottleneck(2048, 4096, 4, 0.5))
        self.bn7 = nn.BatchNorm2d(4096)

    def _add(self, stage: str, number: int, block: nn.Module) -> None:
        self.blocks.append(f"{stage}_{number}" if number else stage)
        self.add_module(self.blocks[-1], block)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return conv4 and conv5 (inputs of b5 and b6 after BatchNorm and ReLU) and conv6."""
        x, active = self.conv1a(images), {}
        for name in self.blocks:
            x, active[name] = self.get_submodule(name)(x)
        return [active["b5"], active["b6"], _relu_norm(self.bn7, x)]
