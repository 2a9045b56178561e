"""Further looks at a training image with strongly changed colours, as ToCo and SeCo contrast them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from wsss.data.normalisation import Normalisation
from wsss.settings import AugmentParams
from wsss.training.augment import Draws, change
from wsss.training.colour import jitter, turn_hue
from wsss.training.deit_augment import draw_crop

Picture = NDArray[np.uint8]

# ToCo's chain: how often colours are jittered, by how much, and how often they go.
JITTERED, GREY = 0.8, 0.2
BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.4, 0.4, 0.2, 0.1
BLUR = (0.1 / 448, 2 / 448)  # radius, as a share of the crop's side; published in pixels, at 448
BLURRED = {"image": 1.0, "whole": 0.1, "local": 0.5}  # how often
SOLARISED, SOLARISE_ABOVE = 0.2, 128  # of the whole view
AREA = (0.4, 1.0)  # of the part that is the whole view
COLOURS = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1.0)  # leaves values as they are


def views(
    image: Picture,
    draws: Draws,
    params: AugmentParams,
    normalise: Normalisation,
    generator: np.random.Generator,
) -> dict[str, NDArray[np.float32]]:
    """Return the looks (3, crop, crop) that `params.strong_views` names, normalised.

    image: RGB (H, W, 3), the original. draws: what its crop was made with.
    """
    wanted = params.strong_views
    crop = change(image, None, draws, params, COLOURS)[0].transpose(1, 2, 0).astype(np.uint8)
    found: dict[str, Picture] = {}
    if "image" in wanted:
        found["image"] = strong(crop, BLURRED["image"], False, generator)
    if "whole" in wanted:
        part = random_part(image, params.crop_px, generator)
        whole = strong(part, BLURRED["whole"], True, generator)
        found["whole"] = solarised(whole) if generator.random() < SOLARISED else whole
    if "local" in wanted:
        found["local"] = strong(crop, BLURRED["local"], params.mirror_local_view, generator)
    return {name: normalise(picture) for name, picture in found.items()}


def strong(picture: Picture, blurred: float, mirror: bool, generator: Any) -> Picture:
    """Return a picture mirrored (if it may be), jittered, without colours or blurred, by chance."""
    if mirror and generator.random() < 0.5:
        picture = picture[:, ::-1]
    if generator.random() < JITTERED:
        factors = [generator.uniform(1 - d, 1 + d) for d in (BRIGHTNESS, CONTRAST, SATURATION)]
        picture = jitter(np.ascontiguousarray(picture), (factors[0], factors[1], factors[2]))
        picture = turn_hue(picture, generator.uniform(-HUE, HUE))
    found = Image.fromarray(np.ascontiguousarray(picture))
    if generator.random() < GREY:
        found = ImageOps.grayscale(found).convert("RGB")
    if generator.random() < blurred:
        radius = generator.uniform(*BLUR) * len(picture)
        found = found.filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(found)


def solarised(picture: Picture) -> Picture:
    """Return a picture whose bright values are inverted."""
    return np.asarray(ImageOps.solarize(Image.fromarray(picture), SOLARISE_ABOVE))


def random_part(image: Picture, side: int, generator: np.random.Generator) -> Picture:
    """Return a random part of an image, of random area and aspect, as a square of `side` pixels."""
    top, left, height, width = draw_crop((image.shape[0], image.shape[1]), AREA, generator)
    part = Image.fromarray(image[top : top + height, left : left + width])
    return np.asarray(part.resize((side, side), Image.Resampling.BICUBIC))
