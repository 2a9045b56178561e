"""What Snakemake costs: planning a large study, finding nothing to do, jobs that share one of Slurm's."""

import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml
from measure import Row

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "workflow"), str(TESTS / "slurm")]
import one_node  # noqa: E402  # beside the tests that use it
from checkout import RUN, Checkout, fresh_checkout  # noqa: E402

STUDY = ["pcsformer", "crt", "cpdgl", "semformer", "pcss"]
TURNS = 2
MADE = (f"{RUN}/pseudo.zip", f"{RUN}/eval/pseudo.csv")
GIVEN = ("deeplabv1_resnet101-coco.pth", "resnet38_cls.pth")  # files that their licence keeps away


def planning() -> Iterator[Row]:
    """Plan five methods, both protocols and three seeds on VOC; run the smoke preset twice."""
    with tempfile.TemporaryDirectory() as folder:
        checkout = fresh_checkout(Path(folder) / "repository")
        pretrained = checkout.folder / "data" / "pretrained"
        pretrained.mkdir(parents=True)
        for name in GIVEN:
            (pretrained / name).touch()  # a plan looks at names alone
        command = ["--dry-run", "--quiet", "rules", "--configfile", "params/voc12.yaml"]
        said, seconds = timed(
            lambda: checkout.snakemake(*command, "--config", f"methods={STUDY}".replace("'", '"'))
        )
        jobs = int(re.findall(r"^total\s+(\d+)", said, re.MULTILINE)[-1])
        yield row(
            "dry run of VOC", f"{len(STUDY)} methods, 2 protocols, 3 seeds: {jobs} jobs", seconds
        )
        checkout.snakemake()
        said, seconds = timed(checkout.snakemake)
        if "Nothing to be done" not in said:
            raise SystemExit("a finished run was not finished")
        yield row("run with nothing to do", "smoke preset", seconds)


def grouped() -> Iterator[Row]:
    """Make pseudo labels and their scores on a Slurm of this machine: a job for each, and one for both."""
    if one_node.unavailable() or not shutil.which("slurmctld"):
        return
    was_up = one_node.is_up()
    one_node.script("start-slurm").check_returncode()
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield _shared(fresh_checkout(Path(folder) / "repository"))
    finally:
        if not was_up:
            one_node.script("stop-slurm")


def _shared(checkout: Checkout) -> Row:
    checkout.set({"methods": ["cam"]})
    checkout.snakemake()
    one_node.on_slurm(checkout)
    wanted = ("snakemake", "--profile", "slurm", "--forcerun", "pseudo", "--", MADE[1])
    profile = checkout.folder / "profiles/slurm-ci/profile.yaml"
    together = profile.read_text()
    alone = yaml.safe_dump({k: v for k, v in yaml.safe_load(together).items() if k != "groups"})
    seconds, made = [], []
    for text, count in ((alone, 2), (together, 1)):
        profile.write_text(text)
        turns = []
        for _ in range(TURNS):
            before, jobs = _in_jobs(checkout), len(one_node.history(checkout))
            checkout.call(*wanted)
            turns.append(_in_jobs(checkout) - before)
            if len(one_node.history(checkout)) != jobs + count:
                raise SystemExit(f"not {count} jobs of Slurm")
        seconds.append(min(turns))
        made.append(checkout.artifacts(*MADE))
    if made[0] != made[1] or len(made[0]) != len(MADE):
        raise SystemExit("jobs that share one of Slurm's make other files")
    setting = "2 jobs and 1, smoke preset, Slurm of one node; without waits before and after a job"
    what = "pseudo labels and their scores as one Slurm job"
    return Row(what, setting, "s wall", *seconds, None, "equal files", 1)


def _in_jobs(checkout: Checkout) -> float:
    """Return the seconds that all Slurm jobs so far have taken, as their logs say at the end."""
    total = 0.0
    for log in (checkout.folder / "logs/slurm").rglob("*.log"):
        *_, said = re.findall(r"^Elapsed time: (.*)", log.read_text(), re.MULTILINE)
        hours, minutes, seconds = said.split(":")
        total += 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    return total


def row(what: str, setting: str, seconds: float) -> Row:
    """Return a line that is compared with nothing."""
    return Row(what, setting, "s wall", None, seconds, None, "")


def timed(work: Callable[[], str]) -> tuple[str, float]:
    """Return what a command said, and the shortest of two times."""
    found = []
    said = ""
    for _ in range(2):
        began = time.perf_counter()
        said = work()
        found.append(time.perf_counter() - began)
    return said, min(found)
