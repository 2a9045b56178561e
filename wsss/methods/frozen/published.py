"""The files that the authors' code of WeCLIP and ExCEL writes: names and shapes of their tensors."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.methods.frozen.network import TABLE
from wsss.nets import clip_vit
from wsss.storage.checkpoint import KeyTable, Layout

TOWER: KeyTable = (
    (r"^encoder\.visual\.", "visual."),
    # ExCEL's code has other names for the attention of the calibrated blocks.
    (r"^visual\.transformer\.resblocks\.(\d+)\.attn\.(qkv|proj)\.", r"blocks.\1.attn.\2."),
    *clip_vit.TABLE,
    (r"^(?=(?:cls_token|pos_embed|patch_embed|norm_pre|norm|head|blocks)(?:\.|$))", "backbone."),
)
DROPPED = (
    r"encoder\.(?!visual\.).*",  # the text tower
    r"encoder\.visual\.positional_embedding_new",  # the table at the size of the last image
    r"encoder\.visual\.attn\..*",  # ExCEL's code saves one attention twice
    r"par\.kernel",
)
VECTORS = ("classes", "background")  # of words; the files lack them


def layout(side: int) -> Layout:
    """Return the layout of the authors' files. side: cells per row of the tower's own position table."""
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "backbone.cls_token": lambda value: value[None, None],
        "backbone.pos_embed": functools.partial(positions, side=side),
        "backbone.head.weight": lambda value: value.T if value.ndim == 2 else value,
    }
    return Layout((*TOWER, *TABLE), DROPPED, VECTORS, changes)


def positions(table: Tensor, side: int) -> Tensor:
    """Return the position table (1, 1 + side**2, D) of a file's table (1 + n**2, D).

    ExCEL's code saves the table enlarged bilinearly to the cells of a crop, which is undone here.
    """
    cells_saved = len(table) - 1 if table.ndim == 2 else 0
    saved = math.isqrt(max(0, cells_saved))
    if saved <= side or saved**2 != cells_saved:
        return table[None]
    unit = torch.eye(side, dtype=torch.float64)[None]
    enlarging = F.interpolate(unit, saved, mode="linear", align_corners=False)[0].T
    shrinking = torch.linalg.pinv(enlarging)
    cells = table[1:].double().reshape(saved, saved, -1)
    small = torch.einsum("iy,jx,yxd->ijd", shrinking, shrinking, cells).flatten(0, 1)
    return torch.cat([table[:1], small.to(table.dtype)])[None]
