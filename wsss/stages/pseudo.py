"""Pseudo labels from walked maps or CAMs and a background; a CRF or PAR, saliency, regions refine them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsss.data import labelmap
from wsss.data.images import IMAGENET, load_entry, load_saliency
from wsss.data.index import Entry, Index, load_index
from wsss.data.index_parts import TRAINING
from wsss.datasets.unlisted import missing_labels
from wsss.errors import DatasetError, MissingError, StaleError
from wsss.machine.accelerator import crf_device, device_name
from wsss.progress import progress
from wsss.refine import crf
from wsss.refine.regions import check_regions, load_regions, region_files, snap
from wsss.refine.saliency import attention_image, keep_agreed
from wsss.runs.calibration import pseudo_params
from wsss.runs.inputs import index_parts, saliency_key
from wsss.runs.record import recorder
from wsss.runs.run import Run
from wsss.runs.saliency import SaliencyMaps, maps_of
from wsss.runs.sources import source_files, verify_sources
from wsss.runs.verification import shared_mismatches
from wsss.scores.metrics import seed
from wsss.settings import PseudoParams, SaliencyParams
from wsss.storage import archive
from wsss.storage.archive import Array
from wsss.storage.cam_archive import Cam, cam_reader

MEAN_BGR = (104.008, 116.669, 122.675)  # deeplab-pytorch's mean colour, which CLIP-ES subtracts


def pseudo(run: Run, processes: int = 1) -> None:
    """Write the pseudo labels of every training image.

    Raises:
        DatasetError: `saliency.use` or `regions` is set, but an image has no saliency map or masks.
    """
    verify_sources(run, "pseudo")
    params = pseudo_params(run)
    device = crf_device(run.settings.crf.device) if params.is_refined else None
    crf.check_installed(params.crf, device)
    shared = maps_of([run], ["pseudo"])
    index = with_maps(load_index(run.index, *index_parts(run, "pseudo")), shared)
    target = run.path("pseudo.zip")
    entries, maps = index.training(), run.path(f"{params.source}.zip")
    check_saliency(run, entries)
    regions = regions_read(entries, params)
    record = recorder(run, "pseudo", device_name(device))
    results = pseudo_labels(run, index, maps, processes, device)
    with archive.Writer(target) as writer:
        for image in progress(results, "pseudo labels", len(entries)):
            writer.add(f"{image.name}.png", labelmap.encode(image.after[0]))
            if params.crf != "none":
                writer.add(archive.before_crf(image.name), labelmap.encode(image.before[0]))
    inputs = [*source_files(run, "pseudo"), *regions, *(maps.path for maps in shared)]
    record.write(run.path("pseudo.json"), inputs, [target])


def regions_read(entries: list[Entry], params: PseudoParams) -> list[Path]:
    """Return the files of masks of regions; an error if an image has none, nothing if none are used."""
    if params.regions is None:
        return []
    names = [entry.name for entry in entries]
    check_regions(Path(params.regions), names)
    return region_files(Path(params.regions), names)


def with_maps(index: Index, shared: Iterable[SaliencyMaps]) -> Index:
    """Return an index whose training images have the maps of a network.

    Raises:
        MissingError: there are no maps.
        StaleError: they are not those of the present images, or another file.
    """
    for maps in shared:
        command = (
            f"Run `wsss saliency {maps.dataset}`, or `snakemake --cores 1 --force {maps.path}`."
        )
        if not maps.path.is_file():
            raise MissingError(f"{maps.path} is missing. {command}")
        for mismatch in shared_mismatches(maps):
            raise StaleError(f"{mismatch}. {command}")
        images = (
            dataclasses.replace(entry, saliency=maps.map_of(entry.name))
            if entry.split in TRAINING
            else entry
            for entry in index.images
        )
        index = dataclasses.replace(index, images=tuple(images))
    return index


def check_saliency(run: Run, entries: list[Entry]) -> None:
    """Raise a `DatasetError` if saliency is used and images have no saliency map."""
    is_used = run.settings.pseudo.saliency.use
    missing = [entry.name for entry in entries if not entry.saliency] if is_used else []
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(entries)} training images have no saliency map (the first is "
            f"{missing[0]}). Set {saliency_key(run.params, run.dataset)} to a folder with them or to "
            "u2netp, or pseudo.saliency.use: false."
        )


def pseudo_labels(
    run: Run, index: Index, maps: Path, processes: int, device: str | None
) -> Iterator[crf.Refined]:
    """Yield the pseudo labels (H, W) of every training image, before and after the CRF.

    maps: archive of maps. device: of CRF or PAR, as in `crf.refined`. Where saliency is used, pixels at
    which CAM and saliency disagree become 255. Where regions are used, labels fill them at the end.
    """
    params, entries = pseudo_params(run), index.training()
    images = _supported_labels(run, index, maps, processes, device)
    if params.regions is None:
        yield from images
        return
    fill = functools.partial(_filled_regions, Path(params.regions))
    yield from crf.spread(fill, zip(entries, images, strict=True), processes)


def _filled_regions(regions: Path, job: tuple[Entry, crf.Refined]) -> crf.Refined:
    entry, image = job
    masks = load_regions(regions, entry.name, entry.size)
    return crf.Refined(image.name, image.before, [snap(labels, masks) for labels in image.after])


def _supported_labels(
    run: Run, index: Index, maps: Path, processes: int, device: str | None
) -> Iterator[crf.Refined]:
    """Yield the labels of `pseudo_labels` before regions are used."""
    params, entries = pseudo_params(run), index.training()
    prepare = functools.partial(label_task, maps, params, len(index.classes) + 1, device=device)
    is_here = not params.is_refined or (params.par and device)  # a GPU is used by one process
    refining = 1 if is_here else processes
    images = crf.refined(prepare, entries, params.crf, refining, device)
    if not params.saliency.use:
        yield from images
        return
    keep = functools.partial(_agreed_labels, index, run.path("cam.zip"), params.saliency)
    yield from crf.spread(keep, zip(entries, images, strict=True), processes)


def _agreed_labels(
    index: Index, cams: Path, params: SaliencyParams, job: tuple[Entry, crf.Refined]
) -> crf.Refined:
    entry, image = job
    before, after = (
        [agreed(index, cams, params, entry, labels) for labels in part]
        for part in (image.before, image.after)
    )
    return crf.Refined(image.name, before, after)


def agreed(
    index: Index, cams: Path, params: SaliencyParams, entry: Entry, labels: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return the labels (H, W) that saliency and the attention of a CAM support; 255 elsewhere."""
    cam = cam_reader(cams)[entry.name]
    skipped = set(index.numbers(missing_labels(params.missing_labels, entry)))
    images = {
        int(number): attention_image(scores, wraps=params.wrap_negative)
        for number, scores in zip(cam.labels, cam.full(), strict=True)
        if int(number) not in skipped
    }
    attention = {number: image for number, image in images.items() if image is not None}
    return keep_agreed(labels, load_saliency(entry), attention)


