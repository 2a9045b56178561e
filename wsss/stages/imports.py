"""Import the CAMs, pseudo labels or predictions of another program as a stage of a run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from wsss.data import labelmap
from wsss.data.images import load_entry
from wsss.data.index import Entry, Index, load_index
from wsss.data.manifest import Manifest, save_manifest
from wsss.data.raw_files import RawFiles
from wsss.datasets.imported.cams import CamFolder, blank
from wsss.datasets.imported.folder import check_names
from wsss.datasets.imported.labels import CocoFile, LabelFolder, empty, label_reader
from wsss.datasets.imported.logits import LogitsFolder
from wsss.errors import ConfigError
from wsss.machine.accelerator import crf_device, device_name
from wsss.progress import log, progress
from wsss.refine import crf
from wsss.runs.imported_files import imported_manifest
from wsss.runs.inputs import index_parts
from wsss.runs.record import recorder
from wsss.runs.run import Run
from wsss.runs.sources import source_files
from wsss.settings.imports import ImportParams
from wsss.storage import archive
from wsss.storage.cam_archive import pack

Member = tuple[str, bytes]  # name and content in the archive of a stage
Reader = CamFolder | LabelFolder | CocoFile | LogitsFolder


def import_files(run: Run, stage: str | None = None, check: bool = False) -> Iterator[str]:
    """Import the files of one stage, or of all that the run imports; yield a line on each.

    check: read and check the files, and write nothing.

    Raises:
        ConfigError: the run imports no such stage.
    """
    files = run.brought
    stages = run.spec.imported if stage is None else (stage,)
    if files is None or not set(stages) <= set(run.spec.imported):
        imported = ", ".join(run.spec.imported) or "nothing"
        raise ConfigError(
            f"{run} imports {imported}. Describe files of another program under `imports` in a "
            "parameter file (docs/import.md)."
        )
    for name in stages:
        yield _import(run, files, name, check)


def _import(run: Run, files: ImportParams, stage: str, check: bool) -> str:
    """Import one stage and return what was read, in words."""
    source = Source(run, files, stage)
    record = recorder(run, stage, device_name(source.device))
    target = run.path(f"{stage}.zip")
    if check:
        for _ in source.members():
            pass
    else:
        with archive.Writer(target) as writer:
            for name, content in source.members():
                writer.add(name, content)
    for remark in source.remarks:
        log.warning("%s %s: %s.", run, stage, remark)
    manifest = source.manifest()
    if not check:
        words = described(files, manifest, source.remarks)
        inputs = source_files(run, stage)
        record.write(run.path(f"{stage}.json"), inputs, [target], imported=words)
        save_manifest(manifest, imported_manifest(run, stage))
    count = len(manifest.files)
    read = f"{count} file{'s' * (count != 1)} of {source.path}"
    return f"{run} {stage}: {read}, {len(source.entries)} images"


def described(files: ImportParams, manifest: Manifest, remarks: list[str]) -> dict[str, object]:
    """Return what a record says of imported files; `digest` stands for the checksum of every file."""
    lines = sorted(f"{Path(name).name} {file.checksum}" for name, file in manifest.files.items())
    return {
        "source": manifest.sources.root,
        "files": len(manifest.files),
        "bytes": sum(file.size for file in manifest.files.values()),
        "digest": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        "knowledge": files.knowledge,
        "remarks": remarks,
    }


class Source:
    """The files of a stage, as members of its archive; remarks are complete when all are read.

    device: of the CRF that refines logits, as in `crf.refined`.
    """

    def __init__(self, run: Run, files: ImportParams, stage: str) -> None:
        """Look which files there are.

        Raises:
            DatasetError: files are missing.
        """
        index = load_index(run.index, *index_parts(run, stage))
        key, setting = files.key(stage), f"imports.{run.base}"
        self.path = Path(files.source(stage, run.seed))
        self.entries = index.split("val", "test") if stage == "masks" else index.training()
        self._crf = run.settings.segmenter.test.crf if key == "logits" else "none"
        self.device = crf_device(run.settings.crf.device) if self._crf != "none" else None
        crf.check_installed(self._crf, self.device)
        self._reader = _reader(self.path, index, files, key, setting)
        names = self._reader.names()
        is_blank = files.missing == "blank" and stage != "masks"
        self._needed = index.split("val") if stage == "masks" else self.entries
        tested, where = index.split("test"), str(self.path)
        self.remarks = check_names(names, self._needed, where, setting, is_blank, tested)
        self._raw, self._present = RawFiles(), set(names)

    def manifest(self) -> Manifest:
        """Return the manifest of the files."""
        return self._raw.manifest(self._reader.sources)

    def members(self) -> Iterator[Member]:
        """Yield the members of the archive; stop at the end if the files cannot be used.

        Raises:
            DatasetError: with a sentence for each kind of fault.
        """
        present = [entry for entry in self.entries if entry.name in self._present]
        absent = [entry for entry in self._needed if entry.name not in self._present]
        yield from progress(self._members(present), "import", len(present))
        if isinstance(self._reader, CamFolder):
            yield from ((f"{entry.name}.npz", pack(blank(entry))) for entry in absent)
        else:
            yield from ((f"{entry.name}.png", labelmap.encode(empty(entry))) for entry in absent)
        self.remarks += self._reader.check(len(present))

    def _members(self, entries: list[Entry]) -> Iterator[Member]:
        reader, raw = self._reader, self._raw
        if isinstance(reader, CamFolder):
            for entry in entries:
                yield f"{entry.name}.npz", pack(reader.cam(entry, raw))
        elif isinstance(reader, LogitsFolder):
            yield from self._decided(reader, entries)
        else:
            for entry, labels in reader.labels(entries, raw):
                yield f"{entry.name}.png", labelmap.encode(labels)

    def _decided(self, reader: LogitsFolder, entries: list[Entry]) -> Iterator[Member]:
        """Yield the labels with the highest scores, or with a CRF the labels before and after it."""
        images = reader.probabilities(entries, self._raw)
        if self._crf == "none":
            for entry, scores in images:
                yield f"{entry.name}.png", labelmap.encode(scores.argmax(0))
            return
        tasks = (crf.score_task(entry.name, load_entry(entry), scores) for entry, scores in images)
        processes = 1 if self.device else len(os.sched_getaffinity(0))
        for image in crf.refined(crf.unchanged, tasks, self._crf, processes, self.device):
            yield archive.before_crf(image.name), labelmap.encode(image.before[0])
            yield f"{image.name}.png", labelmap.encode(image.after[0])


def _reader(path: Path, index: Index, files: ImportParams, key: str, setting: str) -> Reader:
    """Return the reader of the files that the setting `key` names."""
    if key == "cam":
        return CamFolder(path, index, files, setting)
    if key == "logits":
        return LogitsFolder(path, index, files, setting)
    return label_reader(path, index, files, key, setting)
