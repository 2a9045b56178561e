"""Prepare a dataset: draw it or read it, and write its index."""

from __future__ import annotations

import importlib
from pathlib import Path

from wsss.data.index import SPLITS, Index, save_index
from wsss.data.problems import errors, index_problems, stop_at, summary
from wsss.datasets.facts import differences, is_public
from wsss.progress import log
from wsss.runs.inputs import data_archive, data_code, data_reader, data_slice
from wsss.runs.record import Recorder
from wsss.runs.run import WORK
from wsss.settings import Params
from wsss.settings.resolve import DRAWN, check_dataset


def prepare(params: Params, dataset: str) -> None:
    """Write `index.json` of a dataset, its archive if it needs one, and the record `data.json`."""
    check_dataset(params, dataset)
    record = Recorder("data", data_slice(params, dataset), data_code(dataset))
    folder = WORK / dataset
    archive = data_archive(params, dataset)
    index = _index(params, dataset, archive)
    outputs = [archive] if archive else []
    problems = list(index_problems(index, is_public(dataset)))
    stop_at(errors(problems), dataset)
    for problem in (*problems, *differences(index)):
        log.warning("%s: %s: %s", dataset, problem.severity, problem.text)
    save_index(index, folder / "index.json")
    counts = {split: len(index.split(split)) for split in SPLITS}
    outputs.append(folder / "index.json")
    record.write(folder / "data.json", [], outputs, images=counts, classes=list(index.classes))
    log.info("%s: %s", dataset, summary(index))


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
