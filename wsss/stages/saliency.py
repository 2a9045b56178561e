"""Make saliency maps of a dataset's training images with a network, once for all its runs."""

from __future__ import annotations

import functools
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsss.data.images import load_entry
from wsss.data.index import Entry, load_index
from wsss.errors import ConfigError
from wsss.machine.threads import in_threads
from wsss.nets.u2net import U2Net
from wsss.progress import log, progress
from wsss.runs.inputs import data_section, saliency_key
from wsss.runs.record import Recorder
from wsss.runs.run import WORK
from wsss.runs.saliency import SaliencyMaps, images_read
from wsss.settings import Params
from wsss.settings.data import SALIENCY_NETWORKS, saliency_network
from wsss.settings.resolve import check_dataset
from wsss.storage.archive import Writer
from wsss.storage.files import replacing

Saliency = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def saliency(params: Params, dataset: str, threads: int = 1) -> None:
    """Write the archive of a dataset's saliency maps and its record.

    Finished maps wait in a folder beside the archive; the next run after an interruption goes on there.

    Raises:
        ConfigError: the settings name no network for the maps.
        MissingError: onnxruntime is not installed.
    """
    check_dataset(params, dataset)
    network = saliency_network(data_section(params, dataset))
    if not network:
        raise ConfigError(
            f"{saliency_key(params, dataset)} names no network that makes maps. Set it to "
            f"{' or '.join(SALIENCY_NETWORKS)}."
        )
    maps = SaliencyMaps(dataset, network)
    code = maps.code()
    record = Recorder(maps.kind, maps.settings, code)
    entries = load_index(WORK / dataset / "index.json", "train").training()
    net = U2Net(network)
    folder = waiting_folder(maps, code)
    _write_maps(net, entries, folder, threads)
    with Writer(maps.path) as writer:
        for entry in entries:
            writer.add(f"{entry.name}.png", _waiting(folder, entry).read_bytes())
    inputs = images_read(params, dataset)
    record.write(maps.record, inputs, [maps.path], source=net.source, runtime=net.runtime)
    for path in maps.path.parent.glob(f"{maps.path.stem}.parts-*"):
        shutil.rmtree(path)
    log.info("%d saliency maps, from %s -> %s", len(entries), net.source, maps.path)


def waiting_folder(maps: SaliencyMaps, code: str) -> Path:
    """Return the folder of finished maps that are not yet in the archive. code: makes the maps."""
    return maps.path.with_name(f"{maps.path.stem}.parts-{code}")


def _waiting(folder: Path, entry: Entry) -> Path:
    """Return the file of a finished map; another image of the same name has another file."""
    return folder / f"{entry.name}.{entry.checksum}.png"


def _write_maps(net: Saliency, entries: list[Entry], folder: Path, threads: int) -> None:
    """Write the maps that are not there yet."""
    remaining = [entry for entry in entries if not _waiting(folder, entry).is_file()]
    done = len(entries) - len(remaining)
    work = functools.partial(_write_map, net, folder)
    for _ in progress(in_threads(work, remaining, threads), "saliency maps", len(entries), done):
        pass


def _write_map(net: Saliency, folder: Path, entry: Entry) -> None:
    buffer = io.BytesIO()
    Image.fromarray(net(load_entry(entry))).save(buffer, "PNG")
    with replacing(_waiting(folder, entry)) as temporary:
        temporary.write_bytes(buffer.getvalue())
