"""Views of a training image with strongly changed colours, which ToCo and SeCo contrast."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from wsss.data.normalisation import Normalisation
from wsss.settings import AugmentParams
from wsss.training.augment import Draws, change
from wsss.training.colour import jitter, turn_hue
from wsss.training.deit_augment import draw_crop

Picture = NDArray[np.uint8]

# ToCo's chain of operations.
JITTERED, GREY = 0.8, 0.2  # probabilities that colours are jittered and that they are removed
BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.4, 0.4, 0.2, 0.1
BLUR = (0.1 / 448, 2 / 448)  # radius as a share of the crop's side; published in pixels, at 448
BLURRED = {"image": 1.0, "whole": 0.1, "local": 0.5}  # probability of a blur, by view
SOLARISED, SOLARISE_ABOVE = 0.2, 128  # probability and threshold, for the whole view
AREA = (0.4, 1.0)  # range of the share of the image that the whole view shows
UNCHANGED = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1.0)  # leaves values as they are


def views(
    image: Picture,
    draws: Draws,
    params: AugmentParams,
    normalise: Normalisation,
    generator: np.random.Generator,
) -> dict[str, NDArray[np.float32]]:
    """Return the views (3, crop, crop) that `params.strong_views` names, normalised.

    image: the original, RGB (H, W, 3). draws: the random numbers of its crop.
    """
    crop = change(image, None, draws, params, UNCHANGED)[0].transpose(1, 2, 0).astype(np.uint8)
    pictures = strong_pictures(image, crop, params, generator)
    return {name: normalise(picture) for name, picture in pictures.items()}


def strong_pictures(
    image: Picture, crop: Picture, params: AugmentParams, generator: np.random.Generator
) -> dict[str, Picture]:
    """Return the views (crop, crop, 3) that `params.strong_views` names, of 8 bits.

    image: the original, RGB (H, W, 3). crop: its training crop (crop, crop, 3).
    """
    names = params.strong_views
    pictures: dict[str, Picture] = {}
    if "image" in names:
        pictures["image"] = strong(crop, BLURRED["image"], False, generator)
    if "whole" in names:
        part = random_part(image, params.crop_px, generator)
        whole = strong(part, BLURRED["whole"], True, generator)
        pictures["whole"] = solarised(whole) if generator.random() < SOLARISED else whole
    if "local" in names:
        pictures["local"] = strong(crop, BLURRED["local"], params.mirror_local_view, generator)
    return pictures


def strong(
    picture: Picture, blurred: float, mirror: bool, generator: np.random.Generator
) -> Picture:
    """Return a picture (h, w, 3) that is jittered, grey or blurred at random.

    blurred: probability of a blur. mirror: also mirror every second picture.
    """
    if mirror and generator.random() < 0.5:
        picture = picture[:, ::-1]
    if generator.random() < JITTERED:
        factors = [generator.uniform(1 - d, 1 + d) for d in (BRIGHTNESS, CONTRAST, SATURATION)]
        picture = jitter(np.ascontiguousarray(picture), (factors[0], factors[1], factors[2]))
        picture = turn_hue(picture, generator.uniform(-HUE, HUE))
    changed = Image.fromarray(np.ascontiguousarray(picture))
    if generator.random() < GREY:
        changed = ImageOps.grayscale(changed).convert("RGB")
    if generator.random() < blurred:
        radius = generator.uniform(*BLUR) * len(picture)
        changed = changed.filter(ImageFilter.GaussianBlur(radius))
    return np.array(changed)


def solarised(picture: Picture) -> Picture:
    """Return a picture (h, w, 3) whose bright values are inverted."""
    return np.array(ImageOps.solarize(Image.fromarray(picture), SOLARISE_ABOVE))


def random_part(image: Picture, side: int, generator: np.random.Generator) -> Picture:
    """Return a random part of an image, of random area and aspect, as a square of `side` pixels."""
    top, left, height, width = draw_crop((image.shape[0], image.shape[1]), AREA, generator)
    part = Image.fromarray(image[top : top + height, left : left + width])
    return np.asarray(part.resize((side, side), Image.Resampling.BICUBIC))
