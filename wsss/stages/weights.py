"""Fetch published initial weights once, as one safetensors file with its source."""

from __future__ import annotations

from wsss import plan
from wsss.nets.weights import fetch
from wsss.progress import log
from wsss.record import Recorder


def weights(name: str) -> None:
    """Write `work/pretrained/<name>.safetensors` and its record; name: `resnet50.imagenet`."""
    path = plan.pretrained_path(name)
    record = Recorder("weights", {"weights": name}, plan.weights_code())
    source = fetch(name, path)
    record.write(path.with_suffix(".json"), [], [path], source=source)
    log.info("%s from %s -> %s", name, source, path)
