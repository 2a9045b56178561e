"""Kill every stage of a small run, its head, and every other command: nothing may be lost.

python tests/faults/campaign.py [--kills 42] [--deaths 3] [--seed 0]

Stages and the head are killed at random moments, other commands as they open, rename or remove a
file. Prints a line for each kill, and at the end how many of each kind were survived; exits 1 if any
was not. What has to be equal, byte by byte, is every file that was made.
"""

import argparse
import itertools
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "workflow"), str(TESTS), str(TESTS.parent)]  # as pytest finds them
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before PyTorch is loaded

from checkout import fresh_checkout  # noqa: E402
from errands import errands  # noqa: E402
from kills import HEAD_KINDS, Outcome, kill_heads, kill_stage, whole  # noqa: E402
from studies import LONG, Study  # noqa: E402

HEADS = 1 / 6  # of all kills of stages and the head


def plan(study: Study, kills: int) -> tuple[list[str], list[str]]:
    """Return the stages to be killed, one of each kind first, and the kills of the head."""
    heads = max(1, round(kills * HEADS))
    order = itertools.chain(study.first, itertools.cycle(study.others + study.first))
    return list(itertools.islice(order, kills - heads)), list(
        itertools.islice(itertools.cycle(HEAD_KINDS), heads)
    )


def campaign(study: Study, folder: Path, kills: int, seed: int) -> Iterator[Outcome]:
    """Yield what became of every kill. folder: empty, for three copies of the repository."""
    chance = random.Random(seed)  # noqa: S311  # moments, no secrets
    stages, heads = plan(study, kills)
    done = whole(study, fresh_checkout(folder / "whole" / "repository"), folder / "before")
    trial = done.checkout.copy(folder / "trial" / "repository")
    for kind in stages:
        yield kill_stage(done, trial, kind, chance)
    yield from kill_heads(done, trial, heads, chance)


def by_kind(outcomes: list[Outcome]) -> dict[str, tuple[int, int]]:
    """Return for each kind how many kills were survived, and how many there were."""
    tried = Counter(outcome.kind for outcome in outcomes)
    survived = Counter(outcome.kind for outcome in outcomes if not outcome.faults)
    return {kind: (survived[kind], count) for kind, count in tried.items()}


def main() -> int:
    """Run the campaign and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=42, help="of stages and the head")
    parser.add_argument("--deaths", type=int, default=3, help="of each other command")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    began, outcomes = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="wsss-kills-") as folder:
        chance = random.Random(chosen.seed)  # noqa: S311  # moments, no secrets
        for outcome in itertools.chain(
            errands(Path(folder, "errands/folder"), chosen.deaths, chance),
            campaign(LONG, Path(folder), chosen.kills, chosen.seed) if chosen.kills else (),
        ):
            outcomes.append(outcome)
            print(outcome, flush=True)
    survived = sum(not outcome.faults for outcome in outcomes)
    print(f"kills survived/tried: {survived}/{len(outcomes)} in {time.monotonic() - began:.0f} s")
    if path := os.environ.get("WSSS_FAULTS"):
        Path(path).write_text(json.dumps({"kills": by_kind(outcomes)}))
    return int(survived < len(outcomes))


if __name__ == "__main__":
    sys.exit(main())
