"""Runs whose images and classes have the oddest names."""

import shutil
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pytest
from made_run import HOSTILE, make_dataset, make_run

from wsss.data.index import Index
from wsss.report.gallery.gallery import gallery
from wsss.runs.run import Run, planned_runs
from wsss.settings.resolve import load_params

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
