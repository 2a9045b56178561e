"""Kill every stage of a small run, and its head, at random moments: nothing may be lost.

python tests/faults/campaign.py [--kills 36] [--seed 0]

Prints a line for each kill and at the end how many were survived; exits 1 if any was not. What has
to be equal, byte by byte, is every file under work/ and results/.
"""

import argparse
import itertools
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "workflow"), str(TESTS.parent)]  # as pytest finds them

from checkout import fresh_checkout  # noqa: E402
from kills import HEAD_KINDS, KINDS, OTHERS, Outcome, kill_heads, kill_stage, whole  # noqa: E402

HEADS = 1 / 6  # of all kills


def plan(kills: int) -> tuple[list[str], list[str]]:
    """Return the stages to be killed, one of each kind first, and the kills of the head."""
    heads = max(1, round(kills * HEADS))
    order = itertools.chain(KINDS, itertools.cycle(OTHERS + KINDS))
    return list(itertools.islice(order, kills - heads)), list(
        itertools.islice(itertools.cycle(HEAD_KINDS), heads)
    )


def campaign(folder: Path, kills: int, seed: int) -> Iterator[Outcome]:
    """Yield what became of every kill. folder: empty, for three copies of the repository."""
    chance = random.Random(seed)  # noqa: S311  # moments, no secrets
    stages, heads = plan(kills)
    done = whole(fresh_checkout(folder / "whole" / "repository"), folder / "before")
    trial = done.checkout.copy(folder / "trial" / "repository")
    for kind in stages:
        yield kill_stage(done, trial, kind, chance)
    yield from kill_heads(done, trial, heads, chance)


def main() -> int:
    """Run the campaign and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=36)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    began, outcomes = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="wsss-kills-") as folder:
        for outcome in campaign(Path(folder), chosen.kills, chosen.seed):
            outcomes.append(outcome)
            print(outcome, flush=True)
    survived = sum(not outcome.faults for outcome in outcomes)
    print(f"kills survived/tried: {survived}/{len(outcomes)} in {time.monotonic() - began:.0f} s")
    if path := os.environ.get("WSSS_FAULTS"):
        Path(path).write_text(json.dumps({"survived": survived, "kills": len(outcomes)}))
    return int(survived < len(outcomes))


if __name__ == "__main__":
    sys.exit(main())
