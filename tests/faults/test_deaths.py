"""A folder of results that is written file by file, or replaced as a whole, survives a death on the way."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from answer import wsss
from deaths import deaths
from made_run import make_dataset, make_stages

from wsss.data.index import Index
from wsss.runs.run import Run
from wsss.settings.resolve import load_params

RUN = "shapes/cam/common/s0"
STAGES = ("cam", "calibrate-cam", "walk", "calibrate-walk", "pseudo")


@pytest.fixture(scope="module")
def finished(squares: Index, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the CAMs and pseudo labels of a run, and a gallery of them."""
    folder = tmp_path_factory.mktemp("deaths") / "folder"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("params.yaml").write_text("methods: [cam]\n")
        params = load_params([Path("params.yaml")])
        index = make_dataset(squares, "shapes", params, ("red", "green", "blue"))
        make_stages(Run.parse(RUN, params), index, STAGES)
        wsss("show", RUN, "--images", "1", "--output", "shown").accepts()
    return folder


def called(*words: str) -> Callable[[], int]:
    """Return what calls a command and gives its exit status."""
    return lambda: wsss(*words).code


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("export", "png", RUN, "--out", "exported"),
        ("show", RUN, "--images", "2", "--output", "shown"),
    ],
    ids=["export", "gallery"],
)
def test_a_folder_of_results_survives_a_death(words: tuple[str, ...], finished: Path) -> None:
    chance = random.Random(0)  # noqa: S311  # moments, no secrets
    outcomes = list(deaths(called(*words), words[0], " ".join(words), finished, 2, chance))
    assert len(outcomes) == 2
    assert [str(outcome) for outcome in outcomes if outcome.faults] == []
