"""Laws of files: what is written comes back, and equal content gives equal bytes."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from laws import law

from wsss.data.index import SPLITS, Entry, Index, is_file_name, load_index, save_index
from wsss.data.index_parts import PARTS, TRAINING
from wsss.storage import archive, checkpoint
from wsss.storage.cam_archive import Cam, pack, unpack
from wsss.storage.files import read_json, write_json

WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
NAMES = WORDS.filter(is_file_name)
SIDES = st.integers(1, 5000)
BOXES = st.lists(st.tuples(*[st.floats(0, 5000)] * 4), max_size=2).map(tuple)

TEXTS = WORDS.filter(bool)


@st.composite
def indexes(draw: st.DrawFn) -> Index:
    """Return an index of whatever names, classes and sizes."""
    classes = draw(st.lists(WORDS, min_size=1, max_size=4, unique=True))
    images = [
        Entry(
            name,
            draw(WORDS),
            draw(st.none() | WORDS),
            tuple(c for c in classes if draw(st.booleans())),
            draw(st.sampled_from(SPLITS)),
            draw(st.tuples(SIDES, SIDES)),
            *draw(st.tuples(TEXTS, BOXES, st.none() | TEXTS, TEXTS, TEXTS)),
        )
        for name in draw(st.lists(NAMES, max_size=4, unique=True))
    ]
    return Index(draw(WORDS), tuple(classes), tuple(sorted(images, key=lambda i: i.name)))


@law(indexes())
def test_an_index_comes_back_as_it_was(index: Index) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "index.json")
        save_index(index, path)
        first = path.read_bytes()
        assert load_index(path) == index
        save_index(load_index(path), path)
        assert path.read_bytes() == first


@law(indexes())
def test_all_parts_of_an_index_hold_what_stages_read(index: Index) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "index.json")
        assert save_index(index, path) == list(PARTS)
        assert save_index(index, path) == []
        images = load_index(path, *PARTS).images
    unused = {"saliency": None, "saliency_checksum": ""}
    assert sorted(images, key=lambda image: image.name) == [
        replace(image, boxes=()) if image.split in TRAINING else replace(image, **unused)
        for image in index.images
    ]


MEMBERS = st.dictionaries(NAMES, st.binary(max_size=40), max_size=6)


@law(MEMBERS, st.randoms(use_true_random=False), st.integers(1, 4))
def test_an_archive_comes_back_whatever_the_order_and_the_shards(
    members: dict[str, bytes], chance: object, parts: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole, joined = Path(folder, "whole.zip"), Path(folder, "joined.zip")
        names = list(members)
        chance.shuffle(names)  # type: ignore[attr-defined]
        write(whole, {name: members[name] for name in names})
        shards = [Path(folder, f"{k}.zip") for k in range(parts)]
        for number, path in enumerate(shards):
            write(path, {name: members[name] for name in names[number::parts]})
        with archive.Writer(joined) as writer:
            archive.join(shards, writer)
        assert whole.read_bytes() == joined.read_bytes()
        reader = archive.Reader(joined)
        assert {name: reader.read(name) for name in reader.names()} == members
        assert sorted(path.name for path in Path(folder).iterdir() if path.name[0] == ".") == []


def write(path: Path, members: dict[str, bytes]) -> None:
    with archive.Writer(path) as writer:
        for name, content in members.items():
            writer.add(name, content)


HALVES = st.floats(0, 1, width=16)


@st.composite
def cams(draw: st.DrawFn) -> Cam:
    """Return class maps of an image, with or without their extra maps."""
    count = draw(st.integers(0, 4))
    height, width = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    labels = np.array(sorted(draw(st.permutations(range(20)))[:count]), np.int16)

    def maps(number: int) -> np.ndarray:
        return draw(arrays.arrays(np.float16, (number, height, width), elements=HALVES))

    extra = [maps(n) if draw(st.booleans()) else None for n in (count, 1)]
    return Cam(labels, maps(count), (height * 4, width * 4), 4, *extra)


@law(cams())
def test_class_maps_come_back_as_they_were(cam: Cam) -> None:
    content = pack(cam)
    found = unpack(content, "x")
    assert (found.size, found.stride) == (cam.size, cam.stride)
    for name in ("labels", "cam", "high", "background"):
        was, now = getattr(cam, name), getattr(found, name)
        assert (was is None and now is None) or (was == now).all()
    assert pack(found) == content


STATES = st.dictionaries(
    WORDS.filter(lambda name: bool(name) and name != "__metadata__"),
    arrays.arrays(
        st.sampled_from([np.float32, np.float16, np.int64, np.uint8]),
        arrays.array_shapes(min_dims=0, max_dims=3, max_side=4),
    ),
    min_size=1,
    max_size=4,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


@law(STATES, st.dictionaries(WORDS, JSON, max_size=3))
def test_weights_come_back_with_their_header(
    state: dict[str, np.ndarray], header: dict[str, object]
) -> None:
    tensors = {name: torch.from_numpy(np.asarray(value)) for name, value in state.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.safetensors")
        checkpoint.save(path, tensors, header)
        found, said = checkpoint.load(path)
        assert said == header
        assert found.keys() == tensors.keys()
        assert all(found[k].numpy().tobytes() == v.numpy().tobytes() for k, v in tensors.items())
        found = {name: value.clone() for name, value in found.items()}  # they lie in the file
        first = path.read_bytes()
        checkpoint.save(path, found, header)
        assert path.read_bytes() == first


@law(st.dictionaries(WORDS, JSON, max_size=4))
def test_json_comes_back_as_it_was(content: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder, "x.json"), content)
        assert read_json(Path(folder, "x.json")) == content
