"""Photographs with alpha masks on photographs of scenes: realistic objects, exact masks, no download.

The objects are Debian's tuxpaint-stamps-default, the scenes behind them those of its package scratch,
or drawn textures. No photograph is used in both training and validation pictures. A picture depends
only on the seed, its split and its number.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from wsss.data.index import Index
from wsss.data.manifest import Sources
from wsss.data.raw_files import RawFiles
from wsss.datasets.drawn import scene, scenery, texture
from wsss.datasets.drawn.scene import Box, Picture
from wsss.errors import DatasetError
from wsss.randomness import rng
from wsss.settings import StampsParams
from wsss.settings.data import TEXTURES

# class -> patterns under the root. Subfolders called cartoon or toys are not searched.
CLASSES = {
    "bird": ("animals/birds/*",),
    "fish": ("animals/fish/*",),
    "flower": ("plants/flowers/*",),
    "fruit": ("food/fruit/*",),
    "hoofed": tuple(
        f"animals/mammals/{kind}/*" for kind in ("bovines", "camel", "deer", "equines")
    ),
    "insect": ("animals/insects/*",),
    "instrument": tuple(
        f"hobbies/music/{kind}/*" for kind in ("brass", "percussion", "string", "wind")
    ),
    "predator": (
        *(f"animals/mammals/{kind}/*" for kind in ("bears", "cats", "dogs")),
        *(f"animals/mammals/{name}" for name in ("badger", "ferret", "aquatic/otter")),
    ),
    "tool": ("household/tools/*",),
    "vegetable": ("food/vegetables/*",),
    "vehicle": (
        *(
            f"vehicles/{kind}/*"
            for kind in ("auto", "construction", "emergency", "masstransit", "race")
        ),
        "vehicles/garbagetruck",
        *(
            f"military/vehicles/{name}"
            for name in ("bradley", "infantry-stryker", "ww2_german_gun")
        ),
    ),
}
LEFT_OUT = {
    "Brown_slug", "Woodlouse", "lobster", "shrimp",  # in the folder of another class
    "bee", "appooppanthady", "sedan_police",  # drawings, or mostly transparent
    "cementmixer", "toolbox",  # not hand tools
}  # fmt: skip
VAL_SHARE = 0.3  # share of a class's photographs that are for validation
SCALE = (0.25, 0.75)  # long side of an object over the side of the picture
TURN_DEGREES = 15.0
LEAST_PX = 60  # objects with fewer visible pixels are removed
OPAQUE = 127  # pixels with more alpha are labelled
SOFT_PX = 0.8  # deviation of the blur of an edge before a photograph
Stamp = Image.Image
Background = Callable[[str, np.random.Generator], NDArray[np.uint8]]


@dataclass(frozen=True)
class Placed:
    """An object in a picture: its class (from 0), its photograph, mirrored and turned, its box."""

    label: int
    stamp: Stamp
    box: Box


def draw(params: StampsParams, dataset: str, target: Path, raw: RawFiles | None = None) -> Index:
    """Compose all pictures into the archive `target` and return their index."""
    (raw or RawFiles()).note(all_photographs(params))
    counts = {"train": params.train, "val": params.val}
    return scene.write(dataset, tuple(CLASSES), target, counts, composer(params), suffix="jpg")


def all_photographs(params: StampsParams) -> list[Path]:
    """Return the photographs of objects and of scenes; an error names the package of missing ones."""
    objects = photographs(Path(params.root)).values()
    files = [path for split in objects for paths in split.values() for path in paths]
    return files if params.backgrounds == TEXTURES else [*files, *_scenes(params)]


def _scenes(params: StampsParams) -> list[Path]:
    return scenery.photographs(Path(params.backgrounds))


def sources(params: StampsParams, index: Index) -> Sources:
    """Return the folders and the single files that photographs are taken from."""
    root = Path(params.root)
    patterns = [root / f"{pattern}.png" for classes in CLASSES.values() for pattern in classes]
    folders = [path.parent.as_posix() for path in patterns if path.stem == "*"]
    files = [path.as_posix() for path in patterns if path.stem != "*"]
    scenes = _folders(params.backgrounds) if params.backgrounds != TEXTURES else ()
    suffixes = ((folder, ".png") for folder in folders)
    return Sources(params.root, tuple(files), (*suffixes, *scenes))


def _folders(root: str) -> Iterator[tuple[str, str]]:
    """Yield the folders of the backgrounds' photographs, with the suffixes that are read."""
    paths = [path for path in Path(root).rglob("*") if path.is_dir()]
    for folder in (Path(root), *sorted(paths)):
        yield from ((folder.as_posix(), suffix) for suffix in scenery.SUFFIXES)


def composer(params: StampsParams) -> Callable[[str, int], Picture]:
    """Return the function (split, number) -> picture; it reads every photograph once."""
    files = photographs(Path(params.root))
    read = functools.cache(functools.partial(_read, longest_px=params.size_px))
    return functools.partial(_picture, params, files, read, _background(params))


