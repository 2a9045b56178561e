"""What jobs ask of a cluster."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.resources import Resource, Resources

from wsss.errors import ConfigError
from wsss.runs.resources import (
    SMALL_MB,
    check_arrays,
    crf_gpus,
    executor_limits,
    gpus_of_each,
    lift_rate_limit,
    memory,
    several_machines,
)
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
    with pytest.raises(ConfigError, match=r"--jobs 25 is too few .* 2 runs in 8 shards need 26"):
        check_arrays(runs, 8, "cam_shard", 25)
    check_arrays(runs, 8, "cam_shard", 26)
    check_arrays(runs, 8, None, 1)
    check_arrays(runs, 8, "cam_shard", None)


def test_shards_of_a_decoder_and_of_instances_wait_beside_the_others() -> None:
    decoding = run_of(methods=["toco"])
    decoding = Run(decoding.params, "shapes", "toco", "common", 0)
    irn = run_of(affinity={"kind": "irn"})
    for run, branches in ((decoding, 2), (irn, 2), (run_of(), 1)):
        check_arrays([run], 8, "decode_shard", 8 * branches + 5)
        with pytest.raises(ConfigError):
            check_arrays([run], 8, "decode_shard", 8 * branches + 4)


def test_limits_are_read_from_snakemake_and_none_where_it_has_no_such_attribute() -> None:
    workflow = SimpleNamespace(
        executor_settings=SimpleNamespace(array_jobs="cam_shard"),
        resource_settings=SimpleNamespace(nodes=7),
    )
    assert executor_limits(workflow) == ("cam_shard", 7)
    workflow.executor_settings = None
    assert executor_limits(workflow) == (None, 7)
    assert executor_limits(SimpleNamespace()) == (None, None)


def test_the_default_limit_of_job_starts_is_lifted_and_a_chosen_one_stays() -> None:
    def workflow(max_jobs: int) -> SimpleNamespace:
        limit = SimpleNamespace(max_jobs=max_jobs, timespan=1)
        return SimpleNamespace(scheduler=SimpleNamespace(job_rate_limiter=limit))

    default, chosen = workflow(100), workflow(5)
    lift_rate_limit(default)
    lift_rate_limit(chosen)
    assert default.scheduler.job_rate_limiter is None
    assert chosen.scheduler.job_rate_limiter.max_jobs == 5


def test_a_snakemake_without_these_attributes_is_left_alone() -> None:
    for workflow in (SimpleNamespace(), SimpleNamespace(scheduler=SimpleNamespace())):
        before = repr(workflow)
        lift_rate_limit(workflow)
        assert repr(workflow) == before


def test_this_snakemake_has_the_limit_that_is_lifted() -> None:
    snakemake = pytest.importorskip("snakemake.scheduling.job_scheduler")
    assert "job_rate_limiter" in Path(snakemake.__file__).read_text(encoding="utf-8")


def test_jobs_of_labels_ask_for_a_gpu_if_their_crf_may_run_there() -> None:
    usual, kept = run_of(), run_of(crf={"device": "cpu"})
    refined = run_of(pseudo={"crf": "psa"}, crf={"device": "gpu"})
    assert [crf_gpus(usual, stage) for stage in ("confident", "pseudo")] == [1, 0]
    assert [crf_gpus(kept, stage) for stage in ("confident", "pseudo")] == [0, 0]
    assert [crf_gpus(refined, stage) for stage in ("confident", "pseudo")] == [1, 1]


def test_where_the_crf_runs_is_no_reason_to_make_results_again() -> None:
    usual, kept = run_of(), run_of(crf={"device": "cpu"})
    assert all(usual.slice(stage) == kept.slice(stage) for stage in usual.stages())


def test_several_machines_get_equal_numbers_of_gpus() -> None:
    assert gpus_of_each(8, 2, None) == "gpu:4"
    assert gpus_of_each(8, 2, "a100") == "gpu:a100:4"
    with pytest.raises(ConfigError, match="3 GPUs cannot be shared out among 2 nodes"):
        gpus_of_each(3, 2, None)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        (1, {"mpi": None, "tasks": None, "tasks_per_gpu": None, "gres": None}),
        (2, {"mpi": "srun", "tasks": 2, "tasks_per_gpu": 0, "gres": "gpu:2"}),
    ],
)
def test_the_profile_says_nodes_and_the_rest_follows(
    nodes: int, expected: dict[str, object]
) -> None:
    resources = Resources.from_mapping({"gpu": 4})
    resources["nodes"] = Resource.from_cli_expression("nodes", f"{nodes} if attempt else 0")
    workflow = SimpleNamespace(get_rule={"train": SimpleNamespace(resources=resources)}.get)
    context = {"input": [], "attempt": 1, "threads": 4, "rulename": "train", "async_run": None}
    functions = several_machines(workflow)
    assert {name: get("wildcards", **context) for name, get in functions.items()} == expected
