"""The key `preset`: an experiment of params/ below the lines of the file that names it."""

from pathlib import Path

import pytest
import yaml

from wsss.errors import ConfigError
from wsss.settings.base import merge
from wsss.settings.resolve import load_params, read_layers, read_yaml, validate_params

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "params.yaml"


def written(folder: Path, content: dict[str, object]) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("name", ["voc12", "coco14", "stamps", "smoke"])
def test_a_preset_in_params_yaml_is_the_preset_laid_over_it(work: Path, name: str) -> None:
    mine = written(work, {**read_yaml(SHIPPED), "preset": name})
    laid_over = load_params([SHIPPED, ROOT / f"params/{name}.yaml"])
    assert load_params([mine]).model_copy(update={"preset": None}) == laid_over


def test_changed_lines_of_params_yaml_win_over_its_preset(work: Path) -> None:
    changes = {"preset": "voc12", "seeds": [7], "walk": {"beta": 6.0}}
    params = load_params([written(work, merge(read_yaml(SHIPPED), changes))])
    assert (params.datasets, params.seeds, params.walk.beta) == (("voc12",), (7,), 6.0)
    assert params.results == "results/voc12"


def test_every_line_of_a_short_file_wins_over_its_preset(work: Path) -> None:
    params = load_params([written(work, {"preset": "voc12", "seeds": [0], "results": "results"})])
    assert (params.datasets, params.seeds, params.results) == (("voc12",), (0,), "results")


def test_a_preset_of_the_working_folder_comes_first(work: Path) -> None:
    (work / "params").mkdir()
    (work / "params/voc12.yaml").write_text("seeds: [9]\n")
    mine = written(work, {"preset": "voc12"})
    sources = [layer.source for layer in read_layers([mine])]
    assert sources == [f"params/voc12.yaml, named in {mine}", str(mine)]
    assert load_params([mine]).seeds == (9,)


def test_an_unknown_preset_is_answered_with_those_there_are(work: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"preset: 'voc' is not one of affinities, coco14, cub, .*, voc12"
    ):
        load_params([written(work, {"preset": "voc"})])


def test_a_dotted_key_is_answered_with_its_right_form() -> None:
    with pytest.raises(ConfigError, match=r"unknown key walk\.beta; write walk: \{beta: 6\}"):
        validate_params({"walk.beta": 6})
    with pytest.raises(ConfigError, match=r"classifier\.train\.lr; write train: \{lr: 0.1\}"):
        validate_params({"classifier": {"train.lr": 0.1}})
