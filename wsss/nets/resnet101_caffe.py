"""Caffe's variant of ResNet-101, the backbone of DeepLab-v2 (Chen et al., TPAMI 2018).

It differs from torchvision's: the first 1x1 convolution of a block has the stride, pooling rounds up,
the last layers are dilated from their first block on, and images are BGR 0..255 minus a mean. Layers
have the names of the published files of deeplab-pytorch.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from wsss.nets.backbone import Backbone
from wsss.storage.checkpoint import Layout

# layer -> blocks, channels, stride, dilation
LAYERS = {
    "layer2": (3, 256, 1, 1),
    "layer3": (4, 512, 2, 1),
    "layer4": (23, 1024, 1, 2),
    "layer5": (3, 2048, 1, 4),
}
# Initial weights (deeplabv1_resnet101-coco.pth) contain a classifier of COCO's classes, and a trained
# DeepLab-v2 contains its head; both are dropped.
PUBLISHED = Layout(((r"^base\.", ""),), dropped=(r"fc\..*", r"(?:base\.)?aspp\..*"))


class ConvNorm(nn.Module):
    """A convolution without bias and its BatchNorm."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, dilation: int) -> None:
        super().__init__()
        padding = 3 if kernel == 7 else dilation * (kernel // 2)
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, dilation, bias=False)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        """Return normalised features (B, out, h, w)."""
        return self.bn(self.conv(x))  # type: ignore[no-any-return]  # nn.Module call


class Bottleneck(nn.Module):
    """1x1 (with the stride), 3x3 and 1x1 convolutions beside a shortcut."""

    def __init__(self, channels: int, out: int, stride: int, dilation: int, first: bool) -> None:
        super().__init__()
        middle = out // 4
        self.reduce = ConvNorm(channels, middle, 1, stride, 1)
        self.conv3x3 = ConvNorm(middle, middle, 3, 1, dilation)
        self.increase = ConvNorm(middle, out, 1, 1, 1)
        self.shortcut = ConvNorm(channels, out, 1, stride, 1) if first else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, out, h, w) after ReLU."""
        residual = self.increase(F.relu(self.conv3x3(F.relu(self.reduce(x)))))
        return F.relu(residual + self.shortcut(x))


class Stem(nn.Module):
    """A 7x7 convolution and pooling that rounds up."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, 64, 7, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return features at stride 4."""
        return F.max_pool2d(F.relu(self.conv1(images)), 3, 2, 1, ceil_mode=True)


class CaffeResNet101(Backbone):
    """The backbone; its features are those of layer2 to layer5, at strides 4, 8, 8 and 8."""

    # https://github.com/kazuto1011/deeplab-pytorch, configs/voc12.yaml, in the order BGR
    mean, std = (104.008, 116.669, 122.675), (1.0, 1.0, 1.0)
    unit, bgr = 1.0, True
    channels, strides = (256, 512, 1024, 2048), (4, 8, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = Stem()
        channels = 64
        for name, (count, out, stride, dilation) in LAYERS.items():
            layer = nn.Sequential()
            for number in range(count):
                block = Bottleneck(
                    channels, out, 1 if number else stride, dilation, first=not number
                )
                layer.add_module(f"block{number + 1}", block)
                channels = out
            self.add_module(name, layer)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of layer2 to layer5."""
        features = [self.layer1(images)]
        for name in LAYERS:
            features.append(self.get_submodule(name)(features[-1]))
        return features[1:]
