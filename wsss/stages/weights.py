"""Fetch published initial weights once, as one safetensors file with its source."""

from __future__ import annotations

from wsss.datasets.fetch import fetch_weights
from wsss.nets.weights import convert
from wsss.progress import log
from wsss.runs.inputs import initial_weights_path, weights_code
from wsss.runs.record import Recorder
from wsss.settings.weight_files import weight_file


def weights(name: str) -> None:
    """Write `work/pretrained/<name>.safetensors` and its record; name: `resnet50.imagenet`.

    An ONNX file is only fetched: no network starts from it.
    """
    row = weight_file(name)
    path = initial_weights_path(name)
    record = Recorder("weights", {"weights": name}, weights_code())
    file = fetch_weights(row) if row and row.url else None
    if file and file.suffix == ".onnx":
        log.info("%s -> %s", name, file)
        return
    source = convert(name, path, file, row)
    origin = {"licence": row.licence, "from": row.source} if row else {}
    record.write(path.with_suffix(".json"), [], [path], source=source, **origin)
    log.info("%s from %s -> %s", name, source, path)
