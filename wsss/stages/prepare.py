"""Prepare a dataset: draw it or read it, and write its index and the manifest of its raw files."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from wsss.data.index import SPLITS, Index, save_index
from wsss.data.manifest import Manifest, Sources, save_manifest
from wsss.data.problems import errors, index_problems, stop_at, summary
from wsss.data.raw_files import RawFiles
from wsss.datasets.facts import differences, is_public
from wsss.datasets.saliency_maps import with_map_files, with_maps
from wsss.errors import MissingError
from wsss.progress import log
from wsss.runs.inputs import (
    data_archive,
    data_code,
    data_reader,
    data_section,
    data_slice,
    dataset_outputs,
    manifest_path,
    saliency_key,
)
from wsss.runs.record import Record, Recorder, read_record
from wsss.runs.run import WORK
from wsss.settings import Params
from wsss.settings.data import saliency_folder
from wsss.settings.resolve import DRAWN, check_dataset
from wsss.storage.files import sha256


def prepare(params: Params, dataset: str, earlier: Manifest | None = None) -> list[str]:
    """Write a dataset's index, its archive if it needs one, its record and its manifest.

    Files that would not change are left alone. earlier: the manifest of the last index that this code
    made; raw files that have not changed since are not read again. Returns the parts of the index that
    changed.
    """
    check_dataset(params, dataset)
    record = Recorder("data", data_slice(params, dataset), data_code(dataset))
    folder = WORK / dataset
    raw = RawFiles(earlier)
    index, sources = _read(params, dataset, raw)
    problems = list(index_problems(index, is_public(dataset)))
    stop_at(errors(problems), dataset)
    for problem in (*problems, *differences(index)):
        log.warning("%s: %s: %s", dataset, problem.severity, problem.text)
    manifest = raw.manifest(sources)
    changed = save_index(index, folder / "index.json")
    counts = {split: len(index.split(split)) for split in SPLITS}
    outputs = {path.as_posix(): sha256(path) for path in dataset_outputs(params, dataset)}
    if not _is_recorded(folder / "data.json", record, outputs):
        paths = map(Path, outputs)
        record.write(folder / "data.json", [], paths, images=counts, classes=list(index.classes))
    save_manifest(manifest, manifest_path(dataset))  # last: without it the rest is made again
    log.info("%s: %s", dataset, summary(index))
    return changed


def _is_recorded(path: Path, present: Recorder, outputs: Mapping[str, str]) -> bool:
    """Return whether the record at `path` says what the present one would say of settings and files."""
    try:
        earlier = read_record(path, Record)
    except MissingError:
        return False
    recorded = (earlier.params, earlier.code, earlier.outputs)
    return recorded == (present.params, present.code, outputs)


def _read(params: Params, dataset: str, raw: RawFiles) -> tuple[Index, Sources]:
    """Return the index and the sources of a dataset; also write its archive, if there is one.

    The reader is imported by name, so that the fingerprint of a dataset covers its own reader alone.
    """
    module = importlib.import_module(f"wsss.datasets.{data_reader(dataset)}")
    settings = data_section(params, dataset)
    archive = data_archive(params, dataset)
    if archive is None:
        index: Index = module.read(settings, dataset, raw)
    else:
        make = module.draw if dataset in DRAWN else module.convert
        index = make(settings, dataset, archive, raw)
    sources: Sources = module.sources(settings, index)
    folder = saliency_folder(settings)
    if not folder:
        return index, sources
    index, problems = with_maps(index, folder, saliency_key(params, dataset), raw)
    stop_at(problems, dataset)
    return index, with_map_files(sources, index)
