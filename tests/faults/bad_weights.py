"""Weights from strangers, and damaged ones of ours: how they are made and what is said of them."""

import argparse
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from wsss.storage import checkpoint
from wsss.storage.archive import pack_arrays

State = dict[str, Tensor]
TRACE = "trace"  # the file that appears if a checkpoint's code is run
HARM = f"touch {TRACE}"
REFUSED = "holds more than tensors"
UNREAD = "theirs.pth cannot be read ("
OTHER = "is not a file of this network: "
NOT_WHOLE = " is not whole ("
FIRST = "patch_embed.stem.0.weight"
HERE = f"backbone.{FIRST}"  # as our network calls it


@dataclass(frozen=True)
class Weights:
    """A checkpoint: how its file is made from the right tensors, and what is said of it, if not used."""

    name: str
    make: Callable[[Path, State], object]
    said: str = ""
    file: str = "theirs.pth"


class Harmful:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (HARM,)


class Evaluated:
    """Runs Python when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, (f"__import__('os').system({HARM!r})",)


def torched(change: Callable[[State], Any], **options: Any) -> Callable[[Path, State], object]:
    """Return what saves the tensors with PyTorch after a change."""
    return lambda path, state: torch.save(change(state), path, **options)


def written(content: bytes) -> Callable[[Path, State], object]:
    """Return what writes bytes."""
    return lambda path, _: path.write_bytes(content)


def spoilt(change: Callable[[bytes], bytes], safe: bool = False) -> Callable[[Path, State], object]:
    """Return what saves the tensors and then changes the bytes of the file."""

    def make(path: Path, state: State) -> None:
        save_file(state, path) if safe else torch.save(state, path)
        path.write_bytes(change(path.read_bytes()))

    return make


def lying(header: dict[str, Any] | list[Any] | str, data: bytes = b"\0" * 16) -> bytes:
    """Return a safetensors file whose header says what is not there."""
    text = header if isinstance(header, str) else json.dumps(header)
    return struct.pack("<Q", len(text)) + text.encode() + data


def tensor(start: int, end: int, shape: list[int], kind: str = "F32") -> dict[str, Any]:
    """Return the header of one tensor of a safetensors file."""
    return {"x": {"dtype": kind, "shape": shape, "data_offsets": [start, end]}}


def without(state: State, key: str) -> State:
    """Return the tensors without one."""
    return {name: value for name, value in state.items() if name != key}


def with_value(value: float) -> Callable[[State], State]:
    """Return what puts a number into the first weights."""

    def change(state: State) -> State:
        first = state[FIRST].clone()
        first.view(-1)[0] = value
        return {**state, FIRST: first}

    return change


def deflated(path: Path, state: State) -> None:
    """Write PyTorch's archive compressed, as a bomb would be."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with zipfile.ZipFile(buffer) as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name in plain.namelist():
            out.writestr(name, plain.read(name))


