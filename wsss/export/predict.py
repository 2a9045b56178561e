"""Segment a user's own images with a trained run: masks, overlays, CAM panels."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from wsss.data import labelmap
from wsss.data.images import load_image
from wsss.data.index import Entry
from wsss.errors import ConfigError, DatasetError, WsssError, one_line
from wsss.export.photographs import Photograph, known_labels
from wsss.inference.cam_maps import merged_cams
from wsss.inference.multiscale import (
    Forward,
    ImageViews,
    LabelledForward,
    inference,
    plan_batches,
)
from wsss.inference.trained import normalisation, restore, without_gradients
from wsss.inference.views import cam_augmentation, decode_augmentation, segmenter_augmentation
from wsss.machine.accelerator import crf_device
from wsss.machine.runtime import Runtime
from wsss.methods.base import build_method
from wsss.nets.deeplab import build_deeplab
from wsss.progress import log, progress
from wsss.report.figures import panels
from wsss.report.tables.long import csv_text
from wsss.runs.run import Run
from wsss.stages.cam import cam_forward
from wsss.stages.masks import predicted_labels
from wsss.storage import checkpoint
from wsss.storage.files import write_bytes, write_text

Kind = Literal["segmenter", "decoder", "cams"]  # what masks come from; cams: there are none
PRESENT = 0.5  # probability above which a class counts as present
CHUNK = 64  # images that are read before their networks run
LISTED = 10  # images that could not be used, in the last line


@dataclasses.dataclass(frozen=True)
class Heat:
    """The CAM of a class in an image: probability of the class, map (H, W) in [0, 1]."""

    name: str
    probability: float
    values: NDArray[np.float32]


def kind_of(run: Run, named: str | None) -> Kind:
    """Return what the masks of a run's images come from: what is named, or what is trained.

    Raises:
        ConfigError: the run cannot have it.
    """
    network = run.spec.cam_network
    if named is None:
        return _trained_kind(run)
    if named not in get_args(Kind):
        raise ConfigError(f"--with {named!r} is not one of {', '.join(get_args(Kind))}.")
    if named == "decoder" and not run.spec.decodes:
        raise ConfigError(f"{run.method} has no decoder of its own: use --with segmenter.")
    if named == "cams" and network is None:
        raise ConfigError(f"{run.method} has no network with CAMs: use --with segmenter.")
    return "segmenter" if named == "segmenter" else "decoder" if named == "decoder" else "cams"


def _trained_kind(run: Run) -> Kind:
    """Return the kind of masks that the trained networks of a run suffice for."""
    network = run.spec.cam_network
    if run.path("segmenter.safetensors").is_file() or network is None:
        return "segmenter"
    if not run.path(f"{network}.safetensors").is_file():
        return "segmenter"  # whose absence is the error to be told
    kind: Kind = "decoder" if run.spec.decodes else "cams"
    words = {"decoder": "masks are of the method's own decoder", "cams": "CAMs alone are written"}
    log.warning("%s has no trained segmenter: %s.", run, words[kind])
    return kind


def stages_used(run: Run, kind: Kind) -> list[str]:
    """Return the stages of a run whose records a prediction needs; networks alone without masks."""
    network = run.spec.cam_network
    if kind != "segmenter":
        return [str(network)]
    return ["segmenter", "masks", *([network, "cam"] if network else [])]


def predict(
    run: Run, images: Sequence[Photograph], out: Path, kind: Kind, labels: str | None = None
) -> int:
    """Write masks, overlays and CAM panels of images; return their number.

    labels: the classes of the images if they are known, see `known_labels`; CAMs are of these. The table
    `classes.csv` has a line for each class in an image: its share of the pixels of the mask or, without
    masks, its probability.

    Raises:
        DatasetError: some images could not be used; the others are written.
    """
    prediction = Prediction(run, out, kind, images, labels)
    count, failures = 0, dict[str, str]()
    for image, failure in progress(prediction.results(images), "predict", len(images)):
        if failure:
            failures[str(image.path)] = failure
            if len(images) > 1:
                log.warning("%s", one_line(failure))
        else:
            count += 1
    if count:
        prediction.write_table(images)
    if failures:
        raise DatasetError(_failed(failures, len(images), out))
    return count


def _failed(failures: dict[str, str], total: int, out: Path) -> str:
    """Return the message for images that could not be used."""
    first, *others = failures.values()
    if total == 1:
        return first
    names = ", ".join(list(failures)[1:LISTED])
    more = f" and {len(failures) - LISTED} more" if len(failures) > LISTED else ""
    rest = f" Also {names}{more}." if others else ""
    written = f"; the others are in {out}" if len(failures) < total else ""
    return f"{len(failures)} of {total} images could not be used{written}. {first}{rest}"


class Prediction:
    """Writes what the networks of a run say of images."""

    def __init__(
        self, run: Run, out: Path, kind: Kind, images: Sequence[Photograph], labels: str | None
    ) -> None:
        runtime = Runtime.start("auto")
        self._out, self._kind = out, kind
        self._masks = None if kind == "cams" else MaskNetwork(run, runtime, kind)
        self._cams = CamNetwork(run, runtime) if run.spec.cam_network else None
        self._rows: dict[str, list[tuple[str, float]]] = {}
        classes = self._cams.classes if self._cams else []
        if labels is not None and not self._cams:
            raise ConfigError(f"{run.method} has no network with CAMs: leave out --labels.")
        self._labels = None if labels is None else known_labels(labels, images, classes)

    def results(self, images: Sequence[Photograph]) -> Iterator[tuple[Photograph, str]]:
        """Yield each image when it is done, with the reason why it could not be used, or ''."""
        for start in range(0, len(images), CHUNK):
            entries: list[Entry] = []
            readable: list[Photograph] = []
            for image in images[start : start + CHUNK]:
                try:
                    size = load_image(image.path).shape[:2]
                except WsssError as error:
                    yield image, str(error)
                    continue
                entries.append(Entry(image.name, str(image.path), None, (), "test", size, ""))
                readable.append(image)
            self._write(entries)
            yield from ((image, "") for image in readable)

    def _write(self, entries: Sequence[Entry]) -> None:
        if self._masks:
            for entry, labels in self._masks(entries):
                self._write_mask(entry, labels, self._masks.classes)
        if self._cams:
            for entry, heats in self._cams(entries, self._labels):
                self._write_cams(entry, heats)

    def _write_mask(self, entry: Entry, labels: NDArray[np.uint8], classes: Sequence[str]) -> None:
        image = load_image(entry.path)
        write_bytes(self._out / "masks" / f"{entry.name}.png", labelmap.encode(labels))
        write_bytes(
            self._out / "overlays" / f"{entry.name}.png", png(panels.overlay(image, labels))
        )
        shares = np.bincount(labels.ravel(), minlength=len(classes) + 1) / labels.size
        rows = [
            (name, round(float(share), 6))
            for name, share in zip(classes, shares[1:], strict=False)
            if share
        ]
        self._rows[entry.name] = rows
        names = ", ".join(name for name, _ in rows) or "background only"
        log.info("%s", one_line(f"{entry.path}: {names}"))

    def _write_cams(self, entry: Entry, heats: Sequence[Heat]) -> None:
        image = load_image(entry.path)
        for heat in heats:
            panel = png(panels.heat(image, heat.values))
            write_bytes(self._out / "cams" / f"{entry.name}-{file_name(heat.name)}.png", panel)
        if not self._masks:
            self._rows[entry.name] = [(heat.name, round(heat.probability, 6)) for heat in heats]
            names = ", ".join(heat.name for heat in heats) or "no class"
            log.info("%s", one_line(f"{entry.path}: {names}"))

    def write_table(self, images: Sequence[Photograph]) -> None:
        """Write classes.csv, in the order of the images."""
        column = "share" if self._masks else "probability"
        rows: list[dict[str, str | float]] = [
            {"image": one_line(str(image.path)), "class": name, column: value}
            for image in images
            for name, value in self._rows.get(image.name, [])
        ]
        write_text(self._out / "classes.csv", csv_text(rows, ("image", "class", column)))


def file_name(text: str) -> str:
    """Return a class name as part of a file name, with slashes escaped reversibly."""
    return text.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")


def png(image: NDArray[np.uint8]) -> bytes:
    """Return an RGB image (H, W, 3) as the bytes of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


