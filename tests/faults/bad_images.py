"""Images as strangers have them: each with how it is made and what is said of it."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pond import SIZE, VICTIM

HEIGHT, WIDTH = SIZE
GREY = (200, 200, 200)
RED = (254, 0, 0)
ORIENTATION = 0x0112
SMALL = "Use sides of 16 px or more."
FRAMES = "has 2 frames. Save the one that you mean as PNG."
NO_IMAGE = "is not an image. Replace it by a file of BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP."
CUT = "is damaged ("
BOMB = "has more than 89 million pixels. Make it smaller."
ALL = ("check", "prepare", "predict")
DECODING = ("check", "predict")  # what is seen only where pixels are decoded


@dataclass(frozen=True)
class Picture:
    """An image: how its file is made, what is said of it and by which commands, or what is seen.

    said: in the line of the commands `by`; the others accept it. size: (H, W) of the predicted mask.
    colour: the mean of RGB as the networks see it, to within 2.
    """

    name: str
    make: Callable[[Path], object]
    file: str = VICTIM
    said: str = ""
    by: tuple[str, ...] = ALL
    size: tuple[int, int] = SIZE
    colour: tuple[int, int, int] | None = None


def plain(mode: str, colour: object, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """Return a picture of one colour; size: (width, height)."""
    return Image.new(mode, size, colour)  # type: ignore[arg-type]


def saved(picture: Image.Image, **options: object) -> Callable[[Path], object]:
    """Return what writes a picture in the format of the file's suffix."""
    return lambda path: picture.save(path, **options)


def written(content: bytes) -> Callable[[Path], object]:
    """Return what writes bytes."""
    return lambda path: path.write_bytes(content)


def encoded(kind: str, **options: object) -> bytes:
    """Return noise of the size of the pond's images in a format."""
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind, **options)
    return buffer.getvalue()


def cut(kind: str, share: float) -> Callable[[Path], object]:
    """Return what writes the first `share` of a file of noise."""
    content = encoded(kind)
    return written(content[: int(len(content) * share)])


def deep(kind: str) -> Image.Image:
    """Return a grey picture of 16 bits; kind: numpy's name of the numbers."""
    return Image.fromarray(np.full(SIZE, 200 * 257, kind))


def rotated(orientation: int) -> Callable[[Path], object]:
    """Return what writes a picture that stands upright once its EXIF rotation is applied."""
    turned = orientation > 4
    picture = plain("RGB", GREY, (HEIGHT, WIDTH) if turned else (WIDTH, HEIGHT))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return saved(picture, exif=exif)


def large(width: int, height: int) -> bytes:
    """Return a PNG of so many pixels in a hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def animated(**options: object) -> Callable[[Path], object]:
    """Return what writes two frames, the first red."""
    blue = plain("RGB", "blue")
    return saved(plain("RGB", RED), save_all=True, append_images=[blue], **options)


def spoilt_chunk() -> bytes:
    """Return a PNG whose pixels are no zlib stream."""
    content = encoded("PNG")
    start = content.index(b"IDAT") + 4
    return content[:start] + b"\xff" * 40 + content[start + 40 :]


def dangling(path: Path) -> None:
    """Write a link that leads nowhere."""
    path.unlink(missing_ok=True)
    path.symlink_to("nowhere.png")


def loop(path: Path) -> None:
    """Write a link to itself."""
    path.unlink(missing_ok=True)
    path.symlink_to(path.name)


def folder(path: Path) -> None:
    """Make a folder of this name."""
    path.unlink(missing_ok=True)
    path.mkdir()


def pipe(path: Path) -> None:
    """Make a named pipe, which nobody writes to."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def locked(path: Path) -> None:
    """Take every permission away."""
    path.chmod(0)


PAGE = b"<!DOCTYPE html>\n<html><title>Sign in</title></html>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="24"/>'
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"

