"""A copy of the repository whose params.yaml is the smoke preset, and one where it has been run."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import ROOT, Checkout

from wsss.config import read_yaml


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a copy of the repository in which nothing has been made yet; do not write to it."""
    folder = tmp_path_factory.mktemp("fresh") / "repository"
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_file() or source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    checkout = Checkout(folder)
    checkout.set(read_yaml(folder / "params/smoke.yaml"))
    bring_files(folder)
    return checkout


def bring_files(folder: Path) -> None:
    """Put empty files where published settings expect weights that users bring."""
    for settings in (folder / "wsss").rglob("*.yaml"):
        for name in re.findall(r"data/pretrained/\S+", settings.read_text(encoding="utf-8")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()


@pytest.fixture(scope="session")
def made(fresh: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a copy in which the smoke preset has been run; do not write to it."""
    checkout = fresh.copy(tmp_path_factory.mktemp("made") / "repository")
    said = checkout.snakemake()
    (checkout.folder / "said.txt").write_text(said)
    return checkout


@pytest.fixture
def mine(made: Checkout, tmp_path: Path) -> Iterator[Checkout]:
    """Return a copy of the finished run that a test may change."""
    yield made.copy(tmp_path / "repository")
    shutil.rmtree(tmp_path / "repository", ignore_errors=True)
