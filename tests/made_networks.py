"""A run on the squares whose networks have their first, random weights, and records."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from wsss.data.index import Index
from wsss.methods.base import build_method
from wsss.nets.deeplab import build_deeplab
from wsss.runs.record import recorder
from wsss.runs.run import Run
from wsss.settings.resolve import validate_params
from wsss.storage import checkpoint
from wsss.training import session


def make_networks(
    squares: Index, method: str, networks: Sequence[str], stages: Sequence[str] = ("cam", "masks")
) -> Run:
    """Write params.yaml, networks and records of a run into the current folder, and return the run."""
    Path("params.yaml").write_text(
        f"methods: [{method}]\nsegmenter: {{test: {{crf: none}}}}\ndecode: {{crf: none}}\n"
    )
    settings = {"segmenter": {"test": {"crf": "none"}}, "decode": {"crf": "none"}}
    params = validate_params({"methods": [method], **settings})
    run, index = Run(params, "shapes", method, "common", 0), replace(squares, dataset="shapes")
    torch.manual_seed(0)
    for name in networks:
        net: torch.nn.Module = (
            build_deeplab(run.settings.segmenter, len(index.classes))
            if name == "segmenter"
            else build_method(run, len(index.classes)).build(name)
        )
        path = run.path(f"{name}.safetensors")
        checkpoint.save(path, net.state_dict(), session.header(run, name, index))
        recorder(run, name).write(path.with_suffix(".json"), [], [path])
    for stage in stages:
        recorder(run, stage).write(run.path(f"{stage}.json"), [], [])
    return run
