"""IRN (Ahn, Cho and Kwak, CVPR 2019) on any backbone: class boundaries and displacements.

IRN was published on `resnet50_irn` with frozen weights; settings of the training freeze them here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.machine.runtime import evaluating
from wsss.nets.backbone import Network
from wsss.nets.build import build_backbone
from wsss.settings import IrnParams
from wsss.storage.checkpoint import Layout

MULTIPLE = 16  # pixels; padded sizes are multiples of it, so of every backbone's stride

# IRNet's published file, backbone resnet50_irn. It repeats weights and contains index tables.
IRN_LAYOUT = Layout(
    (
        (r"^resnet50\.", "backbone.body."),
        *((rf"^fc_edge{tap}\.", f"edge.reduce.{tap - 1}.") for tap in range(1, 6)),
        (r"^fc_edge6\.", "edge.mix."),
        *((rf"^fc_dp{tap}\.", f"displacement.reduce.{tap - 1}.") for tap in range(1, 6)),
        (r"^fc_dp6\.", "displacement.coarse."),
        (r"^fc_dp7\.([01])\.", r"displacement.fine.\1."),
        (r"^fc_dp7\.3\.", "displacement.out."),
        (r"^mean_shift\.running_mean$", "displacement.mean"),
    ),
    dropped=(
        r"(?:backbone|stage\d|edge_layers|dp_layers)\..*",
        r"fc_dp7\.4\..*",
        r"path_indices\d+|disp_target",
    ),
)

# AffinityNet of SemFormer and Puzzle-CAM: IRN without displacements (displacement_channels 0).
PUZZLE_LAYOUT = Layout(
    (
        (r"^stage1\.0\.", "backbone.body.conv1."),
        (r"^stage1\.1\.", "backbone.body.bn1."),
        *((rf"^stage{part + 1}\.0\.", f"backbone.body.layer{part}.") for part in range(1, 5)),
        *((rf"^fc_edge{tap}\.", f"edge.reduce.{tap - 1}.") for tap in range(1, 6)),
        (r"^fc_edge6\.", "edge.mix."),
    ),
    dropped=(r"(?:backbone|edge_layers)\..*", r"path_indices_\d+"),
)


def _reducer(channels: int, out: int, up: int = 1, align_corners: bool = False) -> nn.Sequential:
    """Return a 1x1 convolution, GroupNorm (at most 16 groups), enlargement by `up`, and ReLU."""
    groups = math.gcd(out, max(1, min(16, out // 8)))
    enlarge = [nn.Upsample(scale_factor=up, mode="bilinear", align_corners=align_corners)]
    return nn.Sequential(
        nn.Conv2d(channels, out, 1, bias=False),
        nn.GroupNorm(groups, out),
        *(enlarge if up > 1 else []),
        nn.ReLU(),
    )


def _cropped(feature: Tensor, reference: Tensor) -> Tensor:
    return feature[..., : reference.shape[2], : reference.shape[3]]


class EdgeHead(nn.Module):
    """Logits of class boundaries at the stride of the finest feature.

    channels, strides: of the features, finest first. width: channels that each is reduced to.
    """

    def __init__(
        self, channels: tuple[int, ...], strides: tuple[int, ...], width: int, align_corners: bool
    ) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(
            _reducer(count, width, stride // strides[0], align_corners)
            for count, stride in zip(channels, strides, strict=True)
        )
        self.mix = nn.Conv2d(width * len(channels), 1, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return logits (B, 1, h, w); features: (B, C, h, w) each, finest first."""
        reduced = [layer(feature) for layer, feature in zip(self.reduce, features, strict=True)]
        logits: Tensor = self.mix(
            torch.cat([_cropped(feature, reduced[0]) for feature in reduced], 1)
        )
        return logits


