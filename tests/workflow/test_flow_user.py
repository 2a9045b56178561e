"""A user who is not root and has no home, as in containers and batch jobs."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from checkout import Checkout, Finished, fresh_checkout

NOBODY = 65534
NO_HOME = "/nonexistent"


def as_nobody() -> list[str]:
    """Return the command that runs another as the user nobody; skip where there is no way to.

    Where the Python of the tests is in a private folder, such as /root, nobody may read everything (but
    write nothing more).
    """
    if os.geteuid() or not (shutil.which("runuser") and shutil.which("setpriv")):
        pytest.skip("only root can become another user, with runuser")
    command = ["runuser", "-u", "nobody", "--"]
    if subprocess.run(
        [*command, sys.executable, "-c", ""], check=False, capture_output=True
    ).returncode:
        capability = "+dac_read_search"
        user = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        return ["setpriv", *user, f"--inh-caps={capability}", f"--ambient-caps={capability}"]
    return command


@dataclass(frozen=True)
class OfNobody(Checkout):
    """A copy of the repository that belongs to nobody, whose commands run as nobody, without a home."""

    cache: Path | None

    def environment(self) -> dict[str, str]:
        """Return the environment of the other copies, without the folders of a home."""
        variables = {**super().environment(), "HOME": NO_HOME}
        del variables["XDG_CACHE_HOME"], variables["XDG_CONFIG_HOME"]
        return {**variables, **({"XDG_CACHE_HOME": str(self.cache)} if self.cache else {})}

    def call(self, *command: str, status: int | None = 0) -> Finished:
        """Run a command as nobody."""
        return super().call(*as_nobody(), *command, status=status)


@pytest.fixture
def homeless() -> Iterator[OfNobody]:
    """Yield a copy of nobody with the shortest method (the folders of pytest belong to root alone)."""
    as_nobody()
    with tempfile.TemporaryDirectory() as name:
        folder = fresh_checkout(Path(name) / "repository").folder
        checkout = OfNobody(folder, folder.parent / "cache")
        checkout.set({"methods": ["supervised"]})
        for path in (folder.parent, folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        yield checkout


@pytest.mark.slow
def test_the_doctor_names_the_variable_where_there_is_no_home(homeless: OfNobody) -> None:
    doctor = (sys.executable, "-m", "wsss", "doctor")
    lines = replace(homeless, cache=None).call(*doctor, status=1).stdout
    assert f"broken  cache         {NO_HOME}/.cache cannot be written. Set XDG_CACHE_HOME" in lines
    assert f"ok      cache         {homeless.cache}" in homeless.call(*doctor).stdout


@pytest.mark.slow
def test_a_user_without_a_home_passes_the_pipeline(homeless: OfNobody) -> None:
    homeless.snakemake()
    folders = [homeless.folder / name for name in ("work", "results", "logs", "benchmarks")]
    files = [path for folder in folders for path in folder.rglob("*")]
    trained = "work/shapes/supervised/common/s0/segmenter.safetensors"
    assert homeless.folder / trained in files
    states = [path.stat() for path in files]
    assert {state.st_uid for state in states} == {NOBODY}
    assert all(state.st_mode & stat.S_IROTH for state in states), "others may read the results"
