"""How resources of jobs follow GPUs, attempts and limits, with Snakemake's own resources."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.resources import Resource, Resources

from wsss.runs.scaling import growing, limit_gpus, per_gpu, rules_on_head


def workflow(
    limits: Mapping[str, int] | None = None,
    named: Mapping[str, Mapping[str, int]] | None = None,
    **rules: Mapping[str, Any],
) -> Any:
    """Return a workflow with these rules; `group` beside the resources of a rule is its group.

    named: resources that were set for single rules.
    """
    made = {
        name: SimpleNamespace(
            name=name,
            group=resources.get("group"),
            resources=Resources.from_mapping({k: v for k, v in resources.items() if k != "group"}),
        )
        for name, resources in rules.items()
    }
    return SimpleNamespace(
        resource_settings=SimpleNamespace(overwrite_resources=named or {}),
        get_rule=made.__getitem__,
        rules=list(made.values()),
        global_resources=Resources.from_mapping(limits or {}),
    )


def asked(resource: Callable[..., int], attempt: int = 1, rule: str = "train") -> int:
    return resource({}, attempt=attempt, rulename=rule, input=[], async_run=None)


@pytest.mark.parametrize(
    ("gpus", "nodes", "factor"), [(0, 1, 1), (1, 1, 1), (4, 1, 4), (8, 2, 4), (3, 2, 2)]
)
def test_memory_and_threads_grow_with_the_gpus_of_each_machine(
    gpus: int, nodes: int, factor: int
) -> None:
    flow = workflow(train={"gpu": gpus, "nodes": nodes})
    assert asked(per_gpu(flow, 4)) == 4 * factor
    memory = per_gpu(flow, lambda _, attempt: 1000 * attempt)
    assert [asked(memory, attempt) for attempt in (1, 2)] == [1000 * factor, 2000 * factor]


def test_no_more_memory_is_asked_for_than_the_gpus_that_a_job_gets_need() -> None:
    flow = workflow({"gpu": 2}, train={"gpu": 4, "nodes": 1})
    assert asked(per_gpu(flow, 1000)) == 2000


def test_the_number_of_gpus_may_be_an_expression() -> None:
    gpus = Resource.from_cli_expression("gpu", "2 * attempt")
    flow = workflow(train={"nodes": 1})
    flow.get_rule("train").resources["gpu"] = gpus
    assert [asked(per_gpu(flow, 100), attempt) for attempt in (1, 2)] == [200, 400]


def test_time_grows_up_to_the_limit_of_the_partition() -> None:
    free, limited = workflow(train={}), workflow(train={"max_runtime": 150})
    assert [asked(growing(free, 60), attempt) for attempt in (1, 2, 3)] == [60, 120, 180]
    assert [asked(growing(limited, 60), attempt) for attempt in (1, 2, 3)] == [60, 120, 150]


def test_rules_of_one_job_share_its_time() -> None:
    shared = {"max_runtime": 100, "group": "labels"}
    flow = workflow(pseudo=shared, evaluate=shared, train={"max_runtime": 100})
    assert asked(growing(flow, 120), rule="pseudo") == 50
    assert asked(growing(flow, 120), rule="train") == 100


def test_the_head_runs_what_it_is_told_to() -> None:
    flow = workflow(cam={"on_head": 1}, walk={"on_head": 0}, train={})
    assert rules_on_head(flow) == ["cam"]


def test_the_head_runs_no_network_by_a_default_that_all_rules_have() -> None:
    rules = {name: {"on_head": 1} for name in ("train", "cam", "evaluate", "results")}
    assert rules_on_head(workflow(**rules)) == ["cam", "results"]
    named = {"evaluate": {"on_head": 1}}
    assert rules_on_head(workflow(named=named, **rules)) == ["cam", "evaluate", "results"]


@pytest.mark.parametrize(
    ("resources", "jobs", "in_slurm", "result"),
    [
        ({}, None, False, 3),
        ({"gpu": 1}, None, False, 1),
        ({"gpu": 8}, None, False, 8),
        ({}, 100, False, None),
        ({}, None, True, None),
    ],
)
def test_a_machine_has_as_many_gpus_as_its_driver_shows_unless_the_user_says_otherwise(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    resources: dict[str, int],
    jobs: int | None,
    in_slurm: bool,
    result: int | None,
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    if in_slurm:
        monkeypatch.setenv("SLURM_JOB_ID", "12")
    for name in ("nvidia0", "nvidia1", "nvidia2"):
        (tmp_path / name).touch()
    limits = dict(resources)
    workflow = SimpleNamespace(
        global_resources=limits,
        register_resource=limits.__setitem__,
        resource_settings=SimpleNamespace(nodes=jobs),
    )
    limit_gpus(workflow, tmp_path)
    assert limits.get("gpu") == result
