"""What many tests share: tiny images with labels and masks, stand-ins for the sources of images, a browser."""

import importlib.util
import os
import shutil
import socket
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import made_datasets
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from made_data import mask, picture
from PIL import Image

from wsss.data import labelmap
from wsss.data.index import Entry, Index
from wsss.datasets.drawn import stamps
from wsss.storage.files import checksum

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")  # no property fails because the machine is busy

TESTS = Path(__file__).parent
LONG_GROUPS = (  # started first, to end together
    "slurm",
    "flows",
    "versions",
    "plans",
    "test_flow_docs",
    "test_flow_clone",
    "test_flow_voc",
)


@pytest.hookimpl(wrapper=True)  # before xdist, which reads the groups
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None, None, None]:
    """Keep the tests of a file in one process, for they share what they made, and those of all flows.

    Slow tests, and those of Slurm, which installs packages, run where they are asked for: by their
    path, or by WSSS_ALL=1 as in CI.
    """
    if os.environ.get("WSSS_ALL") != "1":
        paths = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
        named = [path for path in paths if path not in (TESTS, TESTS.parent)]
        items[:] = [item for item in items if not _is_long(item) or _is_under(item.path, named)]
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item.path)))
    order = {group: place for place, group in enumerate(LONG_GROUPS)}
    items.sort(key=lambda item: order.get(_group(item.path), len(order)))
    yield


def _group(path: Path) -> str:
    """Return what runs in one process, one test after the other: a file, or a part of the flows."""
    if path.parent.name == "slurm":
        return "slurm"
    if path.parent.name != "workflow":
        return path.stem
    if path.stem in ("test_flow_plan", "test_flow_code"):
        return "plans"
    if path.stem in ("test_flow_dvc", "test_flow_share"):
        return "versions"
    return path.stem if path.stem in LONG_GROUPS else "flows"


def _is_long(item: pytest.Item) -> bool:
    return item.path.parent.name == "slurm" or item.get_closest_marker("slow") is not None


def _is_under(path: Path, folders: list[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


SIZES = ((48, 48), (48, 64))
CLASSES = ("red", "green", "blue")


def draw(folder: Path, number: int, split: str) -> Entry:
    """Write one picture with a coloured square per class present, and its mask."""
    generator = np.random.default_rng((number, len(split)))
    size = SIZES[number % len(SIZES)]
    image = generator.integers(90, 130, (*size, 3)).astype(np.uint8)
    mask = np.zeros(size, np.uint8)
    present = sorted(generator.choice(3, 1 + number % 2, replace=False).tolist())
    for place, label in enumerate(present):
        top, left = generator.integers(2, 24, 2)
        left = left // 2 + place * 24
        image[top : top + 18, left : left + 18] = np.eye(3)[label] * 220 + 20
        mask[top : top + 18, left : left + 18] = label + 1
    name = f"{split}{number:03d}"
    Image.fromarray(image).save(folder / f"{name}.png")
    (folder / f"{name}.mask.png").write_bytes(labelmap.encode(mask))
    labels = tuple(CLASSES[label] for label in present)
    paths = (folder / f"{name}.png", folder / f"{name}.mask.png")
    digits, truth = (checksum(path.read_bytes()) for path in paths)
    entry = Entry(name, *map(str, paths), labels, split, size, digits)
    return replace(entry, mask_checksum=truth)


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Return a dataset of 24 training and 6 validation pictures."""
    folder = tmp_path_factory.mktemp("squares")
    images = [draw(folder, n, "train") for n in range(24)] + [
        draw(folder, n, "val") for n in range(6)
    ]
    return Index("squares", CLASSES, tuple(images))


LOCAL = ("127.", "::1", "localhost", "0.0.0.0")  # noqa: S104  # to be recognised, not bound


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Let a connection to another machine be an error."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def stay(host: object) -> None:
        here = (*LOCAL, socket.gethostname())
        if isinstance(host, str) and host and not host.startswith(here):
            raise RuntimeError(f"no network in tests: {host}")

    def connect_here(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            stay(address[0])
        connect(self, address)

    def look_up_here(host: Any, *arguments: Any, **named: Any) -> Any:
        stay(host)
        return look_up(host, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect_here)
        patch.setattr(socket, "getaddrinfo", look_up_here)
        yield


@pytest.fixture(scope="session")
def browser() -> "Iterator[Chrome]":
    """Yield Chromium without a window; skip where there is none and none is required."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(programs) or not importlib.util.find_spec("selenium"):
        if os.environ.get("WSSS_REQUIRE_BROWSER") == "1":
            pytest.fail("WSSS_REQUIRE_BROWSER is set, but Chromium, its driver or selenium is not")
        pytest.skip("no browser: install chromium, chromium-driver and selenium")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(programs[0])
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(programs[1])
    chrome = webdriver.Chrome(options, service)
    yield chrome
    chrome.quit()


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run a test in an empty folder, where `work/` and `results/` are its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """Write a VOC devkit of five images, two of them from SBD, and return its root."""
    return made_datasets.voc(tmp_path / "VOC2012")


@pytest.fixture(scope="session")
def stamp_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write three one-coloured photographs with alpha for each class of stamps."""
    root = tmp_path_factory.mktemp("stamps")
    for place, (name, patterns) in enumerate(stamps.CLASSES.items()):
        folder = (root / patterns[0]).parent
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(3):
            stamp = np.zeros((60, 80, 4), np.uint8)
            stamp[10:50, 5:70] = (20 * place, 80 * number, 200, 255)
            Image.fromarray(stamp).save(folder / f"{name}{number}.png")
    (root / "animals/birds/cartoon").mkdir()
    Image.new("RGBA", (20, 20), "red").save(root / "animals/birds/cartoon/drawn.png")
    Image.new("RGBA", (20, 20), "red").save(root / "animals/insects/bee.png")
    return root


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Write a dataset of four images with a table `images.csv` and return its folder."""
    rows = ["image,labels,split,mask"]
    for number, split in enumerate(("train", "train", "val", "test")):
        picture(tmp_path / "photos" / f"p{number}.png", number)
        mask(tmp_path / "masks" / f"p{number}.png", 1, 2, 255)
        rows.append(f"photos/p{number}.png,frog; newt,{split},masks/p{number}.png")
    (tmp_path / "images.csv").write_text("\n".join(rows) + "\n")
    return tmp_path
