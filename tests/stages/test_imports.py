"""Files of another program become stages of a run, are checked, and are noticed when they change."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_run import make_dataset, noisy

from wsss.data.index import Index
from wsss.report.tables.rows import read, table_rows
from wsss.runs.run import Run
from wsss.settings.resolve import validate_params
from wsss.stages.calibrate import calibrate
from wsss.stages.evaluate import evaluate
from wsss.stages.imports import import_files
from wsss.storage.cam_archive import Cam, CamReader
from wsss.storage.files import read_json

NAMES = ("red", "green", "blue")
Import = Callable[..., Run]


@pytest.fixture
def bring(squares: Index, work: Path) -> Import:
    """Return the function that makes a run of an import with these settings, with its dataset."""

    def run_of(**settings: object) -> Run:
        params = validate_params({"methods": ["cam", "psa"], "imports": {"psa": settings}})
        make_dataset(squares, "shapes", params, NAMES)
        return Run(params, "shapes", "psa", "common", 0)

    return run_of


def write_psa(run: Run, squares: Index, folder: Path, shift: int = 0) -> dict[str, Cam]:
    """Write the maps of all training images as PSA does, {class: map}, and return them."""
    folder.mkdir()
    named = make_dataset(squares, "shapes", run.params, NAMES)
    cams = {entry.name: noisy(run, "cam", entry, named) for entry in named.training()}
    for name, cam in cams.items():
        keys = (cam.labels + shift).tolist()
        np.save(folder / f"{name}.npy", dict(zip(keys, cam.full(), strict=True)))  # type: ignore[arg-type]
    return cams


def test_dictionaries_of_psa_become_a_scored_row(bring: Import, squares: Index) -> None:
    run = bring(cam="npy", knowledge="CLIP", title="PSA")
    cams = write_psa(run, squares, Path("npy"))
    assert list(import_files(run)) == [f"{run} cam: 24 files of npy, 24 images"]
    archive = CamReader(run.path("cam.zip"))
    for name, cam in cams.items():
        assert archive[name].labels.tolist() == cam.labels.tolist()
        np.testing.assert_allclose(archive[name].full(), cam.full(), atol=1e-3)  # float16
    record = read_json(run.path("cam.json"))["imported"]
    assert (record["files"], record["knowledge"], record["source"]) == (24, "CLIP", "npy")
    calibrate(run, "cam")
    evaluate(run, "seed")
    (row,) = table_rows([read(run.path("eval/seed.json"), run.params)])
    assert (row.title, row.extra, row.is_below, row.networks) == (
        "PSA",
        "CLIP",
        True,
        "cam: imported",
    )
    assert (row.parameters, row.threshold_choice, row.scales) == (None, "calibrated", "")
    assert row.miou > 0.6
