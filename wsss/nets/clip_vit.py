"""CLIP's image tower (Radford et al., ICML 2021): a vision transformer under a projection to text vectors.

Layers have the names of timm; `image_tower` translates those of OpenAI's and open_clip's files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.nets.vit import Attention, Block, Change, Mlp, Shape, ViT, attend_to_similar
from wsss.storage.checkpoint import rename

# Mean and standard deviation of CLIP's training images (RGB, values in [0, 1]).
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


# Of the initial attention of a tower that nothing trains. With 1.5, that of trained transformers, a token attends
# to itself: the spread maps are peaks, which have no pixels above half of their largest score.
SHARPNESS = 0.8


def quick_gelu(x: Tensor) -> Tensor:
    """Return x * sigmoid(1.702 x), the activation of OpenAI's towers."""
    return x * torch.sigmoid(1.702 * x)


@dataclass(frozen=True)
class ClipShape(Shape):
    """The shape of an image tower.

    output: length of the vectors that images and texts share. averages: whether initial attention averages
    similar tokens and MLPs compute random features, for a tower that nothing trains.
    """

    eps: float = 1e-5
    activation: Change = quick_gelu
    patch_bias: bool = False
    output: int = 512
    averages: bool = False


SHAPES = {  # by backbone; the name, except the toy's, is timm's
    "clip_toy": ClipShape(8, 64, 4, 4, 12, output=64, averages=True),
    "vit_base_patch16_clip_224": ClipShape(16, 768, 12, 12, 14),
    "vit_large_patch14_clip_224": ClipShape(14, 1024, 24, 16, 16, output=768),
}

BLOCK = r"^visual\.transformer\.resblocks\.(\d+)\."
TABLE = (  # OpenAI's names, which open_clip keeps -> timm's
    (r"^visual\.class_embedding$", "cls_token"),
    (r"^visual\.positional_embedding$", "pos_embed"),
    (r"^visual\.conv1\.", "patch_embed.proj."),
    (r"^visual\.ln_pre\.", "norm_pre."),
    (r"^visual\.ln_post\.", "norm."),
    (r"^visual\.proj$", "head.weight"),
    (BLOCK + r"ln_(\d)\.", r"blocks.\1.norm\2."),
    (BLOCK + r"attn\.in_proj_", r"blocks.\1.attn.qkv."),
    (BLOCK + r"attn\.out_proj\.", r"blocks.\1.attn.proj."),
    (BLOCK + r"mlp\.c_fc\.", r"blocks.\1.mlp.fc1."),
    (BLOCK + r"mlp\.c_proj\.", r"blocks.\1.mlp.fc2."),
)
# The text tower, which lies in the same file, and numbers that are no weights.
TEXT_TOWER = re.compile(
    r"(token_embedding|positional_embedding|transformer|ln_final|text_projection|logit_scale"
    r"|input_resolution|context_length|vocab_size)(\..*)?"
)


class ClipViT(ViT):
    """CLIP's image tower with one class token.

    round_positions: round the resized position table to float16, as OpenAI's code does on any device.
    """

    mean, std = CLIP_MEAN, CLIP_STD

    def __init__(self, shape: ClipShape, *, round_positions: bool = False) -> None:
        super().__init__(shape)
        self.round_positions = round_positions
        self.norm_pre = nn.LayerNorm(shape.width, shape.eps)
        self.head = nn.Linear(shape.width, shape.output, bias=False)
        nn.init.normal_(self.head.weight, std=shape.width**-0.5)
        if shape.averages:
            layers = [cast("Block", block).attn for block in self.blocks]
            attend_to_similar(layers, SHARPNESS)
            average_tokens(layers)
            mix_features([cast("Block", block).mlp for block in self.blocks])

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return all tokens after the first LayerNorm (B, 1 + h * w, D), and the grid (h, w)."""
        tokens, grid = super().embed(images)
        return self.norm_pre(tokens), grid

    def positions(self, grid: tuple[int, int], square: bool) -> Tensor:
        """Return the position table (1, 1 + h * w, D), resized bilinearly without antialiasing."""
        side = self.shape.grid
        cells = self.pos_embed[:, 1:].transpose(1, 2).reshape(1, -1, side, side)
        cells = F.interpolate(cells, grid, mode="bilinear", align_corners=False)
        table = torch.cat([self.pos_embed[:, :1], cells.flatten(2).transpose(1, 2)], 1)
        return table.half().to(table.dtype) if self.round_positions else table

    def project(self, features: Tensor) -> Tensor:
        """Return features (B, D) after the last LayerNorm as unit vectors (B, output)."""
        return F.normalize(self.head(features), dim=1)


@torch.no_grad()
def average_tokens(layers: Sequence[Attention]) -> None:
    """Initialise attention so that a token gets the mean of the tokens that it attends to.

    The gradient of an untrained tower's vector then points to the tokens' features that it is made from;
    random projections would turn it elsewhere.
    """
    for attention in layers:
        width = attention.proj.in_features
        attention.qkv.weight[2 * width :] = torch.eye(width)
        attention.proj.weight.copy_(torch.eye(width))


@torch.no_grad()
def mix_features(layers: Sequence[Mlp]) -> None:
    """Initialise MLPs so that they change tokens as much as the tokens vary.

    With the small weights from which a training starts, features of an untrained tower would be linear in
    the pixels of a patch.
    """
    for mlp in layers:
        for layer in (mlp.fc1, mlp.fc2):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)


def shape_of(name: str) -> ClipShape | None:
    """Return the shape of the image tower `name`; None if it is another network, as timm's with a tag."""
    return SHAPES.get(name)


def image_tower(
    state: Mapping[str, Tensor], where: Path | str = "the checkpoint"
) -> dict[str, Tensor]:
    """Return the image tower of a file under timm's names: of OpenAI, of open_clip, or of timm itself.

    The projection has no bias in OpenAI's tower; timm's is a vector of zeros, which is left out. where:
    the source that a `CheckpointError` names.
    """
    tensors = {key: value.float() for key, value in state.items() if not TEXT_TOWER.fullmatch(key)}
    shaped = {
        "visual.class_embedding": lambda value: value[None, None],
        "visual.positional_embedding": lambda value: value[None],
        "visual.proj": lambda value: value.T,
    }
    for key in shaped.keys() & tensors.keys():
        tensors[key] = shaped[key](tensors[key])
    bias = tensors.get("head.bias")
    if bias is not None and not bias.any():
        del tensors["head.bias"]
    return rename(tensors, TABLE, where)
