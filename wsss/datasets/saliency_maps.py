"""Saliency maps that a user brings: a folder with one grey PNG per training image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from wsss.data.index import Entry, Index
from wsss.data.index_parts import TRAINING
from wsss.data.manifest import Sources
from wsss.data.problems import Causes
from wsss.data.raw_files import RawFiles, measure
from wsss.errors import DatasetError, WsssError


def with_maps(index: Index, folder: str, key: str, raw: RawFiles) -> tuple[Index, list[str]]:
    """Return an index whose training images have their maps, and one line for each problem.

    key: the setting that names the folder.
    """
    images, causes = [], Causes()
    for entry in index.images:
        try:
            images.append(_mapped(entry, folder, key, raw) if entry.split in TRAINING else entry)
        except WsssError as error:
            causes.add(str(error), entry.name)
    return replace(index, images=tuple(images)), causes.lines()


def with_map_files(sources: Sources, index: Index) -> Sources:
    """Return the raw files of a dataset and those of its maps."""
    return replace(
        sources, files=(*sources.files, *(e.saliency for e in index.images if e.saliency))
    )


def _mapped(entry: Entry, folder: str, key: str, raw: RawFiles) -> Entry:
    """Return an image with the path of its map and the checksum of that file."""
    path = Path(folder) / f"{entry.name}.png"
    if not path.is_file():
        raise DatasetError(
            f"{path} is missing. Put a saliency map for each training image there, or set {key} to "
            "u2netp or ''."
        )
    size, digits = measure(path, raw)
    if size != entry.size:
        raise DatasetError(
            f"The saliency map {path} is {size[1]} x {size[0]} px, its image {entry.size[1]} x "
            f"{entry.size[0]}. Make them equal."
        )
    return replace(entry, saliency=path.as_posix(), saliency_checksum=digits)
