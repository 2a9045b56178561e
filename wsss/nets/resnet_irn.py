"""The ResNets of IRNet (Ahn et al., CVPR 2019) and CRT: stride 16 without dilation."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from wsss.data.images import IMAGENET
from wsss.nets.backbone import Backbone


class IrnResNet(Backbone):
    """timm's resnet50 or resnet152 whose last stage has stride 1, without dilation.

    Features: the output of the stem's max-pooling (64 channels, stride 4), then of layer1 to layer4.
    """

    mean, std = IMAGENET
    channels, strides = (64, 256, 512, 1024, 2048), (4, 4, 8, 16, 16)

    def __init__(self, name: str = "resnet50") -> None:
        super().__init__()
        import timm  # noqa: PLC0415  # takes four seconds to import

        body: Any = timm.create_model(name, num_classes=0, global_pool="")
        first = body.layer4[0]
        first.conv2.stride = first.downsample[0].stride = (1, 1)
        self.body = body

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return five feature maps, see `channels` and `strides`."""
        body = self.body
        features = [body.maxpool(body.act1(body.bn1(body.conv1(images))))]
        for layer in (body.layer1, body.layer2, body.layer3, body.layer4):
            features.append(layer(features[-1]))
        return features
