"""A whole run without training: real archives, records and evaluations around weights of a few bytes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from wsss.data import labelmap
from wsss.data.images import load_mask
from wsss.data.index import Entry, Index, save_index
from wsss.data.index_parts import PARTS, part_path
from wsss.data.manifest import Manifest, Sources, save_manifest
from wsss.runs.calibration import thresholds_path
from wsss.runs.inputs import data_code, data_slice, index_files, manifest_path
from wsss.runs.record import Recorder
from wsss.runs.run import WORK, Run, stage_kind
from wsss.scores.metrics import seed
from wsss.settings import Params
from wsss.stages.calibrate import calibrate
from wsss.stages.evaluate import evaluate
from wsss.storage import archive
from wsss.storage.cam_archive import Cam, grid, pack
from wsss.storage.files import write_text

STRIDE = 4
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    '犬 "a" & b',
)  # names of classes


def make_dataset(index: Index, dataset: str, params: Params, names: Sequence[str]) -> Index:
    """Write an index with its record; its classes are called `names`."""
    new = dict(zip(index.classes, names, strict=True))
    images = tuple(
        replace(image, labels=tuple(new[label] for label in image.labels)) for image in index.images
    )
    renamed = Index(dataset, tuple(names), images)
    path = WORK / dataset / "index.json"
    save_index(renamed, path)
    save_manifest(Manifest(Sources(), {}), manifest_path(dataset))
    record = Recorder("data", data_slice(params, dataset), data_code(dataset))
    record.write(path.with_name("data.json"), [], [path, *(part_path(path, p) for p in PARTS)])
    return renamed


def make_run(run: Run, index: Index) -> None:
    """Write every artifact, record and evaluation of a run, in the order of its stages."""
    make_stages(run, index, run.stages())


def make_stages(variant: Run, index: Index, stages: Sequence[str]) -> None:
    """Write the artifacts, records and evaluations of some stages of a run, in this order.

    Those that a variant shares are its base's.
    """
    done: list[Path] = []
    for stage in stages:
        run = variant.owner(stage)
        if stage.startswith("eval/"):
            evaluate(run, stage.removeprefix("eval/"))
        elif stage_kind(stage) == "calibrate":
            calibrate(run, stage.removeprefix("calibrate-"))
            done.append(thresholds_path(run, stage.removeprefix("calibrate-")))
        else:
            artifact = _make(run, stage, index)
            recorder = Recorder(stage, run.slice(stage), run.code(stage), run.seed)
            outputs = [artifact, *([artifact.with_suffix(".csv")] if stage in run.trained else [])]
            recorder.write(run.path(f"{stage}.json"), [*index_files(run, stage), *done], outputs)
            done.append(artifact)


def _make(run: Run, stage: str, index: Index) -> Path:
    if stage in run.trained:
        lines = (f"{step},0,0.1,{1 / step + run.seed / 9:.4f}" for step in range(1, 21))
        write_text(run.path(f"{stage}.csv"), "step,epoch,lr,loss\n" + "\n".join(lines))
        write_text(run.path(f"{stage}.safetensors"), f"weights of {run} {stage}")
        return run.path(f"{stage}.safetensors")
    entries = index.split("val") if stage in ("masks", "decode") else index.training()
    path = run.path(f"{stage}.zip")
    with archive.Writer(path) as writer:
        for entry in entries:
            cam = noisy(run, stage, entry, index)
            labels = seed(cam.full(), cam.labels, 0.4)
            maps = stage_kind(stage) in ("cam", "walk")
            name, content = (".npz", pack(cam)) if maps else (".png", labelmap.encode(labels))
            writer.add(f"{entry.name}{name}", content)
    return path


def noisy(run: Run, stage: str, entry: Entry, index: Index) -> Cam:
    """Return maps that are mostly right: the true mask, blurred by cells, with noise."""
    assert entry.mask is not None
    generator = np.random.default_rng((run.seed, len(stage), int(entry.name[-3:])))
    labels, truth = np.array(index.numbers(entry.labels), np.int16), load_mask(entry.mask)
    cells = truth[::STRIDE, ::STRIDE]
    maps = (cells[None] == labels[:, None, None] + 1) * 0.7
    maps = np.clip(maps + generator.uniform(0, 0.45, maps.shape), 0, 1).astype(np.float16)
    assert maps.shape[1:] == grid(entry.size, STRIDE)
    return Cam(labels, maps, entry.size, STRIDE)
