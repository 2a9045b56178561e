"""Small crops of an image around unsure pixels of its CAM, and the class of each crop as its tag."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from wsss.data.labelmap import IGNORE
from wsss.methods.single_stage.online_labels import REGION_UNSURE, UNSURE

MIXED = -1  # tag of a crop with several classes, or without a sure pixel of a class
BACKGROUND = 0
SEED = 0  # seed of the generator, which the published code makes anew for every image


@dataclass(frozen=True)
class CropRule:
    """The rule by which crops are cut and tagged.

    side: of a crop, in pixels. count: crops per image. share: smallest share of a crop that must be
    more than background for the crop to show an object. reseed, class_weights, absent: `crop_reseed`,
    `crop_class_weights` and `crop_absent_tag` of the hyper-parameters.
    """

    side: int
    count: int
    share: float
    reseed: bool = False
    class_weights: bool = False
    absent: int = MIXED


def places(unsure: Tensor, rule: CropRule) -> Tensor:
    """Return the top left corners (count, 2) of random crops whose centres are unsure.

    unsure: (H, W) bool. With fewer unsure positions than crops, all positions are candidates. An image
    smaller than the crops has one position; corners repeat where there are too few.
    """
    half = rule.side // 2
    height, width = unsure.shape
    rows, columns = max(1, height - 2 * half), max(1, width - 2 * half)
    framed = unsure[half : half + rows, half : half + columns].cpu()
    corners = framed.nonzero()
    if len(corners) < rule.count:
        corners = torch.ones(rows, columns, dtype=torch.bool).nonzero()
    generator = torch.Generator().manual_seed(SEED) if rule.reseed else None
    order = torch.randperm(len(corners), generator=generator)
    return corners[order[torch.arange(rule.count) % len(order)]]


def cut(images: Tensor, corners: Tensor, side: int) -> Tensor:
    """Return crops (B, count, 3, side, side) of images at corners (B, count, 2)."""
    return torch.stack(
        [
            torch.stack([image[..., y : y + side, x : x + side] for y, x in positions])
            for image, positions in zip(images, corners.tolist(), strict=True)
        ]
    )


def tagged_crops(label_maps: Tensor, rule: CropRule) -> tuple[Tensor, Tensor]:
    """Return corners (B, count, 2) and tags (B, 2 + count) of the global views and the crops.

    label_maps: labels (B, H, W) with -1 where the CAM is unsure and 255 outside the image. Tags are
    classes from 1, 0 for background, -1 for mixed.
    """
    corners, tags = [], []
    for labels in label_maps.cpu():  # one wait for the GPU instead of several for each crop
        unsure = labels == UNSURE
        corners.append(places(unsure, rule))
        tags.append(_tags(labels, unsure, corners[-1], rule))
    return torch.stack(corners), torch.stack(tags)


def _tags(labels: Tensor, unsure: Tensor, corners: Tensor, rule: CropRule) -> Tensor:
    """Return the tags (2 + count,) of one image."""
    sure = torch.where((labels == IGNORE) | unsure, 0, labels)
    weights = sure if rule.class_weights else (sure > 0).long()
    weights = weights + unsure
    classes = _classes(sure)
    whole = MIXED
    if len(classes) == 0:
        whole = rule.absent
    elif len(classes) == 1:
        whole = int(classes[0])
        sure = torch.where(unsure, classes[0], sure)
    windows = _windows(sure, corners, rule.side)
    weight_windows = _windows(weights, corners, rule.side)
    local = [
        _tag(window, weight, rule) for window, weight in zip(windows, weight_windows, strict=True)
    ]
    return torch.tensor([whole, whole, *local])


def _tag(labels: Tensor, weights: Tensor, rule: CropRule) -> int:
    if weights.sum().item() / rule.side**2 <= rule.share:
        return BACKGROUND
    classes = _classes(labels)
    return int(classes[0]) if len(classes) == 1 else MIXED


def _windows(values: Tensor, corners: Tensor, side: int) -> Iterator[Tensor]:
    return (values[y : y + side, x : x + side] for y, x in corners.tolist())


def flagged_crops(regions: Tensor, rule: CropRule) -> tuple[Tensor, Tensor]:
    """Return corners (B, count, 2) and flags (B, 2 + count), 1 for views that show an object (ToCo).

    regions: (B, H, W), from `online_labels.regions`. The flags of the global views are always 1.
    """
    regions = regions.cpu()  # one wait for the GPU instead of one for each crop
    corners = torch.stack([places(region <= REGION_UNSURE, rule) for region in regions])
    flags = torch.ones(len(regions), 2 + rule.count, dtype=torch.long)
    for flag, region, positions in zip(flags, regions, corners, strict=True):
        for number, window in enumerate(_windows(region, positions, rule.side)):
            flag[2 + number] = int(window.sum().item() / rule.side**2 > rule.share)
    return corners, flags


def _classes(labels: Tensor) -> Tensor:
    """Return the classes above 0 among labels, ascending."""
    return labels.flatten().bincount()[1:].nonzero().flatten() + 1
