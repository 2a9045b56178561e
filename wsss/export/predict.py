"""Segment a user's own images with a trained run: masks, overlays, CAM panels."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from wsss.data import labelmap
from wsss.data.images import load_image
from wsss.data.index import Entry
from wsss.errors import DatasetError, one_line
from wsss.inference.cam_maps import merged_cam
from wsss.inference.multiscale import ImageViews, multiscale
from wsss.inference.trained import normalisation, restore, without_gradients
from wsss.inference.views import cam_augmentation, segmenter_augmentation
from wsss.machine.accelerator import crf_device
from wsss.machine.runtime import Runtime
from wsss.methods.base import build_method
from wsss.nets.deeplab import build_deeplab
from wsss.progress import log, progress
from wsss.report.figures import panels
from wsss.report.tables.long import csv_text
from wsss.runs.run import Run
from wsss.stages.cam import cam_forward
from wsss.stages.masks import decide
from wsss.storage import checkpoint
from wsss.storage.files import replacing, write_text

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
PRESENT = 0.5  # probability from which a class gets a CAM panel


def predict(run: Run, sources: Sequence[Path], out: Path) -> int:
    """Write masks, overlays and CAM panels of images and folders of images; return their number.

    `classes.csv` has a line for each class predicted in an image, with its share of the pixels.

    Raises:
        DatasetError: there is no image, two images have one name, or an image cannot be read.
    """
    paths = unique(list(image_paths(sources)))
    runtime = Runtime.start("auto")
    segment = Segmenter(run, runtime)
    cam_panels = None if run.spec.learns_masks else CamNetwork(run, runtime)
    classes: list[dict[str, str | float]] = []
    for path in progress(paths, "predict"):
        image = load_image(path)
        entry = Entry(path.stem, str(path), None, (), "test", image.shape[:2], "")
        labels = segment(entry)
        save(out / "masks" / f"{path.stem}.png", labelmap.encode(labels))
        save(out / "overlays" / f"{path.stem}.png", png(panels.overlay(image, labels)))
        names = [segment.classes[label - 1] for label in np.unique(labels) if label]
        shares = np.bincount(labels.ravel(), minlength=len(segment.classes) + 1) / labels.size
        for name in names:
            share = round(float(shares[1 + segment.classes.index(name)]), 6)
            classes.append({"image": one_line(str(path)), "class": name, "share": share})
        log.info("%s", one_line(f"{path}: {', '.join(names) or 'background only'}"))
        for name, panel in cam_panels(entry, image) if cam_panels else ():
            save(out / "cams" / f"{path.stem}-{file_name(name)}.png", png(panel))
    write_text(out / "classes.csv", csv_text(classes, ("image", "class", "share")))
    return len(paths)


def stages_used(run: Run) -> list[str]:
    """Return the stages of a run whose networks or settings a prediction uses."""
    network = run.spec.cam_network
    return ["segmenter", "masks", *([network, "cam"] if network else [])]


def image_paths(sources: Sequence[Path]) -> Iterator[Path]:
    """Yield the images among `sources`, and the images directly inside their folders, sorted."""
    for source in sources:
        if source.is_dir():
            inside = sorted(path for path in source.iterdir() if path.suffix.lower() in SUFFIXES)
            if not inside:
                raise DatasetError(
                    f"The folder {source} holds no images ({', '.join(sorted(SUFFIXES))})."
                )
            yield from inside
        elif source.exists():
            yield source
        else:
            raise DatasetError(f"{source} does not exist. Name images or folders of images.")


def unique(paths: Sequence[Path]) -> Sequence[Path]:
    """Return `paths`; raise a `DatasetError` if two would be written under one name."""
    by_name: dict[str, Path] = {}
    for path in paths:
        if path.stem in by_name:
            raise DatasetError(
                f"{by_name[path.stem]} and {path} would both be written as {path.stem}.png. Rename one of them."
            )
        by_name[path.stem] = path
    return paths


def save(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def file_name(text: str) -> str:
    """Return a class name as part of a file name, with slashes escaped reversibly."""
    return text.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")


def png(image: NDArray[np.uint8]) -> bytes:
    """Return an RGB image (H, W, 3) as the bytes of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


class Segmenter:
    """The trained segmenter of a run, with its test-time augmentation and CRF."""

    def __init__(self, run: Run, runtime: Runtime) -> None:
        path = run.path("segmenter.safetensors")
        self.classes = checkpoint.classes(path)
        self._params, self._runtime = run.settings.segmenter, runtime
        self._device = crf_device(run.settings.crf.device)
        self._net = restore(
            lambda: build_deeplab(run.settings.segmenter, len(self.classes)), path, runtime
        )

    def __call__(self, entry: Entry) -> NDArray[np.uint8]:
        """Return the labels (H, W) of one image."""
        test, normalise = self._params.test, normalisation(self._net)
        augmentation = segmenter_augmentation(self._params)
        views = ImageViews([[entry]], normalise, augmentation)[0]
        forward = without_gradients(self._net)
        (merged,) = multiscale(forward, views, augmentation, entry.size, self._runtime)
        return decide([entry], merged, test, normalise, self._device)[0]


class CamNetwork:
    """The CAM network of a run, with its test-time augmentation."""

    def __init__(self, run: Run, runtime: Runtime) -> None:
        name = str(run.spec.cam_network)
        path = run.path(f"{name}.safetensors")
        self._classes = checkpoint.classes(path)
        full_size = {"stride": 1, "high_res": False}  # one cell per pixel of the image
        self._params = run.settings.cam.model_copy(update=full_size)
        self._runtime = runtime
        self._method = build_method(run, len(self._classes))
        self._net = restore(lambda: self._method.build(name), path, runtime)

    def __call__(
        self, entry: Entry, image: NDArray[np.uint8]
    ) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """Yield the name and the heat map (H, W, 3) of each class that is probably present."""
        params, augmentation = self._params, cam_augmentation(self._params)
        scales = (1.0, *augmentation.scales)  # the first view is classified, the others are mapped
        resized = dataclasses.replace(augmentation, scales=scales)
        whole, *views = ImageViews([[entry]], normalisation(self._net), resized)[0]
        classify = without_gradients(lambda batch: self._method.logits(self._net, batch))
        present = classify(self._runtime.send(whole)).sigmoid() > PRESENT
        labels = torch.nonzero(present[0]).flatten().tolist()
        forward = cam_forward(self._method, self._net, params, present.float())
        (maps,) = multiscale(forward, views, augmentation, entry.size, self._runtime)
        cam = merged_cam([maps[0]], labels, entry.size, params)
        for label, heat in zip(labels, cam.cam, strict=True):
            yield self._classes[label], panels.heat(image, heat.astype(np.float32))
