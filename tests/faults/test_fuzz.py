"""Readers of what others wrote: whatever the bytes, they answer or raise an error of ours in one line."""

import contextlib
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import brought
import numpy as np
import torch
from bad_images import encoded
from hypothesis import strategies as st
from laws import law
from safetensors.torch import save as safe_bytes
from scipy.io import savemat
from test_laws_files import JSON

from wsss.data import labelmap
from wsss.data.images import load_image, load_mask
from wsss.data.index import Entry, Index, load_index, save_index
from wsss.data.index_parts import PARTS, part_path
from wsss.datasets import sbd, user_table
from wsss.errors import WsssError, one_line
from wsss.settings import CsvParams, Params
from wsss.settings.resolve import load_params, resolve_settings, validate_params
from wsss.storage import archive, checkpoint
from wsss.storage.cam_archive import Cam, pack, unpack
from wsss.storage.plain_npy import load_arrays

ENTRY = Entry("p0", "p0.png", "m0.png", ("frog",), "train", (9, 9), "x", ((0, 0, 3, 3),), None, "y")
INDEX = Index("ponds", ("frog",), (ENTRY,))
STATE = {"a.weight": torch.arange(12.0).reshape(3, 4), "b": torch.ones(2)}
CUTS = st.integers(0, 100_000)
EDITS = st.lists(st.tuples(CUTS, st.binary(max_size=4)), max_size=4)


@contextlib.contextmanager
def answered() -> Iterator[None]:
    """Let an error of ours pass if it can be shown in one line that says something."""
    try:
        yield
    except WsssError as error:
        check_line(str(error))


def check_line(message: str) -> None:
    assert len(message) > 10
    assert one_line(message).isprintable()


@contextlib.contextmanager
def file_of(content: bytes, name: str) -> Iterator[Path]:
    """Yield a file with this content in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        yield path


def edited(content: bytes, edits: list[tuple[int, bytes]], cut: int | None = None) -> bytes:
    """Return content with bytes written over, and cut."""
    changed = bytearray(content)
    for place, new in edits:
        at = place % (len(changed) + 1)
        changed[at : at + len(new)] = new
    return bytes(changed[: None if cut is None else cut % (len(changed) + 1)])


def read_index(path: Path) -> None:
    """Read a file as the whole index, and as parts of one."""
    for part in PARTS:
        part_path(path, part).parent.mkdir(exist_ok=True)
        part_path(path, part).write_bytes(path.read_bytes())
    for parts in ((), ("train",), ("val", "val_truth")):
        with answered():
            load_index(path, *parts)


def index_bytes() -> bytes:
    with file_of(b"", "index.json") as path:
        save_index(INDEX, path)
        return path.read_bytes()


def torch_bytes(**options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": STATE, "epoch": 3}, buffer, **options)
    return buffer.getvalue()


def zip_bytes() -> bytes:
    with file_of(b"", "x.zip") as path:
        with archive.Writer(path) as writer:
            writer.add("a.png", labelmap.encode(np.eye(5)))
            writer.add("b.txt", b"words")
        return path.read_bytes()


def places(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every value of nested mappings and lists."""
    pairs = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    return [at, *(place for key, value in pairs for place in places(value, (*at, key)))]  # fmt: skip


def replaced(tree: Any, at: tuple[Any, ...], value: Any) -> Any:
    """Return a tree with another value at one place."""
    if not at:
        return value
    copy = tree.copy()
    copy[at[0]] = replaced(tree[at[0]], at[1:], value)
    return copy


def mat_bytes(compressed: bool) -> bytes:
    buffer = io.BytesIO()
    structure = {"Segmentation": np.eye(7, 9, dtype=np.uint8), "CategoriesPresent": np.eye(2)}
    savemat(buffer, {"GTcls": structure}, do_compression=compressed)
    return buffer.getvalue()


