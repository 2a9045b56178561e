"""Distances between neighbouring cells, with a gradient that needs little memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Window = tuple[tuple[slice, slice], tuple[slice, slice]]  # rows and columns of both cells of a pair


class Distances(torch.autograd.Function):
    """Mean absolute difference over channels between the two cells of every pair, for many windows.

    For the gradient, PyTorch would keep one difference as large as the map for each window, and
    allocate a map of zeros for each slice. Here `backward` computes the differences again and adds
    their gradients in place.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, windows: Sequence[Window]) -> tuple[Tensor, ...]:
        """Return the distances (B, rows, columns) of each window; features: (B, C, h, w)."""
        ctx.save_for_backward(features)
        ctx.windows = windows
        return tuple(_difference(features, window).abs_().mean(1) for window in windows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the features (B, C, h, w)."""
        (features,) = ctx.saved_tensors
        total = torch.zeros_like(features)
        for window, gradient in zip(ctx.windows, gradients, strict=True):
            share = (gradient / features.shape[1])[:, None]
            part = _difference(features, window).sign_().mul_(share)
            (rows, columns), (far_rows, far_columns) = window
            total[:, :, rows, columns] += part
            total[:, :, far_rows, far_columns] -= part
        return total, None


def _difference(features: Tensor, window: Window) -> Tensor:
    (rows, columns), (far_rows, far_columns) = window
    return features[:, :, rows, columns] - features[:, :, far_rows, far_columns]