def label(
    maps: Path, params: PseudoParams, classes: int, entry: Entry, device: str | None = None
) -> NDArray[np.uint8]:
    """Return the label (H, W) of one image before saliency. classes: their number, with background."""
    prepare = functools.partial(label_task, maps, params, classes, device=device)
    (image,) = crf.refined(prepare, [entry], params.crf, 1, device)
    return image.after[0]


def label_task(
    maps: Path, params: PseudoParams, classes: int, entry: Entry, device: str | None = None
) -> crf.CrfTask:
    """Return the label (H, W) of one image, after PAR if it is used, for the CRF.

    classes: their number, with background. device: of PAR; None: the processor.
    """
    cam = cam_reader(maps)[entry.name]
    if params.par and len(cam.labels):
        scores = with_background(cam, params)
        rows = par_rows(load_entry(entry), scores, params.par, device)
        before = [np.array([0, *(cam.labels + 1)], np.uint8)[rows]]
    else:
        before = [seed(cam.full(), cam.labels, cam.full_background(float(params.threshold))[0])]
    if params.crf == "none" or not len(cam.labels):
        return crf.CrfTask(entry.name, before)
    picture, cam = crf_input(load_entry(entry), cam, params.crf_picture)
    scores, labels = with_background(cam, params), cam.labels
    unary = crf.scores_unary(scores)
    if params.unary == "labels":
        compact = seed(scores[1:], range(len(labels)), scores[0])
        unary = crf.labels_unary(compact, len(labels) + 1, crf.counted(params, labels, classes))
    names = np.array([0, *(labels + 1)], np.uint8)
    refining = crf.CrfInput(picture, unary[None], names, params.confident or 0.0)
    return crf.CrfTask(entry.name, before, refining)


def with_background(cam: Cam, params: PseudoParams) -> NDArray[np.float32]:
    """Return the maps of a CAM at image size (1 + K, H, W), below that of background."""
    scores, background = cam.full(), cam.full_background(float(params.threshold))
    if params.background == "complement" and cam.background is None:
        background = 1 - scores.max(0, keepdims=True)
    return np.concatenate([background, scores])


def par_rows(
    image: NDArray[np.uint8], scores: Array, iterations: int, device: str | None
) -> NDArray[np.int64]:
    """Return the highest of scores (K, H, W) at each pixel of an RGB image (H, W, 3) after PAR."""
    import torch  # noqa: PLC0415  # takes seconds

    from wsss.refine import par  # noqa: PLC0415  # imports torch

    picture = torch.from_numpy(image).permute(2, 0, 1)[None].to(device or "cpu") / 255
    spread = par.refine(picture, torch.from_numpy(scores)[None].to(picture), iterations=iterations)
    return np.asarray(spread[0].argmax(0).cpu().numpy())


def wrapped_picture(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an RGB image (H, W, 3), blue first, less the mean colour, with 8 bits.

    Values are truncated, and negative ones wrap around: what is darker than the mean becomes bright.
    """
    centred = np.trunc(image[..., ::-1] - np.array(MEAN_BGR)).astype(np.int64)
    return np.asarray((centred % 256).astype(np.uint8))


def crf_input(image: NDArray[np.uint8], cam: Cam, kind: str) -> tuple[NDArray[np.uint8], Cam]:
    """Return the picture (H, W, 3) that guides the CRF, and the CAM at the picture's size.

    kind: `original`; `padded`: the image is normalised, padded to whole cells and converted back
    to 8 bits; or `wrapped`, see `wrapped_picture`.
    """
    if kind == "original":
        return image, cam
    if kind == "wrapped":
        return wrapped_picture(image), cam
    from wsss.data.normalisation import Normalisation  # noqa: PLC0415  # imports torch

    height, width = (side + -side % cam.stride for side in image.shape[:2])
    padding = ((0, 0), (0, height - image.shape[0]), (0, width - image.shape[1]))
    mean, std = np.array(IMAGENET)
    # The published code normalises in float64 and converts back in float32: 38 % of values lose 1.
    normalised = ((image / 255 - mean) / std).astype(np.float32).transpose(2, 0, 1)
    picture = Normalisation(*IMAGENET).undo(np.pad(normalised, padding))
    return picture, dataclasses.replace(cam, size=(height, width))
