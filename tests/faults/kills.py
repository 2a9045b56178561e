"""Kill a stage at some moment, run it again, and compare all it has made with an undisturbed run."""

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from checkout import ONE_THREAD, Checkout
from studies import Study

HEAD_KINDS = ("head", "head alone")
MADE = ("work", "results")
PATIENCE_S = 900.0
TRIES = 6  # moments that are drawn until one comes before the end


@dataclass
class Outcome:
    """One kill: of what, when, and what was found wrong afterwards."""

    kind: str
    moment: str
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        verdict = "; ".join(self.faults) or "same bytes after the rerun"
        return f"{self.kind} killed {self.moment}: {verdict}"


@dataclass
class Whole:
    """An undisturbed run: what there was before each stage and after the last, and how long it took."""

    study: Study
    checkout: Checkout
    before: dict[str, Path]
    seconds: dict[str, float]
    loading_s: float


def command(study: Study, kind: str) -> list[str]:
    """Return the command of a stage, on one thread as in a run: two add in another order."""
    return ["env", "OMP_NUM_THREADS=1", sys.executable, "-m", "wsss", *study.stages[kind]]


def whole(study: Study, checkout: Checkout, snapshots: Path) -> Whole:
    """Run every stage by hand and keep what there was before each."""
    checkout.set(study.settings)
    before, seconds = {}, {}
    began = time.monotonic()
    checkout.call(sys.executable, "-c", "import wsss.stages.segmenter, wsss.stages.pseudo")
    loading = time.monotonic() - began
    for number, kind in enumerate(study.stages):
        before[kind] = snapshots / f"{number:02d}"
        keep(checkout.folder, before[kind])
        began = time.monotonic()
        checkout.call(*command(study, kind))
        seconds[kind] = time.monotonic() - began
    return Whole(study, checkout, before, seconds, loading)


def keep(source: Path, target: Path) -> None:
    """Make `target` have what `source` has made, and nothing else of that."""
    for name in MADE:
        shutil.rmtree(target / name, ignore_errors=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name)


def killed(process: psutil.Popen, after_s: float, group: bool = True) -> bool:
    """Kill a process, and its group, after so many seconds; say whether it still ran."""
    try:
        process.wait(after_s)
    except psutil.TimeoutExpired:
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_S)
        return True
    return False


def said_after(seconds: float) -> str:
    """Return a moment in words."""
    return f"after {seconds:.2f} s"


def moment(seconds: float, loading: float, chance: random.Random) -> float:
    """Return when to kill: mostly after the libraries are loaded, where the work is."""
    working = chance.random() < 0.8
    return chance.uniform(min(0.9 * loading, 0.6 * seconds) if working else 0.0, seconds)


def kill_stage(done: Whole, trial: Checkout, kind: str, chance: random.Random) -> Outcome:
    """Kill a stage, look at what is left, run it again, and compare."""
    for _ in range(TRIES):
        keep(done.before[kind], trial.folder)
        after, began = moment(done.seconds[kind], done.loading_s, chance), time.monotonic()
        with trial.running(*command(done.study, kind)) as process:
            if killed(process, after):
                break
        done.seconds[kind] = time.monotonic() - began  # the machine has become faster
    else:
        return Outcome(kind, said_after(after), ["it always ended before the kill"])
    outcome = Outcome(kind, said_after(after))
    outcome.faults += halves(trial.folder, done.before[kind], snapshot_after(done, kind))
    again = trial.call(*command(done.study, kind), status=None)
    if again.returncode:
        outcome.faults.append(f"the rerun failed: {again.stderr[-300:]}")
    outcome.faults += differences(snapshot_after(done, kind), trial.folder)
    return outcome


def snapshot_after(done: Whole, kind: str) -> Path:
    """Return where there is what was made up to and with a stage."""
    kinds = list(done.study.stages)
    number = kinds.index(kind) + 1
    return done.before[kinds[number]] if number < len(kinds) else done.checkout.folder


def halves(found: Path, before: Path, after: Path) -> Iterator[str]:
    """Yield the files that are neither as before the stage nor as after it."""
    for name in paths(found):
        content = (found / name).read_bytes()
        options = [
            (each / name).read_bytes() for each in (before, after) if (each / name).is_file()
        ]
        if content not in options:
            yield f"{name} is neither old nor new"


def differences(expected: Path, found: Path) -> Iterator[str]:
    """Yield what is missing, left over or has other bytes."""
    wanted, there = paths(expected), paths(found, hidden=True)
    yield from (f"{name} is missing" for name in sorted(wanted - there))
    yield from (f"{name} is left over" for name in sorted(there - wanted))
    for name in sorted(wanted & there):
        if (expected / name).read_bytes() != (found / name).read_bytes():
            yield f"{name} has other bytes"


def paths(folder: Path, hidden: bool = False) -> set[str]:
    """Return the files that were made; hidden: also what only a killed process leaves."""
    files = (path for name in MADE for path in (folder / name).rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix()
        for path in files
        if hidden or not (path.name.startswith(".") or path.parent.name == "state")
    }


def head(study: Study) -> list[str]:
    """Return the command of a whole run, or of the part of it whose head is killed."""
    targets = study.head[:1] if study.head else ()
    return ["snakemake", "--cores", "2", *targets, "--set-threads", *ONE_THREAD]


def of_head(done: Whole) -> tuple[Path, float]:
    """Return where there is what a run of `head` makes, and the seconds that its stages took."""
    if done.study.head is None:
        return done.checkout.folder, sum(done.seconds.values())
    kinds = list(done.study.stages)
    after = done.study.head[1]
    earlier = kinds[: kinds.index(after)]
    return done.before[after], sum(done.seconds[kind] for kind in earlier)


def kill_heads(
    done: Whole, trial: Checkout, kinds: list[str], chance: random.Random
) -> Iterator[Outcome]:
    """Kill Snakemake again and again on its way, let it finish, and compare everything."""
    forget(trial)
    expected, seconds = of_head(done)
    share, outcomes = seconds / (len(kinds) + 1), []
    while len(outcomes) < len(kinds):
        kind, after = kinds[len(outcomes)], chance.uniform(0.3 * share, 1.2 * share)
        with trial.running(*resumed(done.study, trial)) as process:
            is_killed = killed(process, after, group=kind == "head")
        if is_killed:
            outcomes.append(Outcome(kind, said_after(after)))
        else:  # the machine has become faster: once more, with less time between two kills
            forget(trial)
            share /= 2
    last = trial.call(*resumed(done.study, trial), status=None)
    faults = [f"the last run failed: {last.stderr[-300:]}"] if last.returncode else []
    faults += differences(expected, trial.folder)
    outcomes[-1].faults += [fault for fault in faults if "-of-" not in fault]  # shards are joined
    yield from outcomes


def forget(trial: Checkout) -> None:
    """Remove all that a run has made."""
    for name in (*MADE, ".snakemake"):
        shutil.rmtree(trial.folder / name, ignore_errors=True)


def resumed(study: Study, trial: Checkout) -> list[str]:
    """Return the command that goes on: `wsss resume`, which waits for jobs of a dead head."""
    begun = (trial.folder / ".snakemake/wsss/head.json").is_file()
    if not begun and any((trial.folder / ".snakemake/locks").glob("*")):  # killed before its note
        trial.call("snakemake", "--unlock")
    return [sys.executable, "-m", "wsss", "resume"] if begun else head(study)