def _background(params: StampsParams) -> Background:
    """Return the function (split, generator) -> background (size_px, size_px, 3)."""
    side = params.size_px
    if params.backgrounds != TEXTURES:
        train, val = _parted(_scenes(params))
        return scenery.cutter({"train": train, "val": val}, side)

    def textures(_split: str, generator: np.random.Generator) -> NDArray[np.uint8]:
        return texture.to_bytes(texture.background(generator, (side, side)))

    return textures


def photographs(root: Path) -> dict[str, dict[str, list[Path]]]:
    """Return split -> class -> files; the split depends only on the names of the photographs."""
    splits: dict[str, dict[str, list[Path]]] = {"train": {}, "val": {}}
    for name, patterns in CLASSES.items():
        files = [file for pattern in patterns for file in root.glob(f"{pattern}.png")]
        usable = [f for f in files if f.stem not in LEFT_OUT and not f.stem.endswith("_mirror")]
        if len(usable) < 2:
            raise DatasetError(
                f"{root} has {len(usable)} photographs of the class {name!r}. Run `apt-get install "
                "tuxpaint-stamps-default`, or set data.stamps.root to the folder of its stamps."
            )
        splits["train"][name], splits["val"][name] = _parted(usable)
    return splits


def _parted(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the files for training and those for validation, by their names."""
    ordered = sorted(files, key=lambda f: hashlib.sha256(f.stem.encode()).hexdigest())
    first = max(1, round(VAL_SHARE * len(ordered)))
    return ordered[first:], ordered[:first]


def _read(path: Path, longest_px: int) -> Stamp:
    """Return a photograph cropped to its opaque part, at most `longest_px` wide and high."""
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            stamp = picture.convert("RGBA")
    except (OSError, SyntaxError, ValueError) as error:
        raise DatasetError(f"The stamp {path} is damaged ({error}). Install it again.") from None
    opaque = stamp.getchannel("A").point([0] * (OPAQUE + 1) + [255] * (255 - OPAQUE)).getbbox()
    if opaque is None:
        raise DatasetError(f"The stamp {path} has no opaque pixel. Take it away from the folder.")
    cut = stamp.crop(opaque)
    cut.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    return cut


def _picture(
    params: StampsParams,
    photos_by_split: dict[str, dict[str, list[Path]]],
    read: Callable[[Path], Stamp],
    behind: Background,
    split: str,
    number: int,
) -> Picture:
    generator = rng(params.seed, "stamps", split, number)
    side, names = params.size_px, tuple(CLASSES)
    background = behind(split, generator)
    placed: list[Placed] = []
    for label in scene.choose_classes(generator, number, len(names)):
        files = photos_by_split[split][names[label]]
        stamp = _turned(read(files[generator.integers(len(files))]), generator)
        extent = _extent(stamp, float(generator.uniform(*SCALE)) * side)
        occupied = [item.box for item in placed]
        box = scene.find_box(generator, extent, SCALE[0] * side, occupied, (side, side))
        if box:
            placed.append(Placed(label, stamp, box))
    return _compose(background, placed, SOFT_PX if params.backgrounds != TEXTURES else 0.0)


def _turned(stamp: Stamp, generator: np.random.Generator) -> Stamp:
    if generator.random() < 0.5:
        stamp = stamp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    degrees = float(generator.uniform(-TURN_DEGREES, TURN_DEGREES))
    return stamp.rotate(degrees, Image.Resampling.BICUBIC, expand=True)


def _extent(stamp: Stamp, long_px: float) -> tuple[float, float]:
    factor = long_px / max(stamp.size)
    return stamp.width * factor, stamp.height * factor


def _compose(
    background: NDArray[np.uint8], placed: Sequence[Placed], soft_px: float = 0.0
) -> Picture:
    """Paste the objects onto the background; hardly visible objects are removed again.

    soft_px: deviation of the blur that an object's edge fades with, inwards only.
    """
    canvas = Image.fromarray(background)
    owner = np.zeros(background.shape[:2], np.uint8)
    for position, item in enumerate(placed, 1):
        extent = (max(1, int(item.box.wide)), max(1, int(item.box.high)))
        left, top = int(item.box.left), int(item.box.top)
        stamp = item.stamp.resize(extent, Image.Resampling.LANCZOS)
        canvas.paste(stamp, (left, top), _faded(stamp.getchannel("A"), soft_px))
        inside = np.s_[top : top + extent[1], left : left + extent[0]]
        owner[inside][np.asarray(stamp.getchannel("A")) > OPAQUE] = position
    visible_px = np.bincount(owner.ravel(), minlength=len(placed) + 1)[1:]
    if len(placed) > 1 and visible_px.min() < LEAST_PX:
        visible = [
            item for item, pixels in zip(placed, visible_px, strict=True) if pixels >= LEAST_PX
        ]
        return _compose(background, visible or placed[:1], soft_px)
    labels = np.array([0, *(item.label + 1 for item in placed)], np.uint8)
    return Picture(np.array(canvas), labels[owner])


def _faded(alpha: Image.Image, soft_px: float) -> Image.Image:
    """Return an opacity that falls towards the edges; what was transparent stays so."""
    if not soft_px:
        return alpha
    return ImageChops.darker(alpha, alpha.filter(ImageFilter.GaussianBlur(soft_px)))
