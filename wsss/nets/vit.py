"""Vision transformers (ViT, DeiT, DINOv2) that can return their attention, with any number of class tokens.

Layers have the names of timm and of the published DeiT and DINOv2 files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.data.images import IMAGENET
from wsss.data.resize import resize_by
from wsss.errors import ConfigError
from wsss.nets.backbone import Backbone

EPS = 1e-6  # of a LayerNorm, as in timm (PyTorch's default is 1e-5)
AttentionKind = Literal["none", "mean", "heads"]  # which attention weights to return
Change = Callable[[Tensor], Tensor]  # tokens -> tokens, of equal shape


@dataclass(frozen=True)
class Shape:
    """The shape of a transformer, and the details in which its layers differ.

    patch: pixels per token. grid: side of the position table, in cells. stem: number of 3x3 convolutions
    at each halving before the patches; they let a small network learn from a few hundred images.
    eps: of every LayerNorm. activation: of the MLPs. patch_bias: whether patches have a bias.
    layer_scale: whether each block multiplies the channels of its branches by learned factors.
    factor_offset: of `ViT`.
    """

    patch: int
    width: int
    depth: int
    heads: int
    grid: int
    stem: int = 0
    eps: float = EPS
    activation: Change = F.gelu
    patch_bias: bool = True
    layer_scale: bool = False
    factor_offset: float | None = None


def dinov2(width: int, depth: int, heads: int, grid: int = 37) -> Shape:
    """Return the shape of a DINOv2, whose positions are resized as in its authors' hub."""
    return Shape(14, width, depth, heads, grid, layer_scale=True, factor_offset=0.1)


SHAPES = {  # by backbone; the names are timm's, except the toy's and those of DINOv2's hub
    "vit_toy": Shape(8, 64, 4, 4, 12, stem=2),
    "deit_small_patch16_224": Shape(16, 384, 12, 6, 14),
    "deit_base_patch16_224": Shape(16, 768, 12, 12, 14),
    "deit_base_distilled_patch16_224": Shape(16, 768, 12, 12, 14),
    "vit_base_patch16_224": Shape(16, 768, 12, 12, 14),
    "dinov2_vits14": dinov2(384, 12, 6),
    "dinov2_vitb14": dinov2(768, 12, 12),
    "dinov2_vitl14": dinov2(1024, 24, 16),
}


@dataclass
class Output:
    """The result of the transformer blocks.

    tokens: tokens after the last block, before the final LayerNorm (B, N, D). attention: weights of each
    block (B, N, N) or (B, heads, N, N), rows are queries. block_tokens: tokens (B, N, D) by block, see `run`.
    """

    tokens: Tensor
    attention: list[Tensor] = field(default_factory=list)
    block_tokens: dict[int, Tensor] = field(default_factory=dict)


class Attention(nn.Module):
    """Multi-head self-attention that can return its attention weights."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, keep: AttentionKind = "none") -> tuple[Tensor, Tensor | None]:
        """Return new tokens (B, N, D) and, unless `keep` is none, the attention weights of `Output`."""
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if keep == "none":
            mixed = F.scaled_dot_product_attention(query, key, value)
            return self.proj(mixed.transpose(1, 2).flatten(2)), None
        scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
        weights = scores.softmax(-1)
        mixed = self.proj((weights @ value).transpose(1, 2).flatten(2))
        return mixed, weights if keep == "heads" else weights.mean(1)


class Mlp(nn.Module):
    """Two linear layers with an activation in between: the exact GELU unless another is given."""

    def __init__(self, width: int, ratio: int = 4, activation: Change = F.gelu) -> None:
        super().__init__()
        self.activation = activation
        self.fc1 = nn.Linear(width, ratio * width)
        self.fc2 = nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return new tokens (B, N, D)."""
        return self.fc2(self.activation(self.fc1(x)))  # type: ignore[no-any-return]  # nn.Module call


class LayerScale(nn.Module):
    """Learned factors of the channels of a branch, 1 at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled tokens (B, N, D)."""
        return x * self.gamma


