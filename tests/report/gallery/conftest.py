"""Runs whose images and classes have the oddest names, and a browser without a window."""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from made_run import HOSTILE, make_dataset, make_run

from wsss.data.index import Index
from wsss.report.gallery.gallery import gallery
from wsss.runs.run import Run, planned_runs
from wsss.settings.resolve import load_params

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

ODD = "a \"b\" 'c' <i> #1 %20 é犬 "  # before the number of an image
PARAMS = "methods: [cam, toco, supervised]\ncalibration: none\nevaluation: {seed_threshold: 0.4}\n"
RUNS = ("shapes/cam/common/s0", "shapes/toco/common/s0", "shapes/supervised/common/s0")


def renamed(index: Index) -> Index:
    """Return the dataset with odd names of its images."""
    images = tuple(replace(image, name=ODD + image.name) for image in index.images)
    return replace(index, images=images)


@pytest.fixture(scope="session")
def template(squares: Index, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with three made runs and their params.yaml; tests work on a copy."""
    folder = tmp_path_factory.mktemp("gallery")
    with chdir(folder):
        Path("params.yaml").write_text(PARAMS)
        params = load_params([Path("params.yaml")])
        index = make_dataset(renamed(squares), "shapes", params, HOSTILE)
        for run in planned_runs(params):
            make_run(run, index)
    return folder


@pytest.fixture
def made(template: Path, work: Path) -> Path:
    """Run a test in a copy of the made folder."""
    shutil.copytree(template, work, dirs_exist_ok=True)
    return work


@pytest.fixture(scope="session")
def page(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of the three runs, with all 30 images, in a folder with an odd name."""
    folder = tmp_path_factory.mktemp("pages") / 'my "gallery" #1 50% é'
    with chdir(template):
        params = load_params([Path("params.yaml")])
        gallery([Run.parse(name, params) for name in RUNS], None, folder)
    return folder / "index.html"


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
