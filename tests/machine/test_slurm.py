"""What Slurm's commands answer, told in one line; tests/slurm asks a real one."""

from pathlib import Path

import pytest

from wsss.errors import MissingError
from wsss.machine import doctor, slurm

NO_CONFIGURATION = """sinfo: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host
sinfo: error: fetch_config: DNS SRV lookup failed
sinfo: error: _establish_config_source: failed to fetch config
sinfo: fatal: Could not establish a configuration source"""
NO_CONTROLLER = "slurm_load_partitions: Unable to contact slurm controller (connect failure)"


def install(folder: Path, sinfo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a `sinfo` of these shell lines, and an `sbatch`, first in the search path."""
    for name, lines in (("sinfo", sinfo), ("sbatch", "exit 1")):
        program = folder / name
        program.write_text(f"#!/bin/sh\n{lines}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def doctor_lines() -> list[str]:
    """Return the line on the cluster, without the line on the plugin of the same name."""
    lines, healthy = doctor.report()
    assert healthy, "a machine without a cluster is fit"
    return [line for line in lines if line.split()[1] == "slurm" and "plugin" not in line]


@pytest.mark.parametrize(
    ("sinfo", "reason"),
    [
        (f'echo "{NO_CONFIGURATION}" >&2; exit 1', "sinfo: fatal: Could not establish a conf"),
        (
            f'[ "$1" = --version ] && echo slurm-wlm 22.05.8 && exit; echo "{NO_CONTROLLER}" >&2; exit 1',
            "Unable to contact slurm controller (connect failure)",
        ),
    ],
)
def test_a_controller_that_does_not_answer_is_one_line(
    sinfo: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, sinfo, monkeypatch)
    with pytest.raises(MissingError, match="no controller answers"):
        slurm.version()
    [line] = doctor_lines()
    assert "\n" not in line
    assert line.startswith("missing slurm         no controller answers (")
    assert reason in line


def test_a_controller_that_answers_is_named_by_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "echo slurm-wlm 22.05.8", monkeypatch)
    assert doctor_lines() == ["ok      slurm         slurm-wlm 22.05.8"]
