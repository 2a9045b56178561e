"""The DeepLab family: a backbone, one of four heads, and their losses.

The heads are DeepLab-v2 (Chen et al., TPAMI 2018); DeepLab-v1 for ResNet-38 and DeepLab-v3+ (Chen et
al., ECCV 2018) as in YudeWang/semantic-segmentation-codebase, here called the code base; and the head
of MCTformer (Xu et al., CVPR 2022) for ResNet-38.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.data.labelmap import IGNORE
from wsss.errors import ConfigError
from wsss.nets.backbone import Backbone, Network
from wsss.nets.build import build_backbone
from wsss.settings import SegmenterParams
from wsss.storage.checkpoint import Layout

MOMENTUM = 3e-4  # of BatchNorm in the heads of the code base

# Layouts of published networks, by file name.
LAYOUTS = {
    "deeplabv2_resnet101_msc": Layout(
        ((r"^base\.aspp\.c(\d)\.", r"head.branches.\1."), (r"^base\.", "backbone."))
    ),
    "seg_deeplabv1_resnet38": Layout(((r"^(conv_fov2?|bn_fov2?|cls_conv)\.", r"head.\1."),)),
    "seg_deeplabv3plus_resnet101": Layout(
        (
            (r"^backbone\.", "backbone.body."),
            (r"^aspp\.branch5_conv\.", "head.aspp.pooled.0."),
            (r"^aspp\.branch5_bn\.", "head.aspp.pooled.1."),
            (r"^aspp\.conv_cat\.", "head.aspp.join."),
            (r"^aspp\.branch1\.", "head.aspp.branches.0."),
            (r"^aspp\.branch2\.", "head.aspp.branches.1."),
            (r"^aspp\.branch3\.", "head.aspp.branches.2."),
            (r"^aspp\.branch4\.", "head.aspp.branches.3."),
            (r"^(shortcut_conv|cat_conv|cls_conv)\.", r"head.\1."),
        )
    ),
    "resnet38_seg": Layout(
        ((r"^fc8_seg_conv(\d)\.", r"head.conv\1."), (r"^(?!head\.)", "backbone."))
    ),
}

# The published networks, by (head, backbone).
PUBLISHED = {
    ("deeplab_v2", "resnet101_caffe"): "deeplabv2_resnet101_msc",
    ("deeplab_v1", "resnet38"): "seg_deeplabv1_resnet38",
    ("deeplab_v3plus", "resnet101s"): "seg_deeplabv3plus_resnet101",
    ("resnet38", "resnet38"): "resnet38_seg",
}


def segmenter_layout(params: SegmenterParams) -> Layout:
    """Return how the published file of a segmenter names its tensors.

    Raises:
        ConfigError: no such file is known for this head on this backbone.
    """
    name = PUBLISHED.get((params.head, params.backbone))
    if name is None:
        known = ", ".join(f"{head} on {backbone}" for head, backbone in PUBLISHED)
        raise ConfigError(
            f"No published weights are known for segmenter.head {params.head} on {params.backbone} "
            f"(they are for {known}): set segmenter.checkpoint to null."
        )
    return LAYOUTS[name]


def resize(maps: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Return maps (B, C, h, w) resized bilinearly to `size` (H, W)."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=align_corners)


class ASPP(nn.Module):
    """DeepLab-v2's head: the sum of parallel 3x3 convolutions with different dilations."""

    full_size = False  # whether logits are enlarged to the size of the image

    def __init__(self, channels: Sequence[int], classes: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(channels[-1], classes, 3, padding=rate, dilation=rate) for rate in rates
        )
        for branch in self.branches:
            nn.init.normal_(branch.weight, std=0.01)  # type: ignore[arg-type]  # a Conv2d's weight
            nn.init.zeros_(branch.bias)  # type: ignore[arg-type]  # a Conv2d's bias

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits (B, classes, h, w) at the size of the last features."""
        return torch.stack([branch(features[-1]) for branch in self.branches]).sum(0)


class LargeFieldOfView(nn.Module):
    """DeepLab-v1's head in the code base: a convolution with a large field of view, then 1x1 ones."""

    full_size = True

    def __init__(self, channels: Sequence[int], classes: int, rates: Sequence[int]) -> None:
        super().__init__()
        rate = rates[0]
        self.conv_fov = nn.Conv2d(channels[-1], 512, 3, 1, rate, rate, bias=False)
        self.bn_fov = nn.BatchNorm2d(512, momentum=MOMENTUM)
        self.conv_fov2 = nn.Conv2d(512, 512, 1, bias=False)
        self.bn_fov2 = nn.BatchNorm2d(512, momentum=MOMENTUM)
        self.dropout = nn.Dropout(0.5)
        self.cls_conv = nn.Conv2d(512, classes, 1)
        _initialise(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits (B, classes, h, w) at the size of the last features."""
        x = F.relu(self.bn_fov(self.conv_fov(features[-1])))
        x = F.relu(self.bn_fov2(self.conv_fov2(x)))
        return self.cls_conv(self.dropout(x))  # type: ignore[no-any-return]  # nn.Module call


class TwoConvolutions(nn.Module):
    """MCTformer's head for ResNet-38: two dilated 3x3 convolutions."""

    full_size = False

    def __init__(self, channels: Sequence[int], classes: int, rates: Sequence[int]) -> None:
        super().__init__()
        rate = rates[0]
        self.conv1 = nn.Conv2d(channels[-1], 512, 3, padding=rate, dilation=rate)
        self.conv2 = nn.Conv2d(512, classes, 3, padding=rate, dilation=rate)
        for layer in (self.conv1, self.conv2):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits (B, classes, h, w) at the size of the last features."""
        return self.conv2(F.relu(self.conv1(features[-1])))  # type: ignore[no-any-return]


def _conv_norm(channels: int, out: int, kernel: int = 1, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(channels, out, kernel, 1, padding, dilation, bias=False),
        nn.BatchNorm2d(out, momentum=MOMENTUM),
        nn.ReLU(),
    )


class Pyramid(nn.Module):
    """DeepLab-v3+'s ASPP: a 1x1 branch, dilated 3x3 branches and global average pooling."""

    def __init__(self, channels: int, rates: Sequence[int]) -> None:
        super().__init__()
        dilated = (_conv_norm(channels, 256, 3, rate) for rate in rates)
        self.branches = nn.ModuleList([_conv_norm(channels, 256), *dilated])
        self.pooled = _conv_norm(channels, 256)
        self.join = _conv_norm(256 * (len(rates) + 2), 256)
        self.dropout = nn.Dropout(0.5)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, 256, h, w) of features (B, C, h, w)."""
        pooled = self.pooled(features.mean((2, 3), keepdim=True))
        branches = [branch(features) for branch in self.branches]
        branches.append(pooled.expand(-1, -1, *features.shape[2:]))
        return self.dropout(self.join(torch.cat(branches, 1)))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """DeepLab-v3+'s head: the ASPP of the last features, concatenated with the first features."""

    full_size = True

    def __init__(self, channels: Sequence[int], classes: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.aspp = Pyramid(channels[-1], rates)
        self.shortcut_conv = _conv_norm(channels[0], 48, 3)  # the paper uses 1x1
        self.cat_conv = nn.Sequential(*_conv_norm(304, 256, 3), *_conv_norm(256, 256, 3))
        self.cls_conv = nn.Conv2d(256, classes, 1)
        _initialise(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits (B, classes, h, w) at the size of the first features."""
        fine = self.shortcut_conv(features[0])
        coarse = resize(self.aspp(features[-1]), fine.shape[2:], align_corners=True)
        return self.cls_conv(self.cat_conv(torch.cat([coarse, fine], 1)))  # type: ignore[no-any-return]


def _initialise(head: nn.Module) -> None:
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


HEADS: dict[str, Callable[[Sequence[int], int, Sequence[int]], nn.Module]] = {
    "deeplab_v2": ASPP,
    "deeplab_v1": LargeFieldOfView,
    "deeplab_v3plus": Decoder,
    "resnet38": TwoConvolutions,
}


class DeepLab(Network):
    """A backbone and a head, applied to the image and, optionally, to smaller scales of it.

    classes: number with background. extra_scales: scales of the further forward passes; the output is
    the element-wise maximum over all scales. recompute_factor: derive the scale again from the rounded
    size, as PyTorch did up to 1.5. align_corners: for heads whose logits are enlarged to image size.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: str,
        classes: int,
        rates: Sequence[int],
        extra_scales: Sequence[float] = (),
        *,
        recompute_factor: bool = False,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = HEADS[head](backbone.channels, classes, rates)
        self.extra_scales = tuple(extra_scales)
        self._recompute, self._align = recompute_factor, align_corners

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes, h, w) at the head's stride or at image size, see `full_size`."""
        return list(self.outputs(images).values())[-1]

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """Return the logits of every scale and their maximum; each of them has a loss in training."""
        full = self._logits(images)
        if not self.extra_scales:
            return {"pixels": full}
        outputs = {"pixels_1": full}
        for scale in self.extra_scales:
            outputs[f"pixels_{scale:g}"] = self._logits(self._resized(images, scale))
        resized = [resize(logits, full.shape[2:]) for logits in outputs.values()]
        return outputs | {"pixels_max": torch.stack(resized).max(0).values}

    def _logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(images))
        return resize(logits, images.shape[2:], self._align) if self.head.full_size else logits

    def _resized(self, images: Tensor, scale: float) -> Tensor:
        return F.interpolate(
            images,
            scale_factor=scale,
            mode="bilinear",
            align_corners=False,
            recompute_scale_factor=self._recompute or None,
        )


