"""Small crops of an image where its CAM is unsure, and a tag for each: which class it shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from wsss.data.labelmap import IGNORE
from wsss.methods.single_stage.online_labels import REGION_UNSURE, UNSURE

MIXED = -1  # tag of a crop with several classes, or with none that is sure
BACKGROUND = 0
SEED = 0  # of the generator that the published code makes anew for every image


@dataclass(frozen=True)
class CropRule:
    """How crops are cut and tagged.

    side: of a crop in pixels. count: per image. share: of a crop that must not be background for it
    to show something. reseed, class_weights, absent: see `settings` of the methods.
    """

    side: int
    count: int
    share: float
    reseed: bool = False
    class_weights: bool = False
    absent: int = MIXED


def places(unsure: Tensor, rule: CropRule) -> Tensor:
    """Return the top left corners (count, 2) of random crops whose centres are unsure.

    unsure: (H, W) bool. If it has fewer places than crops, all places are taken for unsure. A
    smaller image than the crops has one place; corners repeat where there are too few.
    """
    half = rule.side // 2
    height, width = unsure.shape
    rows, columns = max(1, height - 2 * half), max(1, width - 2 * half)
    framed = unsure[half : half + rows, half : half + columns].cpu()
    found = framed.nonzero()
    if len(found) < rule.count:
        found = torch.ones(rows, columns, dtype=torch.bool).nonzero()
    generator = torch.Generator().manual_seed(SEED) if rule.reseed else None
    order = torch.randperm(len(found), generator=generator)
    return found[order[torch.arange(rule.count) % len(order)]]


def cut(images: Tensor, corners: Tensor, side: int) -> Tensor:
    """Return crops (B, count, 3, side, side) of images at corners (B, count, 2)."""
    return torch.stack(
        [
            torch.stack([image[..., y : y + side, x : x + side] for y, x in own])
            for image, own in zip(images, corners.tolist(), strict=True)
        ]
    )


def tagged_crops(sure: Tensor, rule: CropRule) -> tuple[Tensor, Tensor]:
    """Return corners (B, count, 2) and tags (B, 2 + count) of the global views and the crops.

    sure: labels (B, H, W) with -1 where the CAM is unsure and 255 outside the image. Tags are
    classes from 1, 0 for background, -1 for mixed.
    """
    corners, tags = [], []
    for labels in sure:
        unsure = labels == UNSURE
        corners.append(places(unsure, rule))
        tags.append(_tags(labels, unsure, corners[-1], rule))
    return torch.stack(corners), torch.stack(tags)


def _tags(labels: Tensor, unsure: Tensor, corners: Tensor, rule: CropRule) -> Tensor:
    """Return the tags (2 + count,) of one image."""
    known = torch.where((labels == IGNORE) | unsure, 0, labels)
    weights = known if rule.class_weights else (known > 0).long()
    weights = weights + unsure
    classes = _shown(known)
    whole = MIXED
    if len(classes) == 0:
        whole = rule.absent
    elif len(classes) == 1:
        whole = int(classes[0])
        known = torch.where(unsure, classes[0], known)
    local = [
        _tag(own, weight, rule)
        for own, weight in zip(
            _windows(known, corners, rule.side), _windows(weights, corners, rule.side), strict=True
        )
    ]
    return torch.tensor([whole, whole, *local])


def _tag(known: Tensor, weights: Tensor, rule: CropRule) -> int:
    if weights.sum().item() / rule.side**2 <= rule.share:
        return BACKGROUND
    classes = _shown(known)
    return int(classes[0]) if len(classes) == 1 else MIXED


def _windows(values: Tensor, corners: Tensor, side: int) -> Iterator[Tensor]:
    return (values[y : y + side, x : x + side] for y, x in corners.tolist())


def flagged_crops(regions: Tensor, rule: CropRule) -> tuple[Tensor, Tensor]:
    """Return corners (B, count, 2) and flags (B, 2 + count): 1 for what shows something (ToCo).

    regions: (B, H, W) as of `labels.regions`. The global views always show something.
    """
    corners = torch.stack([places(own <= REGION_UNSURE, rule) for own in regions])
    flags = torch.ones(len(regions), 2 + rule.count, dtype=torch.long)
    for flag, own, at in zip(flags, regions, corners, strict=True):
        for number, window in enumerate(_windows(own, at, rule.side)):
            flag[2 + number] = int(window.sum().item() / rule.side**2 > rule.share)
    return corners, flags


def _shown(known: Tensor) -> Tensor:
    """Return the classes above 0 among labels, ascending."""
    return known.flatten().bincount()[1:].nonzero().flatten() + 1
