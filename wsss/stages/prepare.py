"""Prepare a dataset: draw it or read it, and write its index."""

from __future__ import annotations

import importlib
from pathlib import Path

from wsss.data.index import SPLITS, Index, save_index
from wsss.data.problems import fatal, stop_at, unscored
from wsss.datasets.facts import differences
from wsss.errors import ConfigError
from wsss.progress import log
from wsss.runs.inputs import data_archive, data_code, data_reader, data_slice
from wsss.runs.record import Recorder
from wsss.runs.run import WORK
from wsss.settings import Params
from wsss.settings.resolve import BUILT_IN, DRAWN


def prepare(params: Params, dataset: str) -> None:
    """Write `index.json` of a dataset, its archive if it needs one, and the record `data.json`."""
    datasets = (*BUILT_IN, *params.data.csv)
    if dataset not in datasets:
        raise ConfigError(
            f"{dataset!r} is not one of {', '.join(datasets)}. Describe it in data.csv."
        )
    record = Recorder("data", data_slice(params, dataset), data_code(dataset))
    folder = WORK / dataset
    archive = data_archive(params, dataset)
    index = _index(params, dataset, archive)
    outputs = [archive] if archive else []
    stop_at(list(fatal(index)), dataset)
    for problem in (*unscored(index), *differences(index)):
        log.warning("%s: %s", dataset, problem)
    save_index(index, folder / "index.json")
    counts = {split: len(index.split(split)) for split in SPLITS}
    outputs.append(folder / "index.json")
    record.write(folder / "data.json", [], outputs, images=counts, classes=list(index.classes))
    images = ", ".join(f"{count} {split}" for split, count in counts.items() if count)
    log.info("%s: %d classes, images: %s", dataset, len(index.classes), images)


def _index(params: Params, dataset: str, archive: Path | None) -> Index:
    """Return the index of a dataset; also write its archive, if there is one.

    The reader is imported by name, so that the fingerprint of a dataset covers its own reader alone.
    """
    module = importlib.import_module(f"wsss.datasets.{data_reader(dataset)}")
    settings = params.data.csv.get(dataset) or getattr(params.data, dataset)
    if archive is None:
        index: Index = module.read(settings, dataset)
    else:
        make = module.draw if dataset in DRAWN else module.convert
        index = make(settings, dataset, archive)
    return index
