"""Equal seeds give equal bytes, whoever loads the images; another seed gives other weights."""

from pathlib import Path

import pytest
from answer import wsss
from pond import RUN

from wsss.storage import checkpoint
from wsss.storage.archive import Reader

TOLERANCE = 1e-5  # of weights: processes may add in another order


def trained(ponds: Path, seed: int = 0, workers: int = 0) -> Path:
    """Train the segmenter anew and return its file."""
    settings = ponds / "params.yaml"
    text = settings.read_text().partition("seeds:")[0]
    text = text.replace("epochs: 1,", f"epochs: 1, workers: {workers},")
    settings.write_text(f"{text}seeds: [{seed}]\n")
    path = ponds / "work" / RUN.replace("s0", f"s{seed}") / "segmenter.safetensors"
    path.unlink(missing_ok=True)
    wsss("segmenter", f"{RUN[:-1]}{seed}").accepts()
    settings.write_text(text.replace(f" workers: {workers},", ""))
    return path


def test_a_stage_that_is_run_twice_writes_the_same_bytes(ponds: Path) -> None:
    first = trained(ponds).read_bytes()
    assert trained(ponds).read_bytes() == first
    masks = []
    for _ in range(2):
        wsss("masks", RUN).accepts()
        masks.append((ponds / "work" / RUN / "masks.zip").read_bytes())
    assert masks[0] == masks[1]


def test_another_seed_gives_other_weights(ponds: Path) -> None:
    states = [checkpoint.load(trained(ponds, seed))[0] for seed in (0, 1)]
    assert states[0].keys() == states[1].keys()
    assert any((states[0][key] != states[1][key]).any() for key in states[0])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_that_load_images_change_no_weight(workers: int, ponds: Path) -> None:
    alone = checkpoint.load(trained(ponds))[0]
    alone = {key: value.clone() for key, value in alone.items()}
    shared = checkpoint.load(trained(ponds, workers=workers))[0]
    assert all(float((alone[k] - shared[k]).abs().max()) <= TOLERANCE for k in alone)


@pytest.mark.slow
def test_processes_that_load_images_change_no_label(ponds: Path) -> None:
    path = ponds / "work" / RUN / "masks.zip"
    found = []
    for processes in ("0", "2"):
        wsss("masks", RUN, "--processes", processes).accepts()
        reader = Reader(path)
        found.append({name: reader.read(name) for name in reader.names()})
    assert found[0] == found[1]