class Block(nn.Module):
    """A pre-norm transformer block.

    drop_path: probability that a training image skips a branch (attention or MLP). layer_scale: of `Shape`.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        drop_path: float = 0.0,
        eps: float = EPS,
        activation: Change = F.gelu,
        layer_scale: bool = False,
    ) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(width, eps)
        self.attn = Attention(width, heads)
        self.ls1 = LayerScale(width) if layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(width, eps)
        self.mlp = Mlp(width, activation=activation)
        self.ls2 = LayerScale(width) if layer_scale else nn.Identity()

    def forward(self, x: Tensor, keep: AttentionKind = "none") -> tuple[Tensor, Tensor | None]:
        """Return the tokens (B, N, D) after the block and its attention weights, see `Attention`."""
        mixed, weights = self.attn(self.norm1(x), keep)
        x = x + self._dropped(self.ls1(mixed))
        return x + self._dropped(self.ls2(self.mlp(self.norm2(x)))), weights

    def _dropped(self, branch: Tensor) -> Tensor:
        if not (self.training and self.drop_path):
            return branch
        keep_rate = 1 - self.drop_path
        mask = branch.new_empty(len(branch), 1, 1).bernoulli_(keep_rate)
        return branch * mask / keep_rate


class PatchEmbed(nn.Module):
    """Computes one token for each whole patch of an image; partial patches are cropped."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.patch = shape.patch
        self.stem, channels, pixels = nn.Sequential(), 3, shape.patch
        while shape.stem and pixels > 2:
            out = max(16, min(shape.width, 2 * channels))
            for number in range(shape.stem):
                stride = 1 if number else 2
                self.stem.append(nn.Conv2d(channels, out, 3, stride, 1, bias=False))
                self.stem.extend([nn.BatchNorm2d(out), nn.ReLU(inplace=True)])
                channels = out
            pixels //= 2
        self.proj = nn.Conv2d(channels, shape.width, pixels, pixels, bias=shape.patch_bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return tokens of images (B, 3, H, W) as a map (B, D, H // patch, W // patch)."""
        height, width = (side - side % self.patch for side in images.shape[2:])
        return self.proj(self.stem(images[:, :, :height, :width]))  # type: ignore[no-any-return]  # nn.Module call


class ViT(Backbone):
    """A transformer over class tokens, an optional distillation token, and patch tokens, in this order.

    class_tokens: their number, which may be 0. drop_path: rate in the last block; it rises linearly
    from 0. factor_offset: None resizes the position table to the size of the grid; a number resizes it
    by the factor (cells + number) / table, as DINO and MCTformer (0.1) do; the default is the shape's.
    Both are bicubic.
    """

    mean, std = IMAGENET

    def __init__(
        self,
        shape: Shape,
        class_tokens: int = 1,
        *,
        distilled: bool = False,
        drop_path: float = 0.0,
        factor_offset: float | None = None,
    ) -> None:
        super().__init__()
        self.shape, self.class_tokens = shape, class_tokens
        self.factor_offset = shape.factor_offset if factor_offset is None else factor_offset
        self.special = class_tokens + distilled  # number of tokens before the patch tokens
        self.channels, self.strides = (shape.width,), (shape.patch,)
        if class_tokens:
            self.cls_token = nn.Parameter(torch.zeros(1, class_tokens, shape.width))
        if distilled:
            self.dist_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, self.special + shape.grid**2, shape.width))
        self.patch_embed = PatchEmbed(shape)
        self.blocks = nn.ModuleList(
            Block(
                *(shape.width, shape.heads, drop_path * number / max(1, shape.depth - 1)),
                *(shape.eps, shape.activation, shape.layer_scale),
            )
            for number in range(shape.depth)
        )
        self.norm = nn.LayerNorm(shape.width, shape.eps)
        initialise(self)
        if shape.stem:
            attend_to_similar([cast("Block", block).attn for block in self.blocks])
            with torch.no_grad():
                self.pos_embed[:, self.special :] = sine_positions(shape.grid, shape.width) / 2

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the patch tokens after the final LayerNorm as one feature map (B, D, h, w)."""
        tokens, grid = self.embed(images)
        return [self.as_map(self.norm(self.run(tokens).tokens), grid)]

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return all tokens with positions added (B, N, D), and the grid (h, w) of the patches."""
        patches = self.patch_embed(images)
        grid = (patches.shape[2], patches.shape[3])
        special = [getattr(self, key) for key in ("cls_token", "dist_token") if hasattr(self, key)]
        first = [token.expand(len(images), -1, -1) for token in special]
        tokens = torch.cat([*first, patches.flatten(2).transpose(1, 2)], 1)
        return tokens + self.positions(grid, images.shape[2] == images.shape[3]), grid

    def positions(self, grid: tuple[int, int], square: bool) -> Tensor:
        """Return the position table (1, special + h * w, D) for a grid (h, w).

        square: whether the image is square. With a `factor_offset`, the published code resizes a table
        that already fits the grid, unless the image is square.
        """
        special, table = self.pos_embed[:, : self.special], self.pos_embed[:, self.special :]
        if self.factor_offset is not None and grid == (self.shape.grid,) * 2 and square:
            return self.pos_embed
        return torch.cat([special, resize_table(table, grid, self.factor_offset)], 1)

    def run(
        self,
        tokens: Tensor,
        attention: AttentionKind = "none",
        keep: Collection[int] = (),
        change: Mapping[int, Change] | None = None,
    ) -> Output:
        """Send tokens (B, N, D) through all blocks, without the final LayerNorm.

        attention: which attention weights to return. keep: numbers of blocks, from 0, whose output is
        returned. change: functions by block number; each changes the block's output.
        """
        output = Output(tokens)
        for number, block in enumerate(self.blocks):
            output.tokens, weights = block(output.tokens, attention)
            if weights is not None:
                output.attention.append(weights)
            if number in keep:
                output.block_tokens[number] = output.tokens
            if change and number in change:
                output.tokens = change[number](output.tokens)
        return output

    def as_map(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the patch tokens among all tokens (B, N, D) as a map (B, D, h, w)."""
        return tokens[:, self.special :].transpose(1, 2).reshape(len(tokens), -1, *grid)

    def adapt(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return initial weights of one class token, adapted to this network's tokens and grid."""
        adapted = dict(state)
        table = adapted.pop("pos_embed")
        special = 1 + ("dist_token" in adapted)
        first = [table[:, :1].expand(-1, self.class_tokens, -1)]
        if self.special > self.class_tokens:
            first.append(table[:, 1:2])
        grid = (self.shape.grid,) * 2
        adapted["pos_embed"] = torch.cat([*first, resize_table(table[:, special:], grid)], 1)
        if self.class_tokens:
            adapted["cls_token"] = adapted["cls_token"].expand(-1, self.class_tokens, -1)
        return adapted


def resize_table(
    table: Tensor, grid: tuple[int, int], factor_offset: float | None = None
) -> Tensor:
    """Return a position table (1, n * n, D) resized to (1, h * w, D), bicubic without antialiasing.

    factor_offset: resize by the factor (cells + factor_offset) / n instead of to the size `grid`.
    """
    side = math.isqrt(table.shape[1])
    if factor_offset is None and grid == (side, side):
        return table
    cells = table.transpose(1, 2).reshape(1, -1, side, side)
    offset = factor_offset or 0.0
    factors = ((grid[0] + offset) / side, (grid[1] + offset) / side)
    return resize_by(cells, factors, grid).flatten(2).transpose(1, 2)


def initialise(module: nn.Module) -> None:
    """Initialise linear layers and tokens as DeiT does: truncated normal, standard deviation 0.02."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for name, parameter in module.named_parameters():
        if name.rpartition(".")[2] in ("cls_token", "dist_token", "pos_embed"):
            nn.init.trunc_normal_(parameter, std=0.02)


@torch.no_grad()
def attend_to_similar(layers: Sequence[Attention], sharpness: float = 1.5) -> None:
    """Initialise attention so that tokens attend to near, similar tokens, as in trained transformers.

    Queries and keys get the same projection (Trockman and Kolter, ICML 2023). With random projections
    and a few hundred images, attention would stay uniform.
    """
    for attention in layers:
        width = attention.proj.in_features
        size = width // attention.heads
        for head in range(attention.heads):
            rows = torch.linalg.qr(torch.randn(width, size)).Q.T * math.sqrt(sharpness)
            for part in (0, width):
                attention.qkv.weight[part + head * size : part + (head + 1) * size] = rows


def sine_positions(grid: int, width: int) -> Tensor:
    """Return positions (1, grid * grid, width): sines and cosines of row and column."""
    lengths = 2.0 ** torch.linspace(0, 3, width // 4)  # wave lengths, in cells / (2 pi)
    angles = torch.arange(grid)[:, None] / lengths
    axis = torch.cat([angles.sin(), angles.cos()], 1)
    rows, columns = axis[:, None].expand(-1, grid, -1), axis[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], 2).reshape(1, grid * grid, width)


def shape_of(name: str) -> Shape | None:
    """Return the shape of the transformer `name`, with or without timm's tag; None if it is a CNN."""
    return SHAPES.get(name.partition(".")[0])


def transformer(name: str) -> Shape:
    """Return the shape of the transformer `name`, for methods that need one; `toy` is the smallest.

    Raises:
        ConfigError: the backbone is not a transformer.
    """
    shape = shape_of("vit_toy" if name == "toy" else name)
    if shape is None:
        raise ConfigError(
            f"classifier.backbone: {name} is no transformer, and this method needs one. Set "
            f"networks.classifier.backbone to {', '.join(SHAPES)}."
        )
    return shape