class MaskNetwork:
    """The network that predicts masks, with its test-time augmentation and CRF.

    It is the trained segmenter of a run, or the method's own decoder.
    """

    def __init__(self, run: Run, runtime: Runtime, kind: Kind) -> None:
        settings = run.settings
        name = "segmenter" if kind == "segmenter" else str(run.spec.cam_network)
        path = run.path(f"{name}.safetensors")
        self.classes = checkpoint.classes(path)
        self._runtime, self._device = runtime, crf_device(settings.crf.device)
        if kind == "segmenter":
            count = len(self.classes)
            segmenter = restore(lambda: build_deeplab(settings.segmenter, count), path, runtime)
            self._params, self._augmentation = (
                settings.segmenter.test,
                segmenter_augmentation(settings.segmenter),
            )
            self._forward = without_gradients(segmenter)
            self._normalise = normalisation(segmenter)
        else:
            method = build_method(run, len(self.classes))
            net = restore(lambda: method.build(name), path, runtime)
            self._params, self._augmentation = settings.decode, decode_augmentation(settings.decode)
            self._forward = without_gradients(lambda images: method.decode(net, images))
            self._normalise = normalisation(net)

    def __call__(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, NDArray[np.uint8]]]:
        """Yield images with their labels (H, W), those of one size together."""
        params, by_name = self._params, {entry.name: entry for entry in entries}
        batches = plan_batches(entries, params.batch, self._augmentation, params.batch_megapixels)
        results = inference(
            self._forward, batches, self._augmentation, self._normalise, self._runtime
        )
        merged = ((members, logits) for members, (logits,) in results)
        for image in predicted_labels(merged, params, self._normalise, device=self._device):
            yield by_name[image.name], image.after[0]


