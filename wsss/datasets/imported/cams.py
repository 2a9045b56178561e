"""CAMs that other programs wrote: `.npy` dictionaries, `.npz` files and grey PNGs, one form a folder."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsss.data import labelmap
from wsss.data.index import Entry, Index
from wsss.data.manifest import Sources
from wsss.data.raw_files import RawFiles
from wsss.datasets.imported.folder import TOLERATED, Faults, Folder
from wsss.errors import DatasetError
from wsss.settings.imports import ImportParams
from wsss.storage.cam_archive import Cam, enlarge, grid
from wsss.storage.plain_npy import load_arrays

Maps = NDArray[np.float32]
SUFFIXES = (".npy", ".npz", ".png")
STRIDES = (1, 2, 4, 8, 16, 32)  # pixels per cell of maps that are smaller than their image
HIGH = ("high_res", "attn_highres", "highres")  # names of maps at image size: IRNet's, CLIP-ES'
SMALLEST = 1e-12  # by which a map is divided at least
ABOVE_ONE = 1e-3  # by which a score may exceed 1 through rounding
GREY = {"L": 255, "I;16": 65535, "I": 65535}  # mode of a PNG -> the value that is 1

SHAPE = (
    "{count} images have maps of another shape than their image or its cells (the first: {first}). "
    "Set imports.NAME.resize: true to stretch them"
)
RANGE = (
    "{count} images have scores outside [0, 1] (the first: {first}). Set "
    "imports.NAME.normalise: max or range"
)
FINITE = (
    "{count} images have scores that are not finite numbers (the first: {first}). Save them again"
)
NUMBERS = (
    "{count} images have maps of numbers that are no class (the first: {first}). Classes are numbered "
    "from 0, without background"
)
UNLABELLED = (
    "{count} images have maps of classes that are not in their labels, which are left out (the first: "
    "{first})"
)
UNMAPPED = "{count} images have no map for a class in their labels (the first: {first})"
FORM = "{count} files have another form (the first: {first}). docs/import.md lists the forms"


@dataclass(frozen=True)
class ForeignCam:
    """Maps as a file holds them: numbers (K,) of classes, maps (K, h, w).

    high: maps at image size (K, H, W), beside smaller ones. background, stride: of a file of ours.
    """

    numbers: tuple[int, ...]
    maps: Maps
    high: Maps | None = None
    background: Maps | None = None
    stride: int | None = None

    @property
    def is_finite(self) -> bool:
        """Whether all scores are finite numbers."""
        parts = (self.maps, self.high, self.background)
        return all(part is None or bool(np.isfinite(part).all()) for part in parts)


class CamFolder:
    """The CAMs in a folder, as members of our archive."""

    def __init__(self, path: Path, index: Index, params: ImportParams, setting: str) -> None:
        """Look which files there are. setting: the key of the settings that describes the import."""
        self.folder = Folder(path, SUFFIXES, f"{setting}.cam")
        self.params, self.setting, self.faults = params, setting, Faults()
        order = params.classes or index.classes
        self._numbers = [index.classes.index(name) for name in order]  # theirs -> ours
        self._order = order
        self._index = index

    @property
    def sources(self) -> Sources:
        """The raw files, for a manifest."""
        return self.folder.sources

    def names(self) -> list[str]:
        """Return the names of the images that have files."""
        if self.folder.suffix != ".png":
            return list(self.folder.files)
        return list(dict.fromkeys(name.rpartition("_")[0] for name in self.folder.files))

    def cam(self, entry: Entry, raw: RawFiles) -> Cam:
        """Return the CAM of an image that has files; what is wrong with it is counted in `faults`."""
        try:
            foreign = self._foreign(entry, raw)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            self.faults.add(FORM, f"{entry.name}, {' '.join(str(error).split())[:120]}")
            return blank(entry)
        if not foreign.is_finite:
            self.faults.add(FINITE, entry.name)
            return blank(entry)
        labels = self._labels(entry, foreign)
        if labels is None or not (labels or foreign.stride):
            return blank(entry)
        return self._scaled(entry, labels, foreign)

    def check(self, images: int) -> list[str]:
        """Return remarks; stop at what makes the maps useless. images: their number.

        Raises:
            DatasetError: with a sentence for each kind of fault.
        """
        fatal, advice = [FORM, NUMBERS, SHAPE, FINITE, RANGE], ""
        if self._is_confused(images):
            fatal += [UNMAPPED, UNLABELLED]
            advice = f" Set {self.setting}.classes to the order in which they number the classes."
        lines = [line.replace("imports.NAME", self.setting) for line in self.faults.lines(fatal)]
        if lines:
            raise DatasetError(f"{self.folder.path}: {'; '.join(lines)}.{advice}")
        return list(self.faults.lines([UNLABELLED, UNMAPPED]))

    def _is_confused(self, images: int) -> bool:
        """Return whether maps and labels differ so often that the order of the classes is in doubt.

        It is in none where the settings say it: a method may map the classes that it predicts.
        """
        differing = max(self.faults.count(UNLABELLED), self.faults.count(UNMAPPED))
        return not self.params.classes and differing > TOLERATED * images

    def _foreign(self, entry: Entry, raw: RawFiles) -> ForeignCam:
        if self.folder.suffix == ".png":
            return self._pictures(entry, raw)
        content, path = self.folder.read(entry.name, raw)
        return foreign_cam(load_arrays(content, path))

    def _pictures(self, entry: Entry, raw: RawFiles) -> ForeignCam:
        """Return the maps in the pictures IMAGE_CLASS.png; CLASS is a name or a number from 0."""
        maps, numbers = [], []
        for number, name in enumerate(self._order):
            for word in (name, str(number)):
                file = f"{entry.name}_{word}"
                if file in self.folder.files:
                    maps.append(grey_scores(*self.folder.read(file, raw)))
                    numbers.append(number)
                    break
        none = np.zeros((0, *entry.size), np.float32)
        return ForeignCam(tuple(numbers), np.stack(maps) if maps else none)

    def _labels(self, entry: Entry, foreign: ForeignCam) -> list[int] | None:
        """Return the place of the map of each label of an image in the file, as far as there is one."""
        odd = [number for number in foreign.numbers if not 0 <= number < len(self._numbers)]
        if odd:
            self.faults.add(NUMBERS, f"{entry.name}, {odd[0]} of {len(self._numbers)}")
            return None
        numbers = [self._numbers[number] for number in foreign.numbers]
        labels = self._index.numbers(entry.labels)
        classes = self._index.classes
        if extra := sorted(set(numbers) - set(labels)):
            self.faults.add(UNLABELLED, f"{entry.name}, {classes[extra[0]]}")
        if lacking := sorted(set(labels) - set(numbers)):
            self.faults.add(UNMAPPED, f"{entry.name}, {classes[lacking[0]]}")
        return [numbers.index(label) for label in labels if label in numbers]

    def _scaled(self, entry: Entry, places: list[int], foreign: ForeignCam) -> Cam:
        labels = np.array([self._numbers[foreign.numbers[place]] for place in places], np.int16)
        maps = self._normalised(foreign.maps[places], entry)
        high = None if foreign.high is None else self._normalised(foreign.high[places], entry)
        strides = [foreign.stride] if foreign.stride else STRIDES
        stride = stride_of(maps.shape[1:], entry.size, strides)
        if stride is None and high is not None:
            stride = stride_of(high.shape[1:], entry.size)
            maps, high = high, None
        if high is not None and high.shape[1:] != entry.size:
            high = None
        if stride is None and self.params.resize and maps.size:
            maps, stride = stretched(maps, entry.size), 1
        if stride is None:
            shape = " x ".join(map(str, maps.shape[1:]))
            self.faults.add(SHAPE, f"{entry.name}, {shape} for {entry.size[0]} x {entry.size[1]}")
            return blank(entry)
        return archived(labels, maps, entry.size, stride, high, foreign.background)

    def _normalised(self, maps: Maps, entry: Entry) -> Maps:
        """Return maps in [0, 1] as the settings say; scores outside are counted."""
        scaled = normalised(maps, self.params.normalise)
        if scaled.size and not (scaled.min() >= -ABOVE_ONE and scaled.max() <= 1 + ABOVE_ONE):
            self.faults.add(RANGE, f"{entry.name}, {scaled.min():.3g} to {scaled.max():.3g}")
        return np.clip(scaled, 0, 1)


def blank(entry: Entry) -> Cam:
    """Return a CAM without any map."""
    return archived(np.zeros(0, np.int16), np.zeros((0, *entry.size), np.float32), entry.size, 1)


def archived(
    labels: NDArray[np.int16],
    maps: Maps,
    size: tuple[int, int],
    stride: int,
    high: Maps | None = None,
    background: Maps | None = None,
) -> Cam:
    """Return maps as our archive holds them; maps at image size that say nothing new are left out."""
    cam = maps.astype(np.float16)
    if high is not None and np.array_equal(enlarge(cam, size, stride), high):
        high = None
    parts = (None if part is None else part.astype(np.float16) for part in (high, background))
    return Cam(labels, cam, size, stride, *parts)


def foreign_cam(value: Any) -> ForeignCam:
    """Return the maps in the content of a file.

    value: {class: map (h, w)} of PSA, SEAM and MCTformer; {"keys": classes (K,), "cam": maps, "high_res":
    maps} of IRNet and CRT; the arrays `labels` and `cam` of our own archives.

    Raises:
        ValueError: it is none of them.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"no dictionary, but {type(value).__name__}")
    names = {str(key): key for key in value}
    numbers = next((value[names[key]] for key in ("keys", "labels") if key in names), None)
    if numbers is not None:
        return _with_keys(numbers, {name: value[key] for name, key in names.items()})
    if len(names) < len(value) or not all(name.lstrip("-").isdigit() for name in names):
        raise ValueError(f"the keys {', '.join(sorted(names)[:4])}")
    maps = [_array(part) for part in value.values()]
    if any(part.ndim != 2 or part.shape != maps[0].shape for part in maps):
        raise ValueError("maps of several shapes, or not of two dimensions")
    stacked = np.stack(maps) if maps else np.zeros((0, 1, 1), np.float32)
    return ForeignCam(tuple(int(name) for name in names), stacked)


