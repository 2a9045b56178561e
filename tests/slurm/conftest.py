"""A real Slurm of two nodes for the session, and a run made without it to compare with."""

import os
import shutil
from collections.abc import Iterator

import one_node
import pytest
from checkout import Checkout, finished, fresh_checkout


@pytest.fixture(scope="session", autouse=True)
def slurm() -> Iterator[None]:
    """Start Slurm unless it is up; where it cannot be had, skip, or fail if WSSS_REQUIRE_SLURM is 1."""
    was_up, why = one_node.is_up(), one_node.unavailable()
    if why is None:
        if not was_up:  # a Slurm that was killed left jobs that occupy the node
            one_node.script("stop-slurm", "--purge")
        done = one_node.script("start-slurm", "--install", "--nodes", "2")
        why = done.stderr.strip() if done.returncode else None
    if why is not None:
        if os.environ.get("WSSS_REQUIRE_SLURM") == "1":
            pytest.fail(f"Slurm is required here: {why}", pytrace=False)
        pytest.skip(f"no Slurm: {why}")
    yield
    if not was_up:
        one_node.script("stop-slurm")


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a copy of the repository with one method of the smoke preset; do not write to it."""
    checkout = fresh_checkout(tmp_path_factory.mktemp("fresh") / "repository")
    checkout.set({"methods": ["cam"]})
    return checkout


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Checkout:
    """Return a copy in which that method has been run without Slurm."""
    folder = tmp_path_factory.mktemp("local")
    whole = finished(fresh_checkout(folder / "fresh"), tmp_path_factory, worker_id)
    checkout = whole.copy(folder / "repository")
    checkout.set({"methods": ["cam"]})
    shutil.rmtree(checkout.folder / "work/shapes/supervised")
    checkout.snakemake()
    return checkout
