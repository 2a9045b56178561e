"""Try all faults and print one summary, by kind: kills, bad inputs, cases of properties.

python tests/faults/run.py [options of campaign.py]
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
Counts = Mapping[str, tuple[int, int]]  # of each kind: how many went well, how many were tried


def counted(command: list[str]) -> tuple[int, dict[str, Any]]:
    """Run a command that writes its counts to the file WSSS_FAULTS; return its status and these."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "counts.json")
        environment = {**os.environ, "WSSS_FAULTS": str(path), "WSSS_ALL": "1"}
        done = subprocess.run(command, env=environment, cwd=HERE.parents[1], check=False)
        counts: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return done.returncode, counts


def shares(what: str, counts: Counts) -> str:
    """Return a line with the counts of all kinds together, and then of each."""
    good, tried = (sum(pair[place] for pair in counts.values()) for place in (0, 1))
    kinds = ", ".join(f"{kind} {part}/{whole}" for kind, (part, whole) in counts.items())
    return f"{what}: {good}/{tried}" + (f" ({kinds})" if kinds else "")


def summary(kills: Counts, inputs: Counts, drawn: Mapping[str, int]) -> str:
    """Return the three lines of the summary. drawn: cases of properties, by kind."""
    kinds = ", ".join(f"{kind} {count}" for kind, count in drawn.items())
    return "\n".join(
        (
            shares("kills survived/tried", kills),
            shares("bad inputs answered/tried", inputs),
            f"property cases run: {sum(drawn.values())}" + (f" ({kinds})" if kinds else ""),
        )
    )


def main() -> int:
    """Run the tests and the whole campaign, and print the summary."""
    pytest = [sys.executable, "-m", "pytest", "-q", "tests/faults"]
    tests, counts = counted([*pytest, "--deselect", "tests/faults/test_campaign.py"])
    kills, more = counted([sys.executable, str(HERE / "campaign.py"), *sys.argv[1:]])
    print(summary(more.get("kills", {}), counts.get("inputs", {}), counts.get("drawn", {})))
    return int(tests != 0 or kills != 0)


if __name__ == "__main__":
    sys.exit(main())
