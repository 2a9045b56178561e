"""Test-time augmentation: the views of an image, and how the maps of the views are merged."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from wsss.data.normalisation import Normalisation
from wsss.data.pixels import normalised, resized
from wsss.data.resize import bilinear_by, resize_by
from wsss.inference.cam_maps import SizeRule, cam_size, high_size
from wsss.settings import CamParams, DecodeParams, SegmenterParams, SegmenterTestParams
from wsss.settings.cams import Resize


@dataclass(frozen=True)
class ViewResizing:
    """How images are resized to a scale.

    kernel: `picture` resizes the 8-bit image with Pillow's antialiased bicubic, in the loader;
    `picture_gpu` gives the same bytes on the device; the others resize the
    normalised tensor there without antialiasing: `bicubic` (OpenCV's), `bilinear`, or
    `bilinear_corners` (with aligned corners). floor: round a scaled side down instead of to the nearest integer.
    multiple: then round each side up to a multiple of it, or down with `multiple_down`.
    square_px, long_side_px: scales are relative to a square of this side, or to the image with a long
    side of this length. via_base: resize to that base size first, then to the scale.
    """

    kernel: Resize = "picture"
    floor: bool = False
    multiple: int = 1
    multiple_down: bool = False
    square_px: int | None = None
    long_side_px: int | None = None
    via_base: bool = False

    def size(self, size: tuple[int, int], scale: float) -> tuple[int, int]:
        """Return the size (h, w) at a scale of an image of `size` (h, w)."""
        whole = int if self.floor else round
        height, width = (max(1, whole(side * scale)) for side in self.base(size))
        return self._multiple(height), self._multiple(width)

    def base(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size (h, w) at scale 1 of an image of `size` (h, w)."""
        if self.square_px:
            return self.square_px, self.square_px
        if not self.long_side_px:
            return size
        height, width = size
        if self.floor:  # WeCLIP rounds the factor first, so the long side may lack a pixel
            factor = self.long_side_px / max(size)
            return max(1, int(height * factor)), max(1, int(width * factor))
        if width < height:
            return self.long_side_px, max(1, round(width / height * self.long_side_px))
        return max(1, round(height / width * self.long_side_px)), self.long_side_px

    def _multiple(self, side: int) -> int:
        if self.multiple_down:
            return max(self.multiple, side - side % self.multiple)
        return side + -side % self.multiple

    def pictures(
        self, image: NDArray[np.uint8], scales: Sequence[float]
    ) -> list[NDArray[np.uint8]]:
        """Return the 8-bit pictures of an image (h, w, 3) that leave the loader.

        The kernel `picture` gives one for each scale; the others work on the device and need the image.
        """
        if self.kernel != "picture":
            return [image]
        size = image.shape[:2]
        return [functools.reduce(_resize_picture, self._sizes(size, s), image) for s in scales]

    def on_device(self, pixels: Tensor, scale: float, normalise: Normalisation) -> Tensor:
        """Return a batch of pictures (B, h, w, 3) at a scale, normalised (B, 3, h', w').

        pixels: 8 bits, on any device; with the kernel `picture` they have this scale already.
        """
        if self.kernel == "picture":
            return normalised(pixels, normalise)
        size = (pixels.shape[1], pixels.shape[2])
        sizes = self._sizes(size, scale)
        if self.kernel == "picture_gpu":
            return normalised(functools.reduce(resized, sizes, pixels), normalise)
        batch = normalised(pixels, normalise).contiguous()
        for number, target in enumerate(sizes):
            if number and self.kernel == "bilinear" and self.long_side_px and self.floor:
                batch = bilinear_by(batch, scale, target)  # WeCLIP
            else:
                batch = self._resize_tensor(batch, target, scale)
        return batch

    def view(
        self, images: Sequence[NDArray[np.uint8]], scale: float, normalise: Normalisation
    ) -> Tensor:
        """Return images (h, w, 3) of one size at a scale, normalised (B, 3, h', w')."""
        pictures = [self.pictures(image, [scale])[0] for image in images]
        return self.on_device(torch.from_numpy(np.stack(pictures)), scale, normalise)

    def _sizes(self, size: tuple[int, int], scale: float) -> list[tuple[int, int]]:
        """Return the sizes that an image of `size` takes one after another."""
        target = self.size(size, scale)
        return [self.base(size), target] if self.via_base else [target]

    def _resize_tensor(self, images: Tensor, size: tuple[int, int], scale: float) -> Tensor:
        """Return normalised images (B, 3, h, w) at `size`.

        Use `scale` itself as the bicubic factor when the output size was derived from it.
        """
        if images.shape[2:] == size:
            return images
        if self.kernel == "bicubic":
            has_base = bool(self.square_px or self.long_side_px)
            if not has_base and self.multiple == 1:
                return resize_by(images, (scale, scale), size)
            height, width = (new / old for new, old in zip(size, images.shape[2:], strict=True))
            return resize_by(images, (height, width), size)
        aligned = self.kernel == "bilinear_corners"
        return F.interpolate(images, size, mode="bilinear", align_corners=aligned)


def _resize_picture(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if image.shape[:2] == size:
        return image
    return np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class ViewMerging:
    """How the maps of the views of an image are merged; by default they are summed.

    softmax: apply softmax over the channels of each view first. maximum: take the maximum over the
    scales. mirror_maximum: take the maximum of a view and its mirror image (None: as `maximum`).
    align_corners: resize maps with aligned corners. relu: set negative scores to 0 once a view is
    merged with its mirror image.
    """

    softmax: bool = False
    maximum: bool = False
    mirror_maximum: bool | None = None
    align_corners: bool = False
    relu: bool = False

    def merge_mirrored(self, maps: Tensor, size: tuple[int, int], mirror: bool) -> Tensor:
        """Return the maps (B, C, h, w) of one scale, resized to `size` and merged with the mirrored.

        mirror: the second half of the batch holds the maps of the mirrored images.
        """
        maps = F.interpolate(maps, size, mode="bilinear", align_corners=self.align_corners)
        if self.softmax:
            maps = maps.softmax(1)
        if mirror:
            straight, mirrored = maps.chunk(2)
            maximum = self.maximum if self.mirror_maximum is None else self.mirror_maximum
            maps = _merge(straight, mirrored.flip(3), maximum)
        return F.relu(maps) if self.relu else maps

    def merge_scales(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the maps (B, C, h, w) of two scales, merged."""
        return _merge(first, second, self.maximum)


def _merge(first: Tensor, second: Tensor, maximum: bool) -> Tensor:
    return torch.maximum(first, second) if maximum else first + second


def image_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the image as the size of its maps."""
    return size


@dataclass(frozen=True)
class TestTimeAugmentation:
    """The views of an image, and how their maps are merged; by default the image alone.

    scales: resize factors. mirror: each scale also has a mirrored view, the first of them only with
    `mirror_first`; without it the view counts twice. map_sizes: the sizes at which
    maps are merged, each a function of the image's size (picklable, for the loader's processes).
    enlarged: the size that merged maps are resized to at last; None leaves them as they are.
    """

    __test__ = False  # the name begins with Test, but pytest has nothing to collect here

    scales: tuple[float, ...] = (1.0,)
    mirror: bool = False
    resizing: ViewResizing = ViewResizing()
    merging: ViewMerging = ViewMerging()
    map_sizes: tuple[SizeRule, ...] = (image_size,)
    enlarged: SizeRule | None = None
    mirror_first: bool = True

    def mirrors(self, number: int) -> bool:
        """Return whether the scale with a number (from 0) has a mirrored view."""
        return self.mirror and (self.mirror_first or number > 0)

    def merged_view(self, maps: Tensor, size: tuple[int, int], number: int) -> Tensor:
        """Return the maps (B, C, h, w) of the scale with a number (from 0), at `size`, merged with the mirrored.

        Without a mirrored view its maps count as those of the view itself.
        """
        if self.mirror and not self.mirrors(number):
            maps = torch.cat([maps, maps.flip(3)])
        return self.merging.merge_mirrored(maps, size, self.mirror)

    def views(self, images: Sequence[NDArray[np.uint8]], normalise: Normalisation) -> list[Tensor]:
        """Return images (h, w, 3) of one size at each scale, normalised (B, 3, h', w')."""
        return [self.resizing.view(images, scale, normalise) for scale in self.scales]

    def pictures(self, image: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """Return the 8-bit pictures of an image (h, w, 3) that leave the loader."""
        return self.resizing.pictures(image, self.scales)

    def views_on_device(
        self, pixels: Sequence[Tensor], normalise: Normalisation
    ) -> Iterator[Tensor]:
        """Yield batches of images at each scale, normalised (B, 3, h', w'), on their device.

        pixels: a batch (B, h, w, 3) for each of the `pictures`, in their order.
        """
        repeated = pixels if len(pixels) == len(self.scales) else list(pixels) * len(self.scales)
        for batch, scale in zip(repeated, self.scales, strict=True):
            yield self.resizing.on_device(batch, scale, normalise)

    def pixels(self, size: tuple[int, int]) -> int:
        """Return the pixels of the largest forward pass of one image of `size` (h, w)."""
        sizes = [self.resizing.size(size, scale) for scale in self.scales]
        return max(height * width for height, width in sizes) * (2 if self.mirror else 1)


def cam_augmentation(params: CamParams) -> TestTimeAugmentation:
    """Return the test-time augmentation of CAMs."""
    resizing = ViewResizing(
        params.resize,
        floor=params.size_rounding == "floor",
        multiple=params.size_multiple,
        multiple_down=params.size_multiple_rounding == "down",
        square_px=params.square_px,
        long_side_px=params.long_side_px,
        via_base=params.at_square or params.long_side_px is not None,
    )
    merging = ViewMerging(mirror_maximum=params.mirror_merge == "max", relu=params.clip == "last")
    sizes = _cam_map_sizes(params)
    return TestTimeAugmentation(params.scales, params.mirror, resizing, merging, sizes)


def _cam_map_sizes(params: CamParams) -> tuple[SizeRule, ...]:
    """Return the size of the square, or of the stored CAM and, with `high_res`, of the image."""
    square = params.square_px
    if square is not None and params.at_square:
        return (functools.partial(_square_size, square),)
    return (cam_size(params.stride), *([high_size] if params.high_res else []))


def _square_size(side: int, _: tuple[int, int]) -> tuple[int, int]:
    return side, side


def segmenter_augmentation(params: SegmenterParams) -> TestTimeAugmentation:
    """Return the test-time augmentation of the segmenter's test."""
    test = params.test
    resizing = ViewResizing(test.resize, floor=test.size_rounding == "floor")
    merging = _test_merging(test, align_corners=params.align_corners)
    return TestTimeAugmentation(test.scales, test.mirror, resizing, merging)


def decode_augmentation(params: DecodeParams, cell_px: int = 1) -> TestTimeAugmentation:
    """Return the test-time augmentation of a method's own decoder. cell_px: pixels per cell of its logits."""
    resizing = ViewResizing(
        params.resize,
        floor=params.size_rounding == "floor",
        square_px=params.square_px,
        long_side_px=params.long_side_px,
        via_base=params.square_first or params.long_side_px is not None,
    )
    mirror_maximum = None if params.mirror_merge == "merge" else params.mirror_merge == "max"
    merging = _test_merging(params, mirror_maximum=mirror_maximum)
    whole = TestTimeAugmentation(
        params.scales, params.mirror, resizing, merging, mirror_first=params.mirror_first
    )
    if params.merge_at == "image":
        return whole
    cells = (functools.partial(_cells, resizing, cell_px),)
    return dataclasses.replace(whole, map_sizes=cells, enlarged=image_size)


def _cells(resizing: ViewResizing, cell_px: int, size: tuple[int, int]) -> tuple[int, int]:
    """Return how many whole cells (h, w) the view at scale 1 of an image of `size` has."""
    height, width = resizing.size(size, 1.0)
    return max(1, height // cell_px), max(1, width // cell_px)


def _test_merging(
    params: SegmenterTestParams, mirror_maximum: bool | None = None, align_corners: bool = False
) -> ViewMerging:
    return ViewMerging(
        softmax=params.merge == "max_softmax",
        maximum=params.merge in ("max", "max_softmax"),
        mirror_maximum=mirror_maximum,
        align_corners=align_corners,
    )
