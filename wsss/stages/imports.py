"""Import the CAMs, pseudo labels or predictions of another program as a stage of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from wsss.data.index import Index, load_index
from wsss.data.manifest import Manifest, save_manifest
from wsss.data.raw_files import RawFiles
from wsss.datasets.imported.cams import CamFolder, blank
from wsss.datasets.imported.folder import check_names
from wsss.errors import ConfigError
from wsss.progress import log, progress
from wsss.runs.imported_files import imported_manifest
from wsss.runs.inputs import index_parts
from wsss.runs.record import recorder
from wsss.runs.run import Run
from wsss.runs.sources import source_files
from wsss.settings.imports import ImportParams
from wsss.storage import archive
from wsss.storage.cam_archive import pack

Member = tuple[str, bytes]  # name and content in the archive of a stage


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
    index, raw = load_index(run.index, *index_parts(run, stage)), RawFiles()
    source = Source(run, files, stage, index)
    record = recorder(run, stage)
    target = run.path(f"{stage}.zip")
    if check:
        for _ in source.members(raw):
            pass
    else:
        with archive.Writer(target) as writer:
            for name, content in source.members(raw):
                writer.add(name, content)
    for remark in source.remarks:
        log.warning("%s %s: %s", run, stage, remark)
    manifest = raw.manifest(source.reader.folder.sources)
    if not check:
        described = {"imported": describe(files, manifest, source.remarks)}
        record.write(run.path(f"{stage}.json"), source_files(run, stage), [target], **described)
        save_manifest(manifest, imported_manifest(run, stage))
    return (
        f"{run} {stage}: {len(manifest.files)} files of {source.path}, {len(source.entries)} images"
    )


def describe(files: ImportParams, manifest: Manifest, remarks: list[str]) -> dict[str, object]:
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
    """The files of a stage, as members of its archive; remarks are complete when all are read."""

    def __init__(self, run: Run, files: ImportParams, stage: str, index: Index) -> None:
        self.path = Path(files.source(stage, run.seed))
        self.entries = index.split("val", "test") if stage == "masks" else index.training()
        self.reader = CamFolder(self.path, index, files, f"imports.{run.base}")
        is_blank = files.missing == "blank" and stage != "masks"
        names, setting = self.reader.names(), f"imports.{run.base}"
        self.remarks = check_names(names, self.entries, str(self.path), setting, is_blank)
        self._present = set(names)

    def members(self, raw: RawFiles) -> Iterator[Member]:
        """Yield the members of the archive; stop at the end if the files cannot be used.

        Raises:
            DatasetError: with a sentence for each kind of fault.
        """
        for entry in progress(self.entries, "import"):
            present = entry.name in self._present
            cam = self.reader.cam(entry, raw) if present else blank(entry)
            yield f"{entry.name}.npz", pack(cam)
        self.remarks += self.reader.check(len(self.entries))
