"""A copy of the repository, and the commands that a user runs in it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from filelock import FileLock
from processes import running

from wsss.settings.base import merge
from wsss.settings.resolve import read_yaml

ROOT = Path(__file__).parents[2]
CODE = ("wsss", "workflow", "params", "profiles", "tests")
RUN = "work/shapes/cam/common/s0"
ONE_THREAD = [
    f"{rule}=1"
    for rule in (
        "train",
        "cam_shard",
        "decode_shard",
        "confident",
        "affinity",
        "walk_shard",
        "pseudo",
        "segmenter",
        "masks_shard",
    )
]
Finished = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Checkout:
    """A copy of the repository in `folder`, and the commands that a user runs in it."""

    folder: Path

    def environment(self) -> dict[str, str]:
        """Return an environment without settings of the machine's user; this copy is imported."""
        home = self.folder.parent / "home"
        home.mkdir(exist_ok=True)
        hidden = (
            "WSSS_",
            "SNAKEMAKE_",
            "DVC_",
            "GIT_",
            "OMP_",
            "PYTEST_",
            "PYTHONDONTWRITE",
        )
        kept = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
        return {
            **kept,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
            "PYTHONPATH": str(self.folder),
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "DVC_NO_ANALYTICS": "true",
            "DVC_SITE_CACHE_DIR": str(home / "dvc"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            **{f"GIT_{who}_NAME": "test" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": "test@localhost" for who in ("AUTHOR", "COMMITTER")},
        }

    def call(self, *command: str, status: int | None = 0) -> Finished:
        """Run a command here and return what it said; fail on another exit status than expected."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        said = f"{' '.join(command)} -> {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert status is None or done.returncode == status, said
        return done

    @contextmanager
    def running(self, *command: str) -> Iterator[psutil.Popen]:
        """Start a command here for the time of a block; its output goes to said.txt."""
        options: dict[str, Any] = {"cwd": self.folder, "env": self.environment()}
        with (
            (self.folder / "said.txt").open("ab") as said,
            running(
                command, stdout=said, stderr=said, start_new_session=True, **options
            ) as process,
        ):
            yield process

    def snakemake(self, *arguments: str, status: int | None = 0) -> str:
        """Run Snakemake on two cores, each job on one, and return all it said."""
        done = self.call(
            "snakemake", "--cores", "2", *arguments, "--set-threads", *ONE_THREAD, status=status
        )
        return done.stdout + done.stderr

    def dry(self, *changes: dict[str, Any], targets: Sequence[str] = ("all",)) -> list[set[str]]:
        """Return the jobs that would run, as `rule wildcards`: for each target and set of changes."""
        return self.planned(
            [{"config": each, "targets": [name]} for name in targets for each in changes]
        )

    def dry_in(self, folders: Sequence[Path]) -> list[set[str]]:
        """Return the jobs that would run in each of some folders like this one."""
        return self.planned([{"folder": str(folder)} for folder in folders])

    def planned(self, requests: Sequence[dict[str, Any]]) -> list[set[str]]:
        """Return the jobs that would run, as `rule wildcards`, for each request to dry.py."""
        driver = str(Path(__file__).with_name("dry.py"))
        said = self.call(sys.executable, driver, json.dumps(requests)).stdout
        found = [set(json.loads(line)) for line in said.splitlines() if line.startswith("[")]
        assert len(found) == len(requests), said
        return found

    def copy(self, folder: Path) -> "Checkout":
        """Return a copy with the same files and times."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Checkout(folder)

    def artifacts(self, *patterns: str) -> dict[str, bytes]:
        """Return the content of what the stages made (records and logs name times, so not these)."""
        wanted = patterns or ("work/**/*.zip", "work/**/*.safetensors", "work/**/index.json")
        paths = sorted(path for pattern in wanted for path in self.folder.glob(pattern))
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in paths}

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a text that must be in a file."""
        file = self.folder / path
        text = file.read_text()
        assert old in text, f"{path} has no {old!r}"
        file.write_text(text.replace(old, new))

    def set(self, changes: dict[str, Any]) -> None:
        """Change settings in params.yaml."""
        file = self.folder / "params.yaml"
        file.write_text(yaml.safe_dump(merge(read_yaml(file), changes), sort_keys=False))


def sources() -> list[str]:
    """Return the files that Git tracks, and new ones in the folders of the code.

    A developer's new module is tested before it is committed; what runs of the pipeline left in
    the checkout is not copied, and neither are results that Git tracks.
    """
    tracked = ["--cached", "--", ".", ":!results"]
    untracked = ["--others", "--exclude-standard", "--", *CODE]
    return [
        name
        for selection in (tracked, untracked)
        for name in subprocess.check_output(
            ["git", "ls-files", "-z", *selection], cwd=ROOT, text=True
        ).split("\0")
        if name
    ]


def fresh_checkout(folder: Path) -> Checkout:
    """Return a copy of the repository whose params.yaml is the smoke preset, with its results in results/."""
    for name in sources():
        source, target = ROOT / name, folder / name
        if source.is_file() or source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    checkout = Checkout(folder)
    checkout.set({**read_yaml(folder / "params/smoke.yaml"), "results": "results"})
    return checkout


def finished(fresh: Checkout, folders: pytest.TempPathFactory, worker_id: str) -> Checkout:
    """Return a copy in which the smoke preset has been run; do not write to it.

    It is made once for all processes of tests, by the first that wants it, in the folder they share.
    """
    base = folders.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    said = shared / "made" / "repository" / "said.txt"
    with FileLock(f"{said.parents[1]}.lock"):
        if not said.is_file():
            shutil.rmtree(said.parents[1], ignore_errors=True)
            text = fresh.copy(said.parent).snakemake()
            said.write_text(text)
    return Checkout(said.parent)


def repro(checkout: Checkout) -> set[str]:
    """Run `dvc repro` and return the rules of which jobs ran."""
    done = checkout.call("dvc", "repro")
    assert "Running stage 'pipeline'" in done.stdout
    return ran(done.stdout + done.stderr)


def ran(said: str) -> set[str]:
    """Return the rules of which jobs ran, from what Snakemake said."""
    lines = (line.rstrip(":").split() for line in said.splitlines())
    return {words[1] for words in lines if len(words) == 2 and words[0] in ("rule", "localrule")}
