"""The mean field of the dense CRF in PyTorch, on a GPU or a CPU, for several images at once.

It evaluates the model of `crf.infer` on the lattice of `permutohedral`. The results of an image do not
depend on the other images of its batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsss.refine.permutohedral import Lattice, pixel_places
from wsss.settings.base import CrfSet

Picture = NDArray[np.uint8]
Energies = NDArray[np.float32]

SMALLEST = 1e-20  # added to the sums that kernels are divided by (pydensecrf)


@dataclass(frozen=True)
class Kernel:
    """A normalised Gaussian kernel between pixels.

    scale: (pixels, 1), the square root of the weight over the square root of the kernel's sum.
    """

    lattice: Lattice
    scale: Tensor

    @classmethod
    def of(cls, points: Tensor, images: Tensor, weight: float) -> Kernel:
        """Return the kernel between points (pixels, d) in units of its standard deviations.

        images: (pixels,), the number of the image of each point.
        """
        lattice = Lattice(points, images)
        sums = lattice.blur(points.new_ones(len(points), 1), fixed_point=True)
        return cls(lattice, math.sqrt(weight) * (sums + SMALLEST).rsqrt())

    def message(self, beliefs: Tensor) -> Tensor:
        """Return the weighted sums (pixels, ...) of the beliefs of all pixels."""
        flat = self.scale * beliefs.flatten(1)
        return (self.scale * self.lattice.blur(flat, fixed_point=True)).view_as(beliefs)


@torch.inference_mode()
def posteriors(
    pictures: Sequence[Picture], energies: Sequence[Energies], kernels: CrfSet, device: str
) -> list[Tensor]:
    """Return the posteriors (E, labels, height, width) of each image, on the device.

    pictures: 8-bit RGB (height, width, 3). energies: float32 (E, labels, pixels) of each picture, with
    the same E and the same number of labels for all.
    """
    numbers, places, colours = _features(pictures, device)
    energy = torch.cat([torch.from_numpy(array).to(device).permute(2, 0, 1) for array in energies])
    near = Kernel.of(places / kernels.position_px, numbers, kernels.position_weight)
    pair = torch.cat((places / kernels.pair_px, colours / kernels.pair_grey), 1)
    alike = Kernel.of(pair, numbers, kernels.pair_weight)
    beliefs = (-energy).softmax(2)
    for _ in range(kernels.iterations):
        beliefs = (near.message(beliefs) + alike.message(beliefs) - energy).softmax(2)
    results, first = [], 0
    for picture in pictures:
        height, width = picture.shape[:2]
        part = beliefs[first : first + height * width]
        results.append(part.permute(1, 2, 0).reshape(*part.shape[1:], height, width))
        first += height * width
    return results


def best_rows(
    pictures: Sequence[Picture],
    energies: Sequence[Energies],
    kernels: CrfSet,
    device: str,
    confident: float = 0.0,
) -> list[list[NDArray[np.uint8]]]:
    """Return, for each image and each of its energies, the most probable rows (height, width).

    confident: rows whose posterior is below it are 255. Other parameters as in `posteriors`.
    """
    images = []
    for image in posteriors(pictures, energies, kernels, device):
        largest, rows = image.max(1)
        images.append(
            list(rows.masked_fill(largest < confident, 255).to(torch.uint8).cpu().numpy())
        )
    return images


def _features(pictures: Sequence[Picture], device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return the image number (n,), place (n, 2) and colour (n, 3) of the pixels of all pictures."""
    numbers, places, colours = [], [], []
    for number, picture in enumerate(pictures):
        colour = torch.from_numpy(picture.copy()).to(device).flatten(0, 1)
        height, width = picture.shape[:2]
        numbers.append(torch.full((len(colour),), number, device=device))
        places.append(pixel_places(height, width, colour.device))
        colours.append(colour.float())
    return torch.cat(numbers), torch.cat(places), torch.cat(colours)
