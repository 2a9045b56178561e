"""Images as files really are: rotated, grey, deep, transparent, animated, broken."""

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_data import SIDE, mask, picture
from PIL import Image

from wsss.data import labelmap
from wsss.data.images import (
    load_entry,
    load_entry_mask,
    load_image,
    load_mask,
    load_saliency,
    load_truth,
    probe,
    read_entry,
)
from wsss.data.index import Entry
from wsss.data.raw_files import RawFiles, measure
from wsss.errors import DatasetError, MissingError
from wsss.storage.archive import Writer
from wsss.storage.files import checksum

GREY_200 = (200, 200, 200)


def save(path: Path, picture: Image.Image, **options: object) -> Path:
    picture.save(path, **options)
    return path


def deep(mode: str) -> Image.Image:
    kind = {"I;16": "<u2", "I": "<i4"}[mode]
    return Image.fromarray(np.full((20, 30), 200 * 257, kind))


@pytest.mark.parametrize(
    ("suffix", "picture", "expected"),
    [
        ("png", Image.new("L", (30, 20), 200), GREY_200),
        ("png", Image.new("1", (30, 20), 1), (255, 255, 255)),
        ("png", Image.new("LA", (30, 20), (200, 255)), GREY_200),
        ("png", Image.new("RGBA", (30, 20), (200, 10, 10, 0)), (255, 255, 255)),
        ("png", Image.new("RGB", (30, 20), (1, 2, 3)).convert("P"), (0, 0, 0)),
        ("png", deep("I;16"), GREY_200),
        ("tiff", deep("I;16"), GREY_200),
        ("tiff", deep("I"), GREY_200),
        ("tiff", Image.new("CMYK", (30, 20), (0, 255, 255, 0)), (255, 0, 0)),
        ("gif", Image.new("L", (30, 20), 200), GREY_200),
    ],
)  # fmt: skip
def test_every_mode_becomes_rgb(
    tmp_path: Path, suffix: str, picture: Image.Image, expected: tuple[int, int, int]
) -> None:
    image = load_image(save(tmp_path / f"x.{suffix}", picture))
    assert image.shape == (20, 30, 3)
    assert image.dtype == np.uint8
    assert tuple(image[10, 15].tolist()) == expected


def test_a_transparent_palette_colour_is_laid_on_white(tmp_path: Path) -> None:
    picture = Image.fromarray((np.arange(600) % 2).astype(np.uint8).reshape(20, 30))
    picture.putpalette([200, 0, 0, 0, 0, 200])
    image = load_image(save(tmp_path / "x.png", picture, transparency=0))
    assert image[0, :2].tolist() == [[255, 255, 255], [0, 0, 200]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied_and_counts_in_the_size(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :8] = 255  # the corner that must end at the top left
    stored = Image.fromarray(upright)
    undo = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM], 5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90], 7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }  # fmt: skip
    for step in undo.get(orientation, []):
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "x.jpg", stored, exif=exif, quality=100)
    image = load_image(path)
    assert image.shape == (16, 32, 3)
    assert image[2:6, 2:6].mean() > 240
    assert image[8:, 8:].mean() < 20
    assert measure(path, RawFiles())[0] == probe(path)[0] == (16, 32)


def test_the_first_frame_of_an_animation_is_taken_and_reported(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "blue")]
    path = save(tmp_path / "x.gif", frames[0], save_all=True, append_images=frames[1:])
    assert load_image(path)[0, 0].tolist() == [255, 0, 0]
    _, odd = probe(path)
    assert odd == [f"The image {path} has 2 frames. Save the one that you mean as PNG."]


def test_an_image_of_a_few_pixels_is_reported(tmp_path: Path) -> None:
    _, odd = probe(save(tmp_path / "x.png", Image.new("RGB", (9, 20))))
    assert odd == [f"The image {tmp_path}/x.png is 9 x 20 px. Use sides of 16 px or more."]


def test_members_of_an_archive_are_read_like_files(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "red").save(buffer, "PNG")
    with Writer(tmp_path / "all.zip") as writer:
        writer.add("images/a.png", buffer.getvalue())
        writer.add("masks/a.png", labelmap.encode(np.full((20, 30), 7)))
    assert load_image(tmp_path / "all.zip/images/a.png").mean(axis=(0, 1)).tolist() == [255, 0, 0]
    assert load_mask(f"{tmp_path}/all.zip/masks/a.png").max() == 7


def bomb() -> bytes:
    """Return a PNG of 50 000 x 50 000 pixels in a hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"0"))
        + chunk(b"IEND", b"")
    )


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an image"),
        (b"hello", "is not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "is not an image"),
        (encoded("JPEG")[:-500], "is damaged (image file is truncated"),
        (encoded("PNG")[:-500], "is damaged ("),
        (encoded("WEBP")[:-500], "is damaged ("),
        (bomb(), "has more than 89 million pixels. Make it smaller."),
    ],
)  # fmt: skip
def test_a_broken_image_is_refused_in_one_line_that_names_it(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    for read in (load_image, probe):
        with pytest.raises(DatasetError) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_bomb_is_no_mask_either(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(bomb())
    with pytest.raises(DatasetError, match="more than 89 million pixels"):
        load_mask(tmp_path / "m.png")


def test_an_absent_image_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"nowhere\.png is missing"):
        load_image(tmp_path / "nowhere.png")
    with pytest.raises(DatasetError, match=r"cannot be read \(Is a directory\)"):
        load_image(tmp_path)


def test_masks_keep_their_values_and_refuse_colours(tmp_path: Path) -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    (tmp_path / "m.png").write_bytes(labelmap.encode(labels))
    assert (load_mask(tmp_path / "m.png") == labels).all()
    with pytest.raises(DatasetError, match="has colours"):
        load_mask(save(tmp_path / "rgb.png", Image.new("RGB", (20, 20))))


def test_the_checksum_follows_the_bytes(tmp_path: Path) -> None:
    first = save(tmp_path / "a.png", Image.new("RGB", (20, 20)))
    same = save(tmp_path / "b.png", Image.new("RGB", (20, 20)))
    other = save(tmp_path / "c.png", Image.new("RGB", (20, 20), "red"))
    assert measure(first, RawFiles()) == measure(same, RawFiles())
    assert measure(first, RawFiles())[1] != measure(other, RawFiles())[1]


def test_a_file_that_is_not_the_indexed_one_is_refused(tmp_path: Path) -> None:
    paths = [picture(tmp_path / f"{name}.png", 0) for name in ("image", "saliency")]
    paths.append(mask(tmp_path / "mask.png", 1))
    image, saliency, truth = (checksum(path.read_bytes()) for path in paths)
    names = [str(path) for path in paths]
    entry = Entry("image", names[0], names[2], ("frog",), "train", (SIDE, SIDE), image)
    entry = replace(entry, mask_checksum=truth, saliency=names[1], saliency_checksum=saliency)
    reads = [load_entry, read_entry, load_saliency, lambda entry: load_truth(entry, 2)]
    for read in reads:
        read(entry)
    for path in paths[:2]:
        picture(path, 1)
    mask(paths[2], 2)
    for read, kind in zip(reads, ("image", "image", "saliency map", "mask"), strict=True):
        with pytest.raises(DatasetError, match=rf"^The {kind} \S+ has changed since .* `wsss data"):
            read(entry)
    for read in (load_entry, load_saliency, load_entry_mask):  # of no index, so not compared
        read(replace(entry, checksum="", mask_checksum="", saliency_checksum=""))