def emptied(path: Path, state: State) -> None:
    """Write PyTorch's archive without the numbers of its tensors."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with zipfile.ZipFile(buffer) as whole, zipfile.ZipFile(path, "w") as out:
        for name in whole.namelist():
            if "/data/" not in name:
                out.writestr(name, whole.read(name))


def script(path: Path, _: State) -> None:
    """Write a TorchScript archive."""
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("archive/constants.pkl", pickle.dumps(()))
        out.writestr("archive/data.pkl", pickle.dumps(Harmful(), protocol=2))


def shell(path: Path, _: State) -> None:
    """Write a pickle of protocol 0 whose text calls a command."""
    path.write_bytes(f"cos\nsystem\n(S'{HARM}'\ntR.".encode())


PAGE = b"<!DOCTYPE html>\n<html><title>Sign in</title></html>"
SAFE = "theirs.safetensors"
USED = [
    Weights("tensors by name", torched(dict)),
    Weights("in state_dict", torched(lambda s: {"state_dict": s, "epoch": 3})),
    Weights("in model, of processes", torched(lambda s: {"model": {f"module.{k}": v for k, v in s.items()}})),
    Weights("half precision", torched(lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()})),
    Weights("format of old PyTorch", torched(dict, _use_new_zipfile_serialization=False)),
    Weights("parts of larger tensors", torched(lambda s: {k: torch.stack([v, v])[0] for k, v in s.items()})),
    Weights("safetensors", lambda path, state: save_file(state, path), file=SAFE),
    Weights("safetensors called pth", lambda path, state: save_file(state, path)),
    Weights("PyTorch's file called safetensors", torched(dict), file=SAFE),
    Weights("in model_state_dict, of torch.compile", torched(lambda s: {"model_state_dict": {f"_orig_mod.{k}": v for k, v in s.items()}})),
    Weights("of Lightning", torched(lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "epoch": 3})),
    Weights("beside the arguments of the program", torched(lambda s: {"model": s, "args": argparse.Namespace(lr=0.1, out=Path("x"))})),
    Weights("beside an average and an optimiser", torched(lambda s: {"model_ema": s, "model": s, "optimizer": {"state": {0: s}}})),
]  # fmt: skip
BAD = [
    Weights("a command in a pickle", lambda p, _: p.write_bytes(pickle.dumps(Harmful(), 2)), REFUSED),
    Weights("a command in protocol 0", shell, REFUSED),
    Weights("a command in protocol 5", lambda p, _: p.write_bytes(pickle.dumps(Harmful(), 5)), "theirs.pth "),
    Weights("a command beside tensors", torched(lambda s: {"state_dict": s, "x": Harmful()}), REFUSED),
    Weights("Python in a pickle", torched(lambda s: {**s, "x": Evaluated()}), REFUSED),
    Weights("a command, old format", torched(lambda s: {**s, "x": Harmful()}, _use_new_zipfile_serialization=False), REFUSED),
    Weights("a command called safetensors", lambda p, _: p.write_bytes(pickle.dumps(Harmful(), 2)), REFUSED, SAFE),
    Weights("a script", script, "theirs.pth is a program of TorchScript."),
    Weights("a whole module", torched(lambda _: torch.nn.Linear(2, 2)), REFUSED),
    Weights("empty", written(b""), "theirs.pth is empty. Download it again."),
    Weights("a web page", written(PAGE), "theirs.pth is a web page: the link has expired"),
    Weights("a web page with a mark", written(b"\xef\xbb\xbf \n" + PAGE), "theirs.pth is a web page: the link has expired"),
    Weights("an error in XML", written(b'<?xml version="1.0"?><Error/>'), "theirs.pth is a web page: the link has expired"),
    Weights("words", written(b"404: Not Found"), UNREAD),
    Weights("zeros", written(bytes(1000)), "theirs.pth "),
    Weights("a folder's archive", lambda p, _: zipfile.ZipFile(p, "w").close(), "theirs.pth is a zip archive of 0 files."),
    Weights("arrays of numpy", lambda p, s: p.write_bytes(pack_arrays({"a": s[FIRST].numpy()})), "is an archive of NumPy's arrays."),
    Weights("compressed", deflated, "theirs.pth is compressed, which no checkpoint is."),
    Weights("without numbers", emptied, UNREAD),
    Weights("head alone", spoilt(lambda c: c[:40]), UNREAD),
    Weights("half", spoilt(lambda c: c[: len(c) // 2]), UNREAD),
    Weights("nearly whole", spoilt(lambda c: c[:-60]), UNREAD),
    Weights("no tensors", torched(lambda _: {"epoch": 3}), "holds no tensors by name."),
    Weights("a list", torched(lambda s: list(s.values())), "holds no tensors by name."),
    Weights("a tensor", torched(lambda s: s[FIRST]), "holds no tensors by name."),
    Weights("a weight missing", torched(lambda s: without(s, FIRST)), f"{OTHER}1 missing ({HERE})."),
    Weights("a weight left over", torched(lambda s: {**s, "x": s[FIRST]}), f"{OTHER}1 left over (x)."),
    Weights("another shape", torched(lambda s: {**s, FIRST: s[FIRST][:3]}), f"1 of another shape ({FIRST} "),
    Weights("another network", torched(lambda _: torch.nn.Linear(2, 2).state_dict()), "2 left over (bias, weight)"),
    Weights("two weights of one name", torched(lambda s: {**s, f"module.{FIRST}": s[FIRST]}), "are both called"),
    Weights("not a number", torched(with_value(float("nan"))), f"not finite numbers ({HERE})"),
    Weights("infinite", torched(with_value(float("inf"))), f"not finite numbers ({HERE})"),
    Weights("complex", torched(lambda s: {**s, FIRST: s[FIRST] + 1j}), f"not finite numbers ({HERE})"),
    Weights("safetensors, half", spoilt(lambda c: c[: len(c) // 2], True), NOT_WHOLE, SAFE),
    Weights("safetensors, too long a header", written(b"\xff" * 8 + b"{}"), NOT_WHOLE, SAFE),
    Weights("safetensors, no JSON", written(lying("not JSON")), NOT_WHOLE, SAFE),
    Weights("safetensors, a list", written(lying([])), NOT_WHOLE, SAFE),
    Weights("safetensors, beyond the end", written(lying(tensor(0, 4000, [1000]))), NOT_WHOLE, SAFE),
    Weights("safetensors, before the start", written(lying(tensor(-8, 8, [4]))), NOT_WHOLE, SAFE),
    Weights("safetensors, another size", written(lying(tensor(0, 16, [1000]))), NOT_WHOLE, SAFE),
    Weights("safetensors, huge shape", written(lying(tensor(0, 16, [2**40, 2**40]))), NOT_WHOLE, SAFE),
    Weights("safetensors, unknown kind", written(lying(tensor(0, 16, [4], "X9"))), NOT_WHOLE, SAFE),
    Weights("absent", lambda *_: None, "The checkpoint theirs.pth does not exist."),
    Weights("a folder", lambda p, _: p.mkdir(), "The checkpoint theirs.pth does not exist."),
    Weights("a pipe", lambda p, _: os.mkfifo(p), "The checkpoint theirs.pth does not exist."),
]  # fmt: skip

OURS = "segmenter.safetensors is not a whole network of ours ("


def headed(header: str) -> Callable[[Path, State], object]:
    """Return what writes a file of ours with another header."""
    return lambda path, state: save_file(state, path, {"wsss": header})


BAD_OURS = [
    Weights("cut short", spoilt(lambda c: c[:-9], True), OURS),
    Weights("zeros", written(bytes(5000)), OURS),
    Weights("a pickle", torched(lambda s: {**s, "x": Harmful()}), OURS),
    Weights("without a header", lambda path, state: save_file(state, path), OURS),
    Weights("header no JSON", headed("{"), OURS),
    Weights("header a list", headed("[1]"), OURS),
    Weights("header nested without end", headed("[" * 100_000), OURS),
    Weights("without classes", headed("{}"), "does not name its classes."),
    Weights("classes a number", headed('{"classes": 3}'), "does not name its classes."),
    Weights("classes numbers", headed('{"classes": [1, 2]}'), "does not name its classes."),
    Weights("a class more", headed('{"classes": ["a", "b", "c"]}'), OTHER),
    Weights("absent", lambda path, _: path.unlink(), "segmenter.safetensors is missing."),
]

Vectors = dict[str, Tensor]
NAMES = ("frog", "newt")  # the classes of a pond
UNFIT = "where 2 vectors of classes and those of backgrounds have 64 finite numbers each. Run `wsss text"
OTHERS = "is of other classes than the dataset has. Run `wsss text ponds`"


def vectored(
    change: Callable[[Vectors], Vectors], names: tuple[str, ...] = NAMES
) -> Callable[[Path, State], object]:
    """Return what saves vectors of words after a change. names: of the classes, for the header."""
    return lambda path, vectors: checkpoint.save(path, change(vectors), {"classes": names})


BAD_VECTORS = [
    Weights("other words", vectored(dict, ("cat", "dog")), OTHERS),
    Weights("another order", vectored(dict, ("newt", "frog")), OTHERS),
    Weights("another tower", vectored(lambda v: {k: x[:, :32] for k, x in v.items()}), UNFIT),
    Weights("a class more", vectored(lambda v: {**v, "classes": torch.ones(3, 64)}), UNFIT),
    Weights("without backgrounds", vectored(lambda v: {"classes": v["classes"]}), UNFIT),
    Weights("no background", vectored(lambda v: {**v, "background": torch.ones(0, 64)}), UNFIT),
    Weights("further vectors", vectored(lambda v: {**v, "x": torch.ones(2, 64)}), UNFIT),
    Weights("three axes", vectored(lambda v: {k: x[None] for k, x in v.items()}), UNFIT),
    Weights("no numbers", vectored(lambda v: {**v, "classes": torch.full((2, 64), torch.nan)}), UNFIT),
    Weights("integers", vectored(lambda v: {**v, "classes": torch.ones(2, 64, dtype=torch.int64)}), UNFIT),
    Weights("half", spoilt(lambda c: c[: len(c) // 2], True), "is damaged. Run `wsss text ponds`"),
    Weights("a pickle", torched(lambda v: {**v, "x": Harmful()}), "is damaged. Run `wsss text ponds`"),
    Weights("empty", written(b""), "is damaged. Run `wsss text ponds`"),
    Weights("a folder", lambda path, _: path.mkdir(), "is missing. Run `wsss text ponds`"),
    Weights("a pipe", lambda path, _: os.mkfifo(path), "is missing. Run `wsss text ponds`"),
]  # fmt: skip
