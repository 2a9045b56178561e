"""The archive of the VOC test server: exactly its images, as it wants them."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wsss.data import labelmap
from wsss.data.index import Entry, Index, save_index
from wsss.errors import ConfigError, DatasetError, MissingError
from wsss.export.voc_test import voc_test
from wsss.runs.run import Run
from wsss.settings import Params
from wsss.storage.archive import Writer

CLASSES = tuple("abcdefghijklmnopqrst")
SIZE = (6, 9)
RUN = Run(Params(), "voc12", "cam", "common", 0)


def entry(name: str, split: str = "test") -> Entry:
    return Entry(name, f"{name}.jpg", None, (), split, SIZE, name)


def labels(value: int, size: tuple[int, int] = SIZE) -> bytes:
    return labelmap.encode(np.full(size, value, np.uint8))


def grey() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def predict(**masks: bytes) -> None:
    """Write an index with two test images, and predictions: good ones unless others are given."""
    images = (entry("2008_000006"), entry("2008_000008"), entry("2007_000033", "val"))
    save_index(Index("voc12", CLASSES, images), RUN.index)
    with Writer(RUN.path("masks.zip")) as writer:
        good = {"2007_000033": labels(1), "2008_000006": labels(0), "2008_000008": labels(20)}
        for name, content in {**good, **{f"2008_{k[1:]}": v for k, v in masks.items()}}.items():
            if content:
                writer.add(f"{name}.png", content)


def test_the_archive_holds_the_test_images_and_no_other(work: Path) -> None:
    predict()
    path = voc_test(RUN)
    assert path == Path("results/voc-test-cam-common-s0.tar")
    with tarfile.open(path) as tar:
        names = [member.name for member in tar]
        file = tar.extractfile(names[1])
        assert file is not None
        with Image.open(file) as picture:
            assert (picture.mode, picture.size) == ("P", (9, 6))
            assert np.unique(np.array(picture)).tolist() == [20]
            assert picture.getpalette()[:9] == labelmap.palette()[:9]
    folder = "results/VOC2012/Segmentation/comp6_test_cls"
    assert names == [f"{folder}/2008_000006.png", f"{folder}/2008_000008.png"]
    first = path.read_bytes()
    assert voc_test(RUN, Path("again.tar")).read_bytes() == first


def test_the_archive_of_a_decoder_has_its_predictions(work: Path) -> None:
    predict()
    run = Run(Params(), "voc12", "weclip", "published", 0)
    with Writer(run.path("decode.zip")) as writer:
        for name in ("2008_000006", "2008_000008"):
            writer.add(f"{name}.png", labels(7))
    path = voc_test(run, what="decode")
    assert path == Path("results/voc-test-decode-weclip-published-s0.tar")
    with tarfile.open(path) as tar:
        file = tar.extractfile(tar.getmembers()[0])
        assert file is not None
        assert labelmap.decode(file.read(), "the archive").tolist() == [[7] * 9] * 6
    with pytest.raises(ConfigError, match="cam has no decoder of its own: leave --what out."):
        voc_test(RUN, what="decode")
    with pytest.raises(ConfigError, match="'pseudo' is not one of masks, decode."):
        voc_test(RUN, what="pseudo")


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"", MissingError, "holds no '2008_000006.png'"),
        (labels(255), DatasetError, "2008_000006.png has the value 255, and the server knows 0 to 20"),
        (labels(21), DatasetError, "has the value 21"),
        (labels(0, (9, 6)), DatasetError, "is 6 x 9 px, its image 9 x 6"),
        (grey(), DatasetError, "is no indexed PNG"),
    ],
)  # fmt: skip
def test_what_the_server_would_refuse_is_refused(
    work: Path, content: bytes, error: type[Exception], message: str
) -> None:
    predict(_000006=content)
    with pytest.raises(error, match=message):
        voc_test(RUN)
    assert not Path("results/voc-test-cam-common-s0.tar").exists()


def test_without_test_images_it_says_where_they_are_from(work: Path) -> None:
    save_index(Index("voc12", CLASSES, (entry("a", "val"),)), RUN.index)
    with pytest.raises(DatasetError, match="has no test images. Unpack VOC2012test.tar"):
        voc_test(RUN)


def test_other_datasets_are_refused(work: Path) -> None:
    with pytest.raises(ConfigError, match="is not of voc12"):
        voc_test(Run(Params(), "shapes", "cam", "common", 0))
