"""Images of VOC's size: how large a gallery of its validation images is, how fast it opens."""

import time
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from made_run import make_dataset, make_run
from numpy.typing import NDArray
from PIL import Image

from wsss.data import labelmap
from wsss.data.index import Entry, Index
from wsss.report.gallery.gallery import gallery
from wsss.runs.run import Run
from wsss.settings.resolve import validate_params
from wsss.storage.files import checksum

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

COUNT, SIZE, CLASSES = 290, (375, 500), 20
WHOLE = 1449  # validation images of VOC
LIMIT_MB = 200  # of a gallery of all; every part of it grows with the images, or less
PATTERNS = 16  # different ones; every image is one of them, moved

pytestmark = pytest.mark.slow


def noise(generator: np.random.Generator, cells: int) -> NDArray[np.float32]:
    """Return smooth noise with so many cells along a side, around 0."""
    coarse = generator.normal(size=(cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize(SIZE[::-1], Image.Resampling.BICUBIC))


def patterns() -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield pictures with detail of every size, as photographs have, and masks with rough edges."""
    generator = np.random.default_rng(0)
    for _ in range(PATTERNS):
        grey = sum(noise(generator, cells) * 60 / cells**0.5 for cells in (3, 8, 25, 80, 250))
        tint = np.stack([noise(generator, 4) * 20 for _ in range(3)], -1)
        picture = np.clip(128 + np.asarray(grey)[..., None] + tint, 0, 255).astype(np.uint8)
        rough = noise(generator, 4) + 0.15 * noise(generator, 60)
        mask = np.where(rough > 0.6, 1 + generator.integers(CLASSES), 0)
        yield (
            picture,
            np.where(rough < -0.8, 1 + generator.integers(CLASSES), mask).astype(np.uint8),
        )


def dataset(folder: Path) -> Index:
    """Write the images and masks and return their index."""
    classes = tuple(f"class {number}" for number in range(CLASSES))
    found, entries = list(patterns()), []
    for number in range(COUNT):
        picture, mask = found[number % PATTERNS]
        shift = (7 * number, 11 * number)
        path, name = folder / f"{number:04d}.jpg", f"2008_{number:06d}"
        Image.fromarray(np.roll(picture, shift, (0, 1))).save(path, quality=92)
        moved = np.roll(mask, shift, (0, 1))
        path.with_suffix(".png").write_bytes(labelmap.encode(moved))
        labels = tuple(classes[label - 1] for label in np.unique(moved) if label)
        files = (str(path), str(path.with_suffix(".png")))
        digits, truth = (checksum(Path(file).read_bytes()) for file in files)
        entry = Entry(name, *files, labels, "val", SIZE, digits)
        entries.append(replace(entry, mask_checksum=truth))
    return Index("shapes", classes, tuple(entries))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the gallery of all images."""
    place = tmp_path_factory.mktemp("many")
    with chdir(place):
        (place / "pictures").mkdir()
        params = validate_params({"datasets": ["shapes"], "methods": ["supervised"]})
        run, index = Run.parse("shapes/supervised/common/s0", params), dataset(place / "pictures")
        make_run(run, make_dataset(index, "shapes", params, index.classes))
        began = time.monotonic()
        assert gallery([run], None, Path("gallery")) == COUNT
        print(f"written in {time.monotonic() - began:.0f} s")
    return place / "gallery"


def test_all_validation_images_of_voc_stay_below_the_limit(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 2 + 3 * COUNT
    size = sum(path.stat().st_size for path in files) / 1e6
    page = (folder / "index.html").stat().st_size / 1e6
    print(f"{size:.1f} MB, of which the page {page:.2f} MB")
    assert size * WHOLE / COUNT < LIMIT_MB


def test_it_opens_and_loads_what_is_in_view(folder: Path, browser: "Chrome") -> None:
    began = time.monotonic()
    browser.get((folder / "index.html").as_uri())  # returns when the page is drawn
    opened = time.monotonic() - began
    loaded = browser.execute_script(
        "return [...document.images].filter(e => e.complete && e.naturalWidth).length"
    )
    began = time.monotonic()
    browser.execute_script(
        "const s = document.getElementById('sort'); s.value = 'worst';"
        "s.dispatchEvent(new Event('change'))"
    )
    print(
        f"opened in {opened:.2f} s, sorted in {time.monotonic() - began:.2f} s, {loaded} pictures"
    )
    assert 0 < loaded < 200
    count = browser.execute_script("return document.getElementById('count').innerText")
    assert count.startswith(f"{COUNT} of {COUNT} images")
