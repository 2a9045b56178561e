"""What Snakemake costs before any job runs: planning a large study, and finding nothing to do."""

import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from measure import Row

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow"))
from checkout import fresh_checkout  # noqa: E402  # beside the tests that use it

STUDY = ["pcsformer", "crt", "cpdgl", "semformer", "pcss"]
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