def _with_keys(numbers: Any, value: Mapping[str, Any]) -> ForeignCam:
    keys = tuple(int(number) for number in np.asarray(numbers).reshape(-1))
    high = next((_array(value[name]) for name in HIGH if name in value), None)
    if high is None and "high" in value:
        high = _array(value["high"])
    low = _array(value["cam"]) if value.get("cam") is not None else high
    background = _array(value["background"]) if "background" in value else None
    if low is None:
        raise ValueError(f"no maps under {', '.join(('cam', *HIGH))}")
    for part in (low, high):
        if part is not None and (part.ndim != 3 or len(part) != len(keys)):
            raise ValueError(f"maps of {part.shape} for {len(keys)} classes")
    if background is not None and background.shape != (1, *low.shape[1:]):
        raise ValueError(f"a background of {background.shape} for maps of {low.shape}")
    stride = int(value["stride"]) if "stride" in value else None
    return ForeignCam(keys, low, None if high is low else high, background, stride)


def _array(part: Any) -> Maps:
    """Return an array or a tensor as float32."""
    array = np.asarray(part)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"an array of {array.dtype}")
    return single_precision(array)


def single_precision(array: NDArray[Any]) -> Maps:
    """Return numbers as float32; those beyond its range become infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(array, np.float32)


def grey_scores(content: bytes, path: str) -> Maps:
    """Return the scores (h, w) in [0, 1] of a grey PNG of 8 or 16 bits."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as picture:
            if picture.mode not in GREY:
                raise ValueError(f"{Path(path).name} is not grey, but {picture.mode}")
            return np.asarray(np.asarray(picture) / GREY[picture.mode], np.float32)
    except labelmap.BROKEN as error:
        raise ValueError(str(error)) from None


def stride_of(
    shape: Sequence[int], size: tuple[int, int], strides: Sequence[int] = STRIDES
) -> int | None:
    """Return the pixels per cell of maps of `shape` (h, w) for an image of `size` (H, W), or None."""
    return next((stride for stride in strides if grid(size, stride) == tuple(shape)), None)


def normalised(maps: Maps, how: str) -> Maps:
    """Return maps (K, h, w), each scaled as `ImportParams.normalise` says."""
    if how == "none" or not maps.size:
        return maps
    low = np.zeros((len(maps), 1, 1)) if how == "max" else maps.min((1, 2), keepdims=True)
    high = maps.max((1, 2), keepdims=True)
    scaled = np.maximum(maps - low, 0) / np.maximum(high - low, SMALLEST)
    return np.asarray(scaled, np.float32)


def stretched(maps: Maps, size: tuple[int, int]) -> Maps:
    """Return maps (K, h, w) stretched bilinearly to an image of `size` (H, W)."""
    resized = [
        np.asarray(Image.fromarray(part).resize(size[::-1], Image.Resampling.BILINEAR))
        for part in maps.astype(np.float32)
    ]
    return np.asarray(resized, np.float32).reshape(-1, *size)