INDEX_JSON = json.loads(index_bytes())
PARAMS_JSON = json.loads(Params().model_dump_json())
INDEX_PLACES, PARAMS_PLACES = places(INDEX_JSON), places(PARAMS_JSON)
CAM = pack(Cam(np.array([1], np.int16), np.ones((1, 2, 2), np.float16), (8, 8), 4))
IMAGES = {kind: encoded(kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")}
MAT = {compressed: mat_bytes(compressed) for compressed in (False, True)}
MAPS = {0: np.ones((3, 4), np.float32), 1: np.eye(3, 4, dtype=np.float32)}
ARRAYS = {
    ".npy": brought.npy(MAPS),
    ".npz": archive.pack_arrays({"keys": np.arange(2), "high_res": np.stack([*MAPS.values()])}),
}
TORCH = [torch_bytes(), torch_bytes(_use_new_zipfile_serialization=False)]


@law(st.binary(max_size=200))
def test_the_index_reader_on_any_bytes(content: bytes) -> None:
    with file_of(content, "index.json") as path:
        read_index(path)


@law(EDITS, st.none() | CUTS)
def test_the_index_reader_on_a_damaged_index(
    edits: list[tuple[int, bytes]], cut: int | None
) -> None:
    with file_of(edited(index_bytes(), edits, cut), "index.json") as path:
        read_index(path)


@law(st.sampled_from(INDEX_PLACES), JSON, share=2)
def test_the_index_reader_on_any_value_anywhere(at: tuple[Any, ...], value: Any) -> None:
    content = json.dumps(replaced(INDEX_JSON, at, value)).encode()
    with file_of(content, "index.json") as path:
        read_index(path)


@law(st.text(max_size=200) | st.text("{}[]:,-&*!|>'\"#% \nab01", max_size=60), share=2)
def test_the_params_reader_on_any_text(text: str) -> None:
    with file_of(text.encode(errors="surrogatepass"), "p.yaml") as path, answered():
        load_params([path])


@law(st.binary(max_size=100))
def test_the_params_reader_on_any_bytes(content: bytes) -> None:
    with file_of(content, "p.yaml") as path, answered():
        load_params([path])


@law(st.sampled_from(PARAMS_PLACES[1:]), JSON | st.floats(), share=2)
def test_the_params_reader_on_any_value_anywhere(at: tuple[Any, ...], value: Any) -> None:
    with answered():
        params = validate_params(replaced(PARAMS_JSON, at, value))
        names = (params.datasets[0], params.methods[0], params.protocols[0])
        assert resolve_settings(params, *names)  # what is taken can be resolved


@law(st.binary(max_size=300), st.sampled_from(["x.pth", "x.safetensors"]))
def test_the_checkpoint_reader_on_any_bytes(content: bytes, name: str) -> None:
    with file_of(content, name) as path, answered():
        checkpoint.load_foreign(path)


@law(st.sampled_from(TORCH), EDITS, st.none() | CUTS, share=2)
def test_the_checkpoint_reader_on_a_damaged_file_of_pytorch(
    content: bytes, edits: list[tuple[int, bytes]], cut: int | None
) -> None:
    with file_of(edited(content, edits, cut), "x.pth") as path, answered():
        checkpoint.load_foreign(path)


@law(EDITS, st.none() | CUTS, share=2)
def test_the_checkpoint_reader_on_damaged_safetensors(
    edits: list[tuple[int, bytes]], cut: int | None
) -> None:
    content = safe_bytes(STATE, {checkpoint.HEADER: '{"classes": ["frog"]}'})
    with file_of(edited(content, edits, cut), "x.safetensors") as path:
        for read in (checkpoint.load, checkpoint.load_foreign, checkpoint.classes):
            with answered():
                read(path)


@law(st.text(max_size=200) | st.text('image,labelsptr\n"; ./a', max_size=80))
def test_the_table_reader_on_any_text(text: str) -> None:
    head = "image,labels,split\n"
    for content in (text, head + text):
        with file_of(content.encode(errors="replace"), "t.csv") as path, answered():
            user_table.read(CsvParams(table=str(path), root=str(path.parent)), "ponds")


@law(st.sampled_from(list(IMAGES)), EDITS, st.none() | CUTS, share=2)
def test_the_image_reader_on_a_damaged_image(
    kind: str, edits: list[tuple[int, bytes]], cut: int | None
) -> None:
    with file_of(edited(IMAGES[kind], edits, cut), "x.png") as path:
        for read in (load_image, load_mask):
            with answered():
                read(path)


@law(EDITS, st.none() | CUTS)
def test_the_archive_reader_on_a_damaged_archive(
    edits: list[tuple[int, bytes]], cut: int | None
) -> None:
    with file_of(edited(zip_bytes(), edits, cut), "x.zip") as path, answered():
        reader = archive.Reader(path)
        for name in reader.names():
            with answered():
                labelmap.decode(reader.read(name), name)


@law(st.booleans(), EDITS, st.none() | CUTS)
def test_the_reader_of_matlab_files_on_damaged_ones(
    compressed: bool, edits: list[tuple[int, bytes]], cut: int | None
) -> None:
    with file_of(edited(MAT[compressed], edits, cut), "x.mat") as path, answered():
        (path.parent / "cls").mkdir()
        path.rename(path.parent / "cls/x.mat")
        sbd.load_mask(path.parent, "x")


@law(st.sampled_from([".npy", ".npz"]), EDITS, st.none() | CUTS, share=2)
def test_the_reader_of_arrays_on_damaged_ones(
    suffix: str, edits: list[tuple[int, bytes]], cut: int | None
) -> None:
    with answered():
        load_arrays(edited(ARRAYS[suffix], edits, cut), f"x{suffix}")


@law(EDITS, st.none() | CUTS)
def test_the_reader_of_class_maps_on_damaged_maps(
    edits: list[tuple[int, bytes]], cut: int | None
) -> None:
    with answered():
        unpack(edited(CAM, edits, cut), "x")