USED = [
    Picture("CMYK JPEG", saved(plain("CMYK", (0, 255, 255, 0))), "photos/x.jpg", colour=RED),
    Picture("CMYK TIFF", saved(plain("CMYK", (0, 255, 255, 0))), "photos/x.tif", colour=RED),
    Picture("grey JPEG", saved(plain("L", 200)), "photos/x.jpg", colour=GREY),
    Picture("grey PNG", saved(plain("L", 200)), colour=GREY),
    Picture("one bit", saved(plain("1", 1)), colour=(255, 255, 255)),
    Picture("16-bit PNG", saved(deep("<u2")), colour=GREY),
    Picture("16-bit TIFF", saved(deep("<u2")), "photos/x.tiff", colour=GREY),
    Picture("16-bit TIFF, big end first", saved(deep(">u2")), "photos/x.tif", colour=GREY),
    Picture("32-bit integers", saved(deep("<i4")), "photos/x.tiff", colour=GREY),
    Picture("palette PNG", saved(plain("RGB", RED).convert("P")), colour=(255, 0, 0)),
    Picture("palette GIF", saved(plain("L", 200)), "photos/x.gif", colour=GREY),
    Picture("clear pixels", saved(plain("RGBA", (9, 9, 9, 0))), colour=(255, 255, 255)),
    Picture("clear grey", saved(plain("LA", (9, 0))), colour=(255, 255, 255)),
    Picture("progressive JPEG", written(encoded("JPEG", progressive=True)), "photos/x.jpeg"),
    Picture("lossless WebP", written(encoded("WEBP", lossless=True)), "photos/x.webp"),
    Picture("BMP", saved(plain("RGB", RED)), "photos/x.bmp", colour=RED),
    Picture("PPM", saved(plain("RGB", RED)), "photos/x.ppm", colour=RED),
    *(Picture(f"EXIF rotation {o}", rotated(o), "photos/x.jpg", colour=GREY) for o in range(1, 9)),
    Picture("EXIF rotation in a PNG", rotated(6), colour=GREY),
    Picture("EXIF rotation unknown", rotated(0), "photos/x.jpg", colour=GREY),
    Picture("PNG called jpg", written(encoded("PNG")), "photos/x.jpg"),
    Picture("JPEG called png", written(encoded("JPEG"))),
    Picture("suffix in capitals", written(encoded("JPEG")), "photos/X.JPG"),
    Picture("name with spaces", written(encoded("PNG")), "photos/my  own photo .png"),
    Picture("name in other scripts", written(encoded("PNG")), "photos/Kröte 蛙 🐸.png"),
    Picture("name like an option", written(encoded("PNG")), "photos/--help.png"),
    Picture("name with a mark-up", written(encoded("PNG")), "photos/<b>$x_1$ %d {}.png"),
    Picture("bytes behind the end", written(encoded("JPEG") + PAGE), "photos/x.jpg"),
]
ODD = [  # usable, but reported by the check
    Picture("1 x 1", saved(plain("RGB", RED, (1, 1))), said=SMALL, by=("check",), size=(1, 1)),
    Picture(
        "4000 x 1", saved(plain("RGB", RED, (4000, 1))), said=SMALL, by=("check",), size=(1, 4000)
    ),
    Picture(
        "1 x 4000", saved(plain("RGB", RED, (1, 4000))), said=SMALL, by=("check",), size=(4000, 1)
    ),
    Picture("animated GIF", animated(), "photos/x.gif", FRAMES, ("check",), colour=RED),
    Picture("animated PNG", animated(), said=FRAMES, by=("check",), colour=RED),
    Picture(
        "animated WebP", animated(lossless=True), "photos/x.webp", FRAMES, ("check",), colour=RED
    ),
    Picture("pages of a TIFF", animated(), "photos/x.tif", FRAMES, ("check",), colour=RED),
]
REFUSED = [
    Picture("zero bytes", written(b""), said=NO_IMAGE),
    Picture("words", written(b"no image at all"), said=NO_IMAGE),
    Picture(
        "web page called jpg",
        written(PAGE),
        "photos/x.jpg",
        "x.jpg is not an image but a web page: the link",
    ),
    Picture("SVG", written(SVG), said=NO_IMAGE),
    Picture("PostScript", written(EPS), said=NO_IMAGE),
    Picture("PDF", written(b"%PDF-1.7\n%\xe2\xe3\n"), said=NO_IMAGE),
    Picture("archive called png", written(b"PK\x05\x06" + b"\0" * 18), said=NO_IMAGE),
    Picture("JPEG, head alone", cut("JPEG", 0.02), "photos/x.jpg", CUT),
    Picture("JPEG, cut in its tables", cut("JPEG", 0.2), "photos/x.jpg", CUT),
    Picture("JPEG, half", cut("JPEG", 0.6), "photos/x.jpg", CUT, DECODING),
    Picture("JPEG, nearly whole", cut("JPEG", 0.95), "photos/x.jpg", CUT, DECODING),
    Picture("PNG, signature alone", written(b"\x89PNG\r\n\x1a\n"), said=NO_IMAGE),
    Picture("PNG, half", cut("PNG", 0.5), said=CUT),
    Picture("PNG, nearly whole", cut("PNG", 0.95), said=CUT),
    Picture("PNG with spoilt pixels", written(spoilt_chunk()), said=CUT),
    Picture("GIF, half", cut("GIF", 0.7), "photos/x.gif", CUT, DECODING),
    Picture("WebP, half", cut("WEBP", 0.5), "photos/x.webp", CUT),
    Picture("TIFF, half", cut("TIFF", 0.5), "photos/x.tif", CUT, DECODING),
    Picture("BMP, half", cut("BMP", 0.5), "photos/x.bmp", CUT, DECODING),
    Picture("PPM, half", cut("PPM", 0.5), "photos/x.ppm", CUT, DECODING),
    Picture("20,000 x 20,000", written(large(20_000, 20_000)), said=BOMB),
    Picture("2 billion pixels wide", written(large(2**31 - 1, 1)), said=BOMB),
    Picture("no pixels", written(large(0, 0)), said=NO_IMAGE),
    Picture(
        "floating point", saved(plain("F", 0.5)), "photos/x.tif", "save it with 8 bits", DECODING
    ),
    Picture("absent", lambda path: path.unlink(), said=f"{VICTIM} is missing."),
    Picture("link that leads nowhere", dangling, said=f"{VICTIM} is missing."),
    Picture("link to itself", loop, said="cannot be read (Too many levels of symbolic links)."),
    Picture("folder", folder, said="cannot be read (Is a directory). Make it a readable file."),
    Picture("named pipe", pipe, said="cannot be read (it is a pipe or a device)."),
]
LOCKED = Picture("no permission", locked, said="cannot be read (Permission denied).")