def pixel_loss(
    logits: Tensor, masks: Tensor, *, align_corners: bool = False, reduce: bool = False
) -> Tensor:
    """Return the mean cross-entropy over pixels that are not 255; 0 if all of them are.

    logits: (B, classes, h, w), resized to the size of the masks (B, H, W). reduce: instead, reduce the
    masks to the size of the logits.
    """
    if reduce:
        masks = reduce_labels(masks, logits.shape[2:])
    full = resize(logits.float(), masks.shape[1:], align_corners)
    # On GPUs, PyTorch sums pixels in any order; the sum of their own tensor has a fixed order.
    repeatable = torch.are_deterministic_algorithms_enabled()
    reduction = "none" if repeatable else "sum"
    total = F.cross_entropy(full, masks, ignore_index=IGNORE, reduction=reduction).sum()
    return total / (masks != IGNORE).sum().clamp(min=1)


def reduce_labels(masks: Tensor, size: Sequence[int]) -> Tensor:
    """Return masks (B, H, W) reduced to `size` (h, w): labels at centres of cells, as in Pillow."""
    reduced = F.interpolate(masks[:, None].float(), tuple(size), mode="nearest-exact")
    return reduced[:, 0].to(masks.dtype)


def build_deeplab(params: SegmenterParams, classes: int) -> DeepLab:
    """Return a segmenter with random weights. classes: number without background."""
    return DeepLab(
        build_backbone(params.backbone, params.stride),
        params.head,
        classes + 1,
        params.rates,
        params.msc,
        recompute_factor=params.recompute_factor,
        align_corners=params.align_corners,
    )
