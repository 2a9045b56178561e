"""Try all faults and print one summary: kills, bad inputs, cases of properties.

python tests/faults/run.py [options of campaign.py]
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SUMMARY = (
    "kills survived/tried: {survived}/{kills}\n"
    "bad inputs answered/tried: {answered}/{inputs}\n"
    "property cases run: {drawn}"
)


def counted(command: list[str]) -> tuple[int, dict[str, int]]:
    """Run a command that writes its counts to the file WSSS_FAULTS; return its status and these."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "counts.json")
        environment = {**os.environ, "WSSS_FAULTS": str(path), "WSSS_ALL": "1"}
        done = subprocess.run(command, env=environment, cwd=HERE.parents[1], check=False)
        counts: dict[str, int] = json.loads(path.read_text()) if path.is_file() else {}
    return done.returncode, counts


def main() -> int:
    """Run the tests and the whole campaign, and print the summary."""
    pytest = [sys.executable, "-m", "pytest", "-q", "tests/faults"]
    tests, counts = counted([*pytest, "--deselect", "tests/faults/test_campaign.py"])
    kills, more = counted([sys.executable, str(HERE / "campaign.py"), *sys.argv[1:]])
    unknown = dict.fromkeys(("survived", "kills", "answered", "inputs", "drawn"), 0)
    print(SUMMARY.format(**{**unknown, **counts, **more}))
    return int(tests != 0 or kills != 0)


if __name__ == "__main__":
    sys.exit(main())
