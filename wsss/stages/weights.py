"""Fetch published initial weights once, as one safetensors file with its source."""

from __future__ import annotations

from wsss import plan
from wsss.data import pretrained
from wsss.nets.weights import convert
from wsss.progress import log
from wsss.record import Recorder


def weights(name: str) -> None:
    """Write `work/pretrained/<name>.safetensors` and its record; name: `resnet50.imagenet`."""
    path = plan.pretrained_path(name)
    record = Recorder("weights", {"weights": name}, plan.weights_code())
    row = pretrained.table().get(name)
    file = pretrained.fetch(row) if row and row.url else None
    package = row.package if row else None
    source = convert(name, path, file, package, row.sha256 or "" if row else "")
    known = {"licence": row.licence, "from": row.source} if row else {}
    record.write(path.with_suffix(".json"), [], [path], source=source, **known)
    log.info("%s from %s -> %s", name, source, path)
