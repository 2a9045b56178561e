"""The trained networks of a run, applied to images in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsss.api.arrays import ImageLike, image_pixels
from wsss.api.refinement import Affinities
from wsss.api.results import ClassMaps, PathLike, located
from wsss.data.normalisation import Normalisation
from wsss.errors import ConfigError, DatasetError
from wsss.export.predict import PRESENT
from wsss.inference.cam_maps import merged_cam
from wsss.inference.multiscale import Forward, Halving, picture_maps
from wsss.inference.trained import normalisation, restore, without_gradients
from wsss.inference.views import (
    TestTimeAugmentation,
    cam_augmentation,
    segmenter_augmentation,
)
from wsss.machine.accelerator import crf_device
from wsss.machine.runtime import Runtime
from wsss.methods.base import Method, build_method
from wsss.nets.affinitynet import AffinityNet, build_affinity_network
from wsss.nets.backbone import Network
from wsss.nets.deeplab import build_deeplab
from wsss.nets.frozen import FrozenNet
from wsss.nets.irn import IRN
from wsss.refine import crf
from wsss.runs.recorded import RecordedRun, check_records
from wsss.settings import SegmenterTestParams
from wsss.stages.cam import cam_forward
from wsss.stages.masks import crf_picture, probabilities, scores
from wsss.stages.walk import Neighbours, affinity_forward, neighbours, spread_cam
from wsss.storage import checkpoint

Device = Literal["auto", "cpu"]


def load(
    name: str,
    root: PathLike = ".",
    params: PathLike | Sequence[PathLike] = (),
    device: Device = "auto",
) -> Model:
    """Return the trained networks of a run; each is read when it is first used.

    name, root: as in `open_run`. params: parameter files for the settings that the records of the run
    lack; without any, such a record is an error. device: `auto` takes a GPU if there is one.

    Raises:
        ConfigError: the name is not one of a run, or a parameter file has a problem.
        MissingError: there is no such run.
    """
    if device not in ("auto", "cpu"):
        raise ConfigError(f"device is {device!r}. It can be 'auto' or 'cpu'.")
    return Model(located(name, root, params), fills_gaps=bool(params), device=device)


class Model:
    """The trained networks of one run, with the settings that stand in its records.

    A result equals the one that the stages of the run write for the same image, but for rounding:
    networks may add numbers in another order where images share a batch.
    """

    def __init__(self, run: RecordedRun, fills_gaps: bool, device: Device) -> None:
        self._run, self._fills_gaps, self._device = run, fills_gaps, device

    def __repr__(self) -> str:
        return f"wsss.load({str(self._run)!r}, root={str(self._run.root)!r})"

    @property
    def name(self) -> str:
        """The name of the run, dataset/method/protocol/sSEED."""
        return str(self._run)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels 1, 2, … of label images; 0 is background."""
        network = self._run.spec.cam_network or "segmenter"
        present = self._run.path(f"{network}.safetensors").is_file()
        weights = network if present else "segmenter"
        return tuple(checkpoint.classes(self._run.path(f"{weights}.safetensors")))

    def probabilities(self, image: ImageLike) -> dict[str, float]:
        """Return the probability in [0, 1] of each class, from the CAM network at the image's own size.

        image: as in `cam`.
        """
        method, net = self._cam_network
        whole = dataclasses.replace(
            cam_augmentation(self._run.settings.cam), scales=(1.0,), mirror=False
        )
        pixels = image_pixels(image)
        picture = self._runtime.stack([torch.from_numpy(whole.pictures(pixels)[0])])
        (view,) = whole.views_on_device([picture], normalisation(net))
        classify = without_gradients(lambda images: method.logits(net, images))
        values = classify(self._runtime.send(view))[0].sigmoid().tolist()
        return dict(zip(self.classes, values, strict=True))

    def cam(self, image: ImageLike, labels: str | Iterable[str] | None = None) -> ClassMaps:
        """Return the CAMs of an image as the stage `cam` computes them, of scores in [0, 1].

        image: a file, a picture of Pillow, or RGB pixels (H, W, 3) from 0 to 255; floats in [0, 1] are
        multiplied by 255. labels: names of the classes in the image; None: those whose probability is
        above 0.5.

        Raises:
            ConfigError: the run has no CAMs, or there is no such class.
            DatasetError: it is not an image.
            MissingError: the CAM network or a record of its settings is missing.
        """
        method, net = self._cam_network
        pixels = image_pixels(image)
        if labels is None:
            probable = self.probabilities(pixels)
            labels = [name for name, value in probable.items() if value > PRESENT]
        numbers = class_numbers(self.classes, labels, self.name)
        params = self._run.settings.cam
        present = torch.zeros(1, len(self.classes))
        present[0, numbers] = 1
        forward = cam_forward(method, net, params, present)
        maps = self._maps(forward, pixels, cam_augmentation(params), normalisation(net))
        size = (pixels.shape[0], pixels.shape[1])
        cam = merged_cam([part[0] for part in maps], numbers, size, params)
        return ClassMaps(cam, tuple(self.classes[number] for number in numbers))

    def affinities(self, image: ImageLike) -> Affinities:
        """Return the affinities of the cells of an image, for `random_walk`. image: as in `cam`."""
        near = self._neighbours(image_pixels(image))
        pairs = {offset: part[0].cpu().numpy() for offset, part in near.pairs}
        return Affinities(pairs, near.grid, near.margin, near.stride)

    def walk(self, image: ImageLike, cam: ClassMaps) -> ClassMaps:
        """Return class maps after the random walk of the run, as the stage `walk` computes them.

        image: as in `cam`. cam: from `Model.cam` or `RunResults.cam` for the same image.

        Raises:
            ConfigError: the run has no random walk.
            DatasetError: maps and image differ in size.
        """
        pixels = image_pixels(image)
        if cam.stored.size != pixels.shape[:2]:
            raise DatasetError(
                f"The maps are of an image of {cam.stored.size}, the image has {pixels.shape[:2]} pixels."
            )
        walked = spread_cam(cam.stored, self._neighbours(pixels), self._run.settings.walk)
        return ClassMaps(walked, cam.classes)

    def predict(self, image: ImageLike) -> NDArray[np.uint8]:
        """Return the label image (H, W) of the segmenter: 0 is background, 1 to C the classes.

        Views at test and CRF are those of the run. image: as in `cam`.

        Raises:
            ConfigError: the run has no segmenter.
            DatasetError: it is not an image.
            MissingError: the segmenter or a record of its settings is missing.
        """
        net, pixels = self._segmenter, image_pixels(image)
        settings, normalise = self._run.settings.segmenter, normalisation(net)
        augmentation = segmenter_augmentation(settings)
        (merged,) = self._maps(without_gradients(net), pixels, augmentation, normalise)
        if settings.test.crf == "none":
            labels = scores(merged, settings.test).argmax(1)[0].to(torch.uint8)
            return np.asarray(labels.cpu().numpy())
        return self._refined(pixels, merged, settings.test, normalise)

    def _refined(
        self,
        pixels: NDArray[np.uint8],
        merged: Tensor,
        test: SegmenterTestParams,
        normalise: Normalisation,
    ) -> NDArray[np.uint8]:
        device = crf_device(self._run.settings.crf.device) if self._device == "auto" else None
        crf.check_installed(test.crf, device)
        picture = crf_picture(pixels, test.crf_picture, normalise)
        task = crf.score_task("image", picture, probabilities(merged, test)[0])
        (refined,) = crf.refined(crf.unchanged, [task], test.crf, device=device)
        return refined.after[0]

    def _maps(
        self,
        forward: Forward,
        pixels: NDArray[np.uint8],
        augmentation: TestTimeAugmentation,
        normalise: Normalisation,
    ) -> list[Tensor]:
        """Return the merged maps (1, C, h, w) of an image, in parts where a GPU has too little memory."""
        size = (pixels.shape[0], pixels.shape[1])

        def maps(pictures: Sequence[list[Tensor]]) -> list[Tensor]:
            return picture_maps(forward, pictures, augmentation, normalise, size, self._runtime)

        pictures = [torch.from_numpy(picture) for picture in augmentation.pictures(pixels)]
        return Halving()(maps, [pictures], size)

    def _neighbours(self, pixels: NDArray[np.uint8]) -> Neighbours:
        net, settings = self._affinity_network, self._run.settings
        (view,) = TestTimeAugmentation().views([pixels], normalisation(net))
        forward = without_gradients(affinity_forward(net, settings.walk.pad_px))
        with self._runtime.autocast():
            output = forward(self._runtime.send(view))[0].float()
        return neighbours(output, net.stride, settings.affinity, settings.walk)

    @cached_property
    def _runtime(self) -> Runtime:
        if self._device == "cpu":
            return Runtime(torch.device("cpu"), torch.float32)
        return Runtime.start("auto")

    @cached_property
    def _cam_network(self) -> tuple[Method, Network]:
        network = self._run.spec.cam_network
        if network is None:
            raise ConfigError(f"{self.name} has no CAMs: it learns from masks. Load another run.")
        self._check_records(network, "cam")
        method = build_method(self._run, len(self.classes))
        path = self._run.path(f"{network}.safetensors")
        return method, restore(lambda: method.build(network), path, self._runtime)

    @cached_property
    def _affinity_network(self) -> AffinityNet | IRN | FrozenNet:
        self._check_stage("walk", "random walk")
        self._check_records("affinity", "walk")
        params, path = self._run.settings.affinity, self._run.path("affinity.safetensors")
        return restore(lambda: build_affinity_network(params), path, self._runtime)

    @cached_property
    def _segmenter(self) -> Network:
        self._check_stage("masks", "segmenter")
        self._check_records("segmenter", "masks")
        settings, path = self._run.settings.segmenter, self._run.path("segmenter.safetensors")
        count = len(checkpoint.classes(path))
        return restore(lambda: build_deeplab(settings, count), path, self._runtime)

    def _check_stage(self, stage: str, what: str) -> None:
        stages = self._run.stages()
        if stage not in stages:
            raise ConfigError(f"{self.name} has no {what}. Its stages are {', '.join(stages)}.")

    def _check_records(self, *stages: str) -> None:
        if not self._fills_gaps:
            check_records(self._run, stages)


def class_numbers(classes: Sequence[str], names: str | Iterable[str], where: str) -> list[int]:
    """Return the numbers (from 0) of class names, ascending; one name may stand alone."""
    chosen = [names] if isinstance(names, str) else list(names)
    for name in chosen:
        if name not in classes:
            raise ConfigError(
                f"{name!r} is not a class of {where}. The classes are {', '.join(classes)}."
            )
    return sorted({classes.index(name) for name in chosen})
