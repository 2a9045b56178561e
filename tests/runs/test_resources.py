"""What jobs ask of a cluster."""

import pytest

from wsss.errors import ConfigError
from wsss.runs.resources import SMALL_MB, check_arrays, memory
from wsss.runs.run import Run, planned_runs
from wsss.settings.resolve import validate_params


def run_of(**changed: object) -> Run:
    """Return the baseline's run with settings changed."""
    return Run.parse("shapes/cam/common/s0", validate_params(changed))


def test_a_toy_network_asks_for_little_and_a_published_one_for_all() -> None:
    big = run_of(classifier={"backbone": "resnet50"})
    assert memory(run_of(), "classifier", 16000)(1) == SMALL_MB
    assert memory(big, "classifier", 16000)(1) == 16000
    assert memory(big, "segmenter", 24000)(1) == SMALL_MB
    assert memory(big, None, 12000)(1) == 12000, "CAMs are made by the classifier"


def test_every_attempt_asks_for_more_memory() -> None:
    asked = [memory(run_of(), "segmenter", 24000)(attempt) for attempt in (1, 2, 3)]
    assert asked == [SMALL_MB, 2 * SMALL_MB, 3 * SMALL_MB]


def test_arrays_are_refused_where_the_queue_is_too_short_for_them() -> None:
    runs = list(planned_runs(validate_params({"seeds": [0, 1], "methods": ["cam"]})))
    with pytest.raises(ConfigError, match=r"--jobs 23 is too few .* 2 runs in 8 shards need 24"):
        check_arrays(runs, 8, "cam_shard", 23)
    check_arrays(runs, 8, "cam_shard", 24)
    check_arrays(runs, 8, None, 1)
    check_arrays(runs, 8, "cam_shard", None)