class DisplacementHead(nn.Module):
    """Displacements (vertical, horizontal), in cells, from each cell to the centre of its object.

    The coarse features are concatenated at the finest of their strides, then with the fine features.
    width: channels of the widest layers; features with few channels are reduced to fewer. mean: mean
    displacement (2,), subtracted in evaluation mode.
    """

    mean: Tensor

    def __init__(self, channels: tuple[int, ...], strides: tuple[int, ...], width: int) -> None:
        super().__init__()
        # IRNet's code: 64, 128, 256, 256, 256 for features of 64, 256, 512, 1024, 2048 channels.
        widths = [min(width, max(width // 4, count // 2)) for count in channels]
        self._fine = sum(stride == strides[0] for stride in strides)
        coarse_stride = strides[self._fine] if self._fine < len(strides) else strides[0]
        ups = [1 if stride == strides[0] else stride // coarse_stride for stride in strides]
        self.reduce = nn.ModuleList(
            _reducer(count, out, up) for count, out, up in zip(channels, widths, ups, strict=True)
        )
        coarse = sum(widths[self._fine :])
        self.coarse = _reducer(coarse, width, coarse_stride // strides[0]) if coarse else None
        self.fine = _reducer(sum(widths[: self._fine]) + (width if coarse else 0), width)
        self.out = nn.Conv2d(width, 2, 1, bias=False)
        self.register_buffer("mean", torch.zeros(2))

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return displacements (B, 2, h, w); features: (B, C, h, w) each, finest first."""
        reduced = [layer(feature) for layer, feature in zip(self.reduce, features, strict=True)]
        fine, coarse = reduced[: self._fine], reduced[self._fine :]
        if self.coarse is not None:
            same_size = [_cropped(feature, coarse[0]) for feature in coarse]
            fine.append(_cropped(self.coarse(torch.cat(same_size, 1)), fine[0]))
        steps: Tensor = self.out(self.fine(torch.cat(fine, 1)))
        return steps if self.training else steps - self.mean.view(1, 2, 1, 1)


class IRN(Network):
    """A backbone with a head for boundaries and, unless its width is 0, a head for displacements.

    stride: pixels per cell of the backbone's last features; the heads use its finest stride.
    """

    def __init__(self, name: str, stride: int, params: IrnParams) -> None:
        super().__init__()
        self.backbone = build_backbone(name, stride)
        channels, strides = self.backbone.channels, self.backbone.strides
        self.stride = strides[0]
        self.edge = EdgeHead(channels, strides, params.edge_channels, params.align_corners)
        self.displacement = (
            DisplacementHead(channels, strides, params.displacement_channels)
            if params.displacement_channels
            else None
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return boundary logits (B, 1, h, w) and, if it has that head, displacements (B, 2, h, w)."""
        features = self.backbone(images)
        steps = None if self.displacement is None else self.displacement(features)
        return self.edge(features), steps


def edge_displacement(net: IRN, images: Tensor, side: int) -> tuple[Tensor, Tensor | None]:
    """Return boundaries (B, 1, h, w) in [0, 1] and displacements (B, 2, h, w) of images (B, 3, H, W).

    Images are padded with 0 to a square of `side` pixels (IRNet: 512), or of the next multiple of 16
    that holds them; the padding affects the GroupNorm of the heads. Boundaries are averaged with those
    of the mirrored images. The result is cropped to the cells that begin inside the image.
    """
    height, width = images.shape[2:]
    cells = [-(-length // net.stride) for length in (height, width)]
    side = -(-max(side, height, width) // MULTIPLE) * MULTIPLE
    pair = torch.cat([images, images.flip(3)])
    logits, displacement = net(F.pad(pair, (0, side - width, 0, side - height)))
    straight, mirrored = logits[..., : cells[0], : cells[1]].chunk(2)
    edges = torch.sigmoid((straight + mirrored.flip(3)) / 2)
    if displacement is None:
        return edges, None
    return edges, displacement[: len(images), :, : cells[0], : cells[1]]


def measure_mean(net: IRN, batches: Iterable[Tensor]) -> None:
    """Set the mean displacement of the head, measured on batches of images (B, 3, H, W).

    As in IRNet's code, every batch has equal weight, whatever its size, and padding counts as image.
    """
    head = net.displacement
    if head is None:
        return
    head.mean.zero_()
    with evaluating(net):
        means = [head(net.backbone(images)).float().mean((0, 2, 3)) for images in batches]
    if means:
        head.mean.copy_(torch.stack(means).mean(0))
