"""The Slurm of the tests: what it has run, and heads that work on it."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml
from checkout import Checkout
from processes import SECONDS

SCRIPTS = Path(__file__).parent


@dataclass(frozen=True)
class Entry:
    """A job as Slurm remembers it. comment: the rule and its wildcards."""

    number: str
    state: str
    comment: str
    memory: str

    @property
    def rule(self) -> str:
        """The rule or group that it ran."""
        return self.comment.removeprefix("rule_").partition("_wildcards_")[0]


def unavailable() -> str | None:
    """Return why no Slurm can be started here, or nothing."""
    if os.geteuid():
        return "only root can start one"
    if not shutil.which("slurmctld") and not shutil.which("apt-get"):
        return "Slurm is not installed and there is no apt-get"
    return None


def is_up() -> bool:
    """Return whether a Slurm answers already."""
    if not shutil.which("sinfo"):
        return False
    done = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, check=False)
    return done.returncode == 0 and bool(done.stdout.strip())


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `start-slurm` or `stop-slurm`."""
    return subprocess.run([SCRIPTS / name, *arguments], capture_output=True, text=True, check=False)


def history(checkout: Checkout) -> list[Entry]:
    """Return every job that Slurm remembers of a checkout, the oldest first."""
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%Z|%i|%T|%m|%k"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = (line.split("|", 4) for line in said.splitlines())
    found = [Entry(i, t, k, m) for z, i, t, m, k in rows if Path(z) == checkout.folder]
    return sorted(found, key=lambda entry: [int(part) for part in entry.number.split("_")])


def on_slurm(checkout: Checkout, **resources: dict[str, str | int]) -> Checkout:
    """Let `--profile slurm` of a checkout mean the test cluster; with other resources of some rules."""
    (checkout.folder / "slurm").unlink()
    (checkout.folder / "slurm").symlink_to("profiles/slurm-ci")
    path = checkout.folder / "profiles/slurm-ci/profile.yaml"
    profile = yaml.safe_load(path.read_text())
    profile["set-resources"] |= resources
    path.write_text(yaml.safe_dump(profile))
    return checkout


def start(checkout: Checkout, *command: str) -> AbstractContextManager[psutil.Popen]:
    """Start a command for the time of a block; its output goes to `said.txt`."""
    return checkout.running("env", "--default-signal=INT", *command)  # the background ignores it


def said(checkout: Checkout) -> str:
    """Return what the commands of `start` have said."""
    return (checkout.folder / "said.txt").read_text()


def until(happened: Callable[[], bool], what: str, checkout: Checkout) -> None:
    """Wait for something; fail with what was said if it does not come."""
    end = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < end, f"{what} did not happen\n{said(checkout)}"
        time.sleep(0.2)
