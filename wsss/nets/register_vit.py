"""DINOv2 with registers (Darcet et al., ICLR 2024): tokens beside the class token that hold no place."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.nets.vit import Shape, ViT, dinov2

REGISTERS = 4
SHAPES = {  # by backbone; the names are those of DINOv2's hub
    "dinov2_vits14_reg": dinov2(384, 12, 6),
    "dinov2_vitb14_reg": dinov2(768, 12, 12),
    "dinov2_vitl14_reg": dinov2(1024, 24, 16),
}


class RegisterViT(ViT):
    """A transformer with registers between the class token and the patches.

    Registers have no position. The position table is resized with antialiasing, to the size of the grid.
    """

    def __init__(self, shape: Shape, registers: int = REGISTERS) -> None:
        super().__init__(shape)
        self.reg_token = nn.Parameter(torch.zeros(1, registers, shape.width))
        nn.init.trunc_normal_(self.reg_token, std=0.02)
        self.special += registers

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return all tokens, those of classes and patches with positions (B, N, D), and the grid (h, w)."""
        tokens, grid = super().embed(images)
        registers = self.reg_token.expand(len(images), -1, -1)
        return torch.cat([tokens[:, :1], registers, tokens[:, 1:]], 1), grid

    def positions(self, grid: tuple[int, int], square: bool) -> Tensor:
        """Return the position table (1, 1 + h * w, D) of the class token and a grid (h, w)."""
        side = self.shape.grid
        if grid == (side, side):
            return self.pos_embed
        cells = self.pos_embed[:, 1:].transpose(1, 2).reshape(1, -1, side, side)
        cells = F.interpolate(cells, grid, mode="bicubic", antialias=True, align_corners=False)
        return torch.cat([self.pos_embed[:, :1], cells.flatten(2).transpose(1, 2)], 1)

    def adapt(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights by the names of the authors' file; timm's has the class token's position in the token."""
        adapted = dict(state)
        if "register_tokens" in adapted:
            adapted["reg_token"] = adapted.pop("register_tokens")
        table = adapted["pos_embed"]
        if table.shape[1] == self.shape.grid**2:
            adapted["pos_embed"] = F.pad(table, (0, 0, 1, 0))
        return adapted


def shape_of(name: str) -> Shape | None:
    """Return the shape of the transformer `name`; None if it has no registers."""
    return SHAPES.get(name)