class CamNetwork:
    """The CAM network of a run, with its test-time augmentation."""

    def __init__(self, run: Run, runtime: Runtime) -> None:
        name = str(run.spec.cam_network)
        path = run.path(f"{name}.safetensors")
        self.classes = checkpoint.classes(path)
        full_size = {"stride": 1, "high_res": False}  # one cell per pixel of the image
        self._params = run.settings.cam.model_copy(update=full_size)
        self._runtime = runtime
        self._method = build_method(run, len(self.classes))
        self._net = restore(lambda: self._method.build(name), path, runtime)

    def __call__(
        self, entries: Sequence[Entry], given_labels: dict[str, list[int]] | None
    ) -> Iterator[tuple[Entry, list[Heat]]]:
        """Yield images with the CAMs of the given classes, or of those that are probably present.

        given_labels: numbers of the classes of each image, by its name.
        """
        params, augmentation = self._params, cam_augmentation(self._params)
        batches = plan_batches(entries, params.batch, augmentation, params.batch_megapixels)
        present: dict[str, tuple[list[int], Tensor]] = {}  # labels and probabilities of an image

        def labelled(members: Sequence[Entry]) -> Forward:
            rows = self._probabilities(members)
            for entry, row in zip(members, rows, strict=True):
                predicted = torch.nonzero(row > PRESENT).flatten().tolist()
                labels = predicted if given_labels is None else given_labels[entry.name]
                present[entry.name] = labels, row
            vectors = torch.zeros_like(rows)
            for vector, entry in zip(vectors, members, strict=True):
                vector[present[entry.name][0]] = 1
            return cam_forward(self._method, self._net, params, vectors)

        forward, normalise = LabelledForward(labelled), normalisation(self._net)
        for members, maps in inference(forward, batches, augmentation, normalise, self._runtime):
            labels = [present[entry.name][0] for entry in members]
            cams = merged_cams(maps, labels, members[0].size, params)()
            for entry, cam in zip(members, cams, strict=True):
                numbers, row = present.pop(entry.name)
                yield (
                    entry,
                    [
                        Heat(self.classes[number], float(row[number]), values.astype(np.float32))
                        for number, values in zip(numbers, cam.cam, strict=True)
                    ],
                )

    def _probabilities(self, entries: Sequence[Entry]) -> Tensor:
        """Return the probability (B, classes) of each class, from images at their own scale."""
        whole = dataclasses.replace(cam_augmentation(self._params), scales=(1.0,))
        (batch,) = ImageViews([list(entries)], normalisation(self._net), whole)[0]
        classify = without_gradients(lambda images: self._method.logits(self._net, images))
        return classify(self._runtime.send(batch)).sigmoid().cpu()
