"""The smoke pipeline on a real Slurm: the same table, arrays, groups, and a job killed for memory."""

import pytest
from checkout import RUN, Checkout
from one_node import Entry, history, on_slurm

LITTLE_MB = 300  # less than torch alone takes


@pytest.fixture(scope="module")
def clustered(
    fresh: Checkout, local: Checkout, tmp_path_factory: pytest.TempPathFactory
) -> Checkout:
    """Return a copy that has been run on Slurm in two shards; its first training gets too little."""
    checkout = fresh.copy(tmp_path_factory.mktemp("clustered") / "repository")
    checkout.set({"shards": 2})
    on_slurm(checkout, train={"mem_mb": f"{LITTLE_MB} if attempt == 1 else 2000"})
    done = checkout.call("snakemake", "--cores", "2", "--profile", "slurm")
    (checkout.folder / "said.txt").write_text(done.stdout + done.stderr)
    return checkout


def of(checkout: Checkout, rule: str) -> list[Entry]:
    """Return the jobs of a rule or group."""
    return [entry for entry in history(checkout) if entry.rule == rule]


def test_a_cluster_gives_the_same_table_and_bytes(clustered: Checkout, local: Checkout) -> None:
    tables = ("results/table.csv", "results/metrics.json", "results/classes.csv")
    assert clustered.artifacts(*tables) == local.artifacts(*tables)
    assert len(local.artifacts()) > len(tables)
    assert clustered.artifacts() == local.artifacts()


def test_a_job_killed_for_memory_is_retried_with_more(clustered: Checkout) -> None:
    first, second = of(clustered, "train")
    assert (first.state, first.memory) == ("FAILED", f"{LITTLE_MB}M")
    assert (second.state, second.memory) == ("COMPLETED", "2000M")


def test_shards_are_tasks_of_one_array(clustered: Checkout) -> None:
    for rule in ("cam_shard", "walk_shard", "masks_shard"):
        numbers = [entry.number.split("_") for entry in of(clustered, rule)]
        assert [task for _, task in numbers] == ["1", "2"]
        assert len({array for array, _ in numbers}) == 1


def test_pseudo_labels_and_their_evaluation_share_one_job(clustered: Checkout) -> None:
    assert (clustered.folder / RUN / "eval/pseudo.json").is_file()
    grouped = [entry.rule for entry in history(clustered) if entry.rule.startswith("labels")]
    assert sorted(grouped) == ["labels_evaluate"] * 3 + ["labels_evaluate_pseudo"]
    assert not of(clustered, "pseudo")
    assert not of(clustered, "evaluate")


def test_a_second_run_submits_nothing(clustered: Checkout) -> None:
    before = history(clustered)
    said = clustered.call("snakemake", "--cores", "2", "--profile", "slurm")
    assert "Nothing to be done" in said.stdout + said.stderr
    assert history(clustered) == before
