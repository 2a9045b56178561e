"""Conformer (Peng et al., ICCV 2021): a CNN and a transformer that exchange features at every stage.

Tokens have no position table; their positions come from the convolutions. Layers have the names of the
published files, except the stages after the first, which are `stages.2` and so on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.data.images import IMAGENET
from wsss.nets.backbone import Backbone
from wsss.nets.vit import EPS, Block, attend_to_similar, initialise
from wsss.storage.checkpoint import Layout

STEM_EPS = 1e-5  # of the stem's BatchNorm and the last LayerNorm; all other norms use EPS


@dataclass(frozen=True)
class ConformerShape:
    """The shape of a Conformer.

    width, heads: of the transformer. stages: number of stages at each level; the strides of the levels
    are 4, 8, 16 and so on. channels: of the CNN at the first level. stem: channels of the stem.
    from_scratch: initial attention favours similar tokens. drop_path: rate in the last transformer
    block; it rises linearly from 0 in the first.
    """

    width: int
    heads: int
    stages: tuple[int, ...]
    channels: int
    stem: int = 64
    from_scratch: bool = False
    drop_path: float = 0.1

    @property
    def stride(self) -> int:
        """Pixels per token."""
        return int(4 * 2 ** (len(self.stages) - 1))


SHAPES = {
    "conformer_toy": ConformerShape(64, 4, (2, 3), 64, stem=32, from_scratch=True),
    "conformer_small_patch16": ConformerShape(384, 6, (4, 4, 4), 256),
}
# Initial weights (Conformer_small_patch16.pth) contain classifiers of ImageNet's classes.
PUBLISHED = Layout(
    ((r"^conv_trans_(\d+)\.", r"stages.\1."),), dropped=(r"(?:conv|trans)_cls_head(?:_200)?\..*",)
)


class ConvBlock(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions beside a shortcut.

    residual: whether the shortcut has a convolution (the name in the published files).
    """

    def __init__(self, channels: int, out: int, stride: int, residual: bool) -> None:
        super().__init__()
        middle = out // 4
        self.conv1 = nn.Conv2d(channels, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle, EPS)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(middle, EPS)
        self.conv3 = nn.Conv2d(middle, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out, EPS)
        if residual:
            self.residual_conv = nn.Conv2d(channels, out, 1, stride, bias=False)
            self.residual_bn = nn.BatchNorm2d(out, EPS)
        self._residual = residual

    def forward(self, x: Tensor, injected: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the output (B, out, h, w) and the result of the 3x3 convolution (B, out / 4, h, w).

        injected: added to the input of the 3x3 convolution.
        """
        reduced = F.relu(self.bn1(self.conv1(x)))
        if injected is not None:
            reduced = reduced + injected
        middle = F.relu(self.bn2(self.conv2(reduced)))
        shortcut = self.residual_bn(self.residual_conv(x)) if self._residual else x
        return F.relu(self.bn3(self.conv3(middle)) + shortcut), middle


class Squeeze(nn.Module):
    """Turns features of the CNN into tokens: means over `cells` x `cells` cells."""

    def __init__(self, channels: int, width: int, cells: int) -> None:
        super().__init__()
        self.cells = cells
        self.conv_project = nn.Conv2d(channels, width, 1)
        self.ln = nn.LayerNorm(width, EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens (B, h * w, D) of features (B, C, h * cells, w * cells)."""
        small = F.avg_pool2d(self.conv_project(x), self.cells, self.cells)
        return F.gelu(self.ln(small.flatten(2).transpose(1, 2)))


class Expand(nn.Module):
    """Turns tokens into features of the CNN: each is repeated over `cells` x `cells` cells."""

    def __init__(self, width: int, channels: int, cells: int) -> None:
        super().__init__()
        self.cells = cells
        self.conv_project = nn.Conv2d(width, channels, 1)
        self.bn = nn.BatchNorm2d(channels, EPS)

    def forward(self, patches: Tensor) -> Tensor:
        """Return features (B, C, h * cells, w * cells) of patch tokens (B, D, h, w)."""
        small = F.relu(self.bn(self.conv_project(patches)))
        return F.interpolate(small, scale_factor=float(self.cells), mode="nearest")


class Stage(nn.Module):
    """A CNN block and a transformer block, which exchange features.

    first: this is the first stage of a level, where the CNN halves its size and changes its channels.
    last: this is the last stage of all.
    """

    def __init__(
        self, shape: ConformerShape, level: int, drop_path: float, *, first: bool, last: bool
    ) -> None:
        super().__init__()
        out = shape.channels * 2**level
        cells = 2 ** (len(shape.stages) - 1 - level)
        self.cnn_block = ConvBlock(out // 2 if first else out, out, 1 + first, residual=first)
        self.squeeze_block = Squeeze(out // 4, shape.width, cells)
        self.trans_block = Block(shape.width, shape.heads, drop_path)
        self.expand_block = Expand(shape.width, out // 4, cells)
        self.fusion_block = ConvBlock(out, out, 1, residual=last)

    def forward(
        self, x: Tensor, tokens: Tensor, attention: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return features, tokens and, if `attention`, the attention's mean over heads (B, N, N)."""
        x, middle = self.cnn_block(x)
        squeezed = self.squeeze_block(middle)
        height, width = (side // self.squeeze_block.cells for side in middle.shape[2:])
        # The published code adds the class token to itself, so it enters the block doubled.
        tokens = tokens + torch.cat([tokens[:, :1], squeezed], 1)
        tokens, weights = self.trans_block(tokens, "mean" if attention else "none")
        patches = tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, height, width)
        return self.fusion_block(x, self.expand_block(patches))[0], tokens, weights


@dataclass
class ConformerFeatures:
    """The output of both branches.

    maps: the CNN's last features (B, C, h, w). tokens: the transformer's tokens, class token first,
    before the last LayerNorm (B, 1 + h * w, D). attention: mean over heads, summed over stages
    (B, N, N); rows are queries.
    """

    maps: Tensor
    tokens: Tensor
    attention: Tensor | None = None


class Conformer(Backbone):
    """The CNN and the transformer of a Conformer, without classification heads."""

    mean, std = IMAGENET

    def __init__(self, shape: ConformerShape) -> None:
        super().__init__()
        self.shape = shape
        levels = [level for level, count in enumerate(shape.stages) for _ in range(count)]
        self.channels = (shape.channels * 2 ** levels[-1],)
        self.strides = (shape.stride,)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.trans_norm = nn.LayerNorm(shape.width, STEM_EPS)
        self.conv1 = nn.Conv2d(3, shape.stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(shape.stem, STEM_EPS)
        self.conv_1 = ConvBlock(shape.stem, shape.channels, 1, residual=True)
        cells = 2 ** levels[-1]
        self.trans_patch_conv = nn.Conv2d(shape.stem, shape.width, cells, cells)
        self.trans_1 = Block(shape.width, shape.heads)
        self.stages = nn.ModuleDict()
        for number, level in enumerate(levels[1:], 1):
            share = shape.drop_path * number / (len(levels) - 1)
            first, last = level != levels[number - 1], number == len(levels) - 1
            self.stages[str(number + 1)] = Stage(shape, level, share, first=first, last=last)
        self._initialise()

    def _initialise(self) -> None:
        initialise(self)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if self.shape.from_scratch:
            attend_to_similar([block.attn for block in self._blocks()])

    def _blocks(self) -> list[Block]:
        return [layer for layer in self.modules() if isinstance(layer, Block)]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the CNN's last features (B, C, h, w) as one feature map."""
        return [self.encode(images).maps]

    def encode(self, images: Tensor, attention: bool = False) -> ConformerFeatures:
        """Return the output of both branches for images (B, 3, H, W) whose sides are whole tokens."""
        stem = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, 2, 1)
        x, _ = self.conv_1(stem)
        patches = self.trans_patch_conv(stem).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], 1)
        tokens, total = self.trans_1(tokens, "mean" if attention else "none")
        for stage in self.stages.values():
            x, tokens, weights = stage(x, tokens, attention)
            if attention:
                total = total + weights
        return ConformerFeatures(x, tokens, total)


def conformer_of(name: str) -> ConformerShape | None:
    """Return the shape of the Conformer called `name`; None if it is another network."""
    return SHAPES.get("conformer_toy" if name == "toy" else name)
