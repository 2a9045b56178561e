"""Vectors of classes and backgrounds for a tower that knows no words, from images and their labels alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.methods.base import Source
from wsss.methods.clip_es.network import ClipNet

BATCH = 32  # images in one forward pass


@torch.no_grad()
def mean_features(net: ClipNet, images: Source, side: int) -> dict[str, Tensor]:
    """Return the vectors `classes` and `background` (C, D) of unit length.

    The vector of a class is the mean vector of the images that show it, its background the mean of those
    that do not, both less the mean of all images and decorrelated. images: at squares of `side` pixels.
    """
    vectors, labels = zip(
        *((net(batch["image"]).float(), batch["label"]) for batch in images(side, BATCH)),
        strict=True,
    )
    centred, present = torch.cat(vectors), torch.cat(labels).float()
    centred = centred - centred.mean(0)
    return {
        "classes": F.normalize(decorrelated(present.T @ centred, centred), dim=1),
        "background": F.normalize(decorrelated((1 - present).T @ centred, centred), dim=1),
    }


def decorrelated(vectors: Tensor, centred: Tensor) -> Tensor:
    """Return vectors (C, D) times the inverse covariance of centred vectors (N, D), as a linear discriminant.

    The vectors of a tower that nobody trained vary most along what all images share, such as brightness;
    products with the result hardly depend on it. The fewer images there are, the less is decorrelated.
    """
    images, length = centred.shape
    covariance = (centred.T @ centred / images).double()
    shrinkage = 2 * (length / images) ** 2  # a share of the mean variance, added to all variances
    variance = shrinkage * covariance.diagonal().mean() + torch.finfo(torch.float32).tiny
    covariance.diagonal().add_(variance)
    solved: Tensor = torch.linalg.solve(covariance, vectors.double().T)
    return solved.T.to(vectors)
