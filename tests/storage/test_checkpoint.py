"""Weights files: exact round trips, strict loading, and strangers' files that must do no harm."""

import argparse
import gzip
import os
import pickle
import zipfile
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


@pytest.mark.parametrize("wrapper", ["", "state_dict", "model", "model_state_dict", "average"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_published_wrappers_are_taken_off(tmp_path: Path, wrapper: str, prefix: str) -> None:
    state = {f"{prefix}{key}": value for key, value in net().state_dict().items()}
    path = tmp_path / "theirs.pth"
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, path)
    assert checkpoint.load_foreign(path).keys() == net().state_dict().keys()


PLAIN = checkpoint.Layout()


@pytest.mark.parametrize(
    "prefix", ["model.", "module.model.", "model._orig_mod.", "net.model.", "backbone.", "teacher."]
)
def test_prefixes_of_training_programs_are_taken_off_where_the_rest_fits(
    tmp_path: Path, prefix: str
) -> None:
    state, path = net().state_dict(), tmp_path / "theirs.pth"
    torch.save({"state_dict": {f"{prefix}{key}": value for key, value in state.items()}}, path)
    ours = net()
    checkpoint.adopt(ours, path, PLAIN)
    assert all(torch.equal(ours.state_dict()[key], state[key]) for key in state)


def test_of_several_networks_the_usual_one_or_the_one_that_fits_is_taken(tmp_path: Path) -> None:
    path, nets = tmp_path / "theirs.pth", [net(), net()]
    first, second = (net.state_dict() for net in nets)
    other = nn.Linear(2, 3).state_dict()
    for content in ({"model_ema": second, "model": first}, {"head": other, "student": first}):
        torch.save(content, path)
        ours = net()
        checkpoint.adopt(ours, path, PLAIN)
        assert torch.equal(ours.state_dict()["0.weight"], first["0.weight"])


def test_of_several_networks_that_fit_the_user_names_one(tmp_path: Path) -> None:
    path, nets = tmp_path / "theirs.pth", {"student": net(), "teacher": net()}
    content = {key: {"backbone": net.state_dict()} for key, net in nets.items()}
    torch.save({**content, "epoch": 3}, path)
    with pytest.raises(CheckpointError) as error:
        checkpoint.adopt(net(), path, PLAIN)
    assert str(error.value) == (
        f"{path} has tensors under 'student.backbone', 'teacher.backbone'. Name the ones to take, as "
        f"in {path}:student.backbone."
    )
    ours = net()
    checkpoint.adopt(ours, f"{path}:teacher.backbone", PLAIN)
    expected = nets["teacher"].state_dict()["0.weight"]
    assert torch.equal(ours.state_dict()["0.weight"], expected)
    assert torch.equal(checkpoint.load_foreign(f"{path}:teacher.backbone")["0.weight"], expected)
    with pytest.raises(CheckpointError, match="no tensors under 'ema', but under 'student.backb"):
        checkpoint.adopt(net(), f"{path}:ema", PLAIN)
    with pytest.raises(CheckpointError, match="Name the ones to take"):
        checkpoint.load_foreign(path)


def test_arguments_of_a_program_beside_the_tensors_are_data_and_nothing_is_run(
    tmp_path: Path,
) -> None:
    path, trace = tmp_path / "theirs.pth", tmp_path / "trace"
    arguments = argparse.Namespace(lr=0.1, out=Path("runs/1"), names=["a"])
    torch.save({"model": net().state_dict(), "args": arguments}, path)
    assert checkpoint.load_foreign(path).keys() == net().state_dict().keys()
    torch.save({"model": net().state_dict(), "args": argparse.Namespace(x=Harmful(trace))}, path)
    with pytest.raises(CheckpointError, match="more than tensors"):
        checkpoint.load_foreign(path)
    assert not trace.exists()


def test_left_over_tensors_are_named_as_in_the_file(tmp_path: Path) -> None:
    path, state = tmp_path / "theirs.pth", net().state_dict()
    theirs = {f"module.features.{key}": value for key, value in state.items()}
    theirs |= {"module.features.queue": torch.zeros(2), "module.features.0.bias": torch.zeros(9)}
    torch.save({"state_dict": theirs, "ema": {"shadow": torch.zeros(1)}}, path)
    with pytest.raises(CheckpointError) as error:
        checkpoint.adopt(net(), path, checkpoint.Layout(((r"^features\.", ""),)))
    assert str(error.value) == (
        f"{path} is not a file of this network: 1 left over (module.features.queue); 1 of another "
        "shape (module.features.0.bias (9,) for (4,)). The file also has tensors under 'ema'."
    )


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
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4665\nsize 98765432\n",
            r"is a pointer of Git LFS, in place of a file of 98,765,432 bytes. Run `git lfs pull`",
        ),
        (gzip.compress(b"x", mtime=0), "is compressed by gzip. Unpack it first"),
        (b"\x89HDF\r\n\x1a\n", "is a file of HDF5"),
        (b"\x12\x01" + bytes(14), "is a file of MXNet. Read it with MXNet's mx.nd.load"),
        (bytes(257) + b"ustar", "is a tar archive. Unpack it first"),
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


def test_a_zip_that_is_no_checkpoint_is_named_with_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "theirs.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as content:
        content.writestr("nets/best.pth", bytes(99))
    with pytest.raises(
        CheckpointError, match=r"a zip archive of 1 files \(nets/best.pth\). Unpack"
    ):
        checkpoint.load_foreign(path)


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
