"""Weights files: exact round trips, strict loading, and strangers' files that must do no harm."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from wsss.errors import CheckpointError, MissingError
from wsss.storage import checkpoint


class Harmful:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.trace}",)


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_a_saved_network_comes_back_with_its_header(tmp_path: Path) -> None:
    path, state = tmp_path / "net.safetensors", net().state_dict()
    checkpoint.save(path, state, {"method": "cam", "seed": 3})
    found, header = checkpoint.load(path)
    assert header == {"method": "cam", "seed": 3}
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_equal_tensors_give_equal_bytes(tmp_path: Path) -> None:
    state = net().state_dict()
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    for path in paths:
        checkpoint.save(path, state, {"b": 1, "a": [2, 3]})
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("0.bias"), "1 missing \\(0.bias\\)"),
        (lambda s: s.update(extra=torch.zeros(1)), "1 left over \\(extra\\)"),
        (
            lambda s: s.update({"0.bias": torch.zeros(9)}),
            "of another shape \\(0.bias \\(9,\\) for \\(4,\\)\\)",
        ),
    ],
)
def test_loading_is_strict_in_both_directions(change: object, message: str) -> None:
    state = dict(net().state_dict())
    change(state)  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=message):
        checkpoint.fill(net(), state, "x.pth")


@pytest.mark.parametrize("wrapper", ["", "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_wrappers_are_taken_off(tmp_path: Path, wrapper: str, prefix: str) -> None:
    state = {f"{prefix}{key}": value for key, value in net().state_dict().items()}
    path = tmp_path / "theirs.pth"
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, path)
    assert checkpoint.load_foreign(path).keys() == net().state_dict().keys()


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path) -> None:
    path, trace = tmp_path / "bad.pth", tmp_path / "trace"
    torch.save({"state_dict": net().state_dict(), "extra": Harmful(trace)}, path)
    with pytest.raises(CheckpointError, match="more than tensors .*was refused"):
        checkpoint.load_foreign(path)
    path.write_bytes(pickle.dumps(Harmful(trace), protocol=2))
    with pytest.raises(CheckpointError):
        checkpoint.load_foreign(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><title>Sign in</title>", "is a web page"),
        (b"PK\x03\x04 cut short", "cannot be read|was refused"),
        (b"plain words", "cannot be read|was refused"),
    ],
)
def test_files_that_are_no_checkpoints_are_named(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "theirs.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.load_foreign(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def test_a_truncated_file_of_ours_is_named(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    checkpoint.save(path, net().state_dict(), {})
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match="net.safetensors is not a whole network"):
        checkpoint.load(path)
    with pytest.raises(MissingError, match="is missing"):
        checkpoint.load(tmp_path / "absent.safetensors")


def test_renaming_by_table_refuses_collisions() -> None:
    state = {"features.0.weight": torch.zeros(1), "features.1.weight": torch.ones(1)}
    assert set(checkpoint.rename(state, [(r"^features\.(\d)", r"stages.\1")])) == {
        "stages.0.weight",
        "stages.1.weight",
    }
    with pytest.raises(CheckpointError, match="both called 'stage.weight'"):
        checkpoint.rename(state, [(r"^features\.\d", "stage")])


def test_a_published_layout_is_dropped_from_renamed_and_completed(tmp_path: Path) -> None:
    state = net().state_dict()
    theirs = {f"features.{key}": value for key, value in state.items() if "tracked" not in key}
    torch.save({**theirs, "path_indices0": torch.zeros(3)}, tmp_path / "theirs.pth")
    layout = checkpoint.Layout(table=((r"^features\.", ""),), dropped=(r"path_indices\d+",))
    ours = net()
    checkpoint.adopt(ours, tmp_path / "theirs.pth", layout)
    assert all(torch.equal(ours.state_dict()[key], state[key]) for key in state)
    with pytest.raises(CheckpointError, match="1 left over \\(path_indices0\\)"):
        checkpoint.adopt(ours, tmp_path / "theirs.pth", checkpoint.Layout(layout.table))
