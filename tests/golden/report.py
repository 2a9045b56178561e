"""Write docs/parity.md and a list of all cases from what the golden tests noted (`make parity`)."""

import json
import re
import sys
from pathlib import Path
from typing import Any

INTRODUCTION = """# Parity with the published code

Golden tests compare the package with numbers that the authors' code computed, step by step, on the same weights and
inputs. Published checkpoints enter through the checkpoint loader, in the authors' own key layout.

```
make parity    # runs the golden tests, rewrites this page, lists every case in parity/cases.md
```

A row of `parity/cases.md` names the case, the largest difference and the tolerance of its test. Git does not track it.

What this shows: with equal weights and inputs each step gives the authors' numbers. What it does not show: that a
training of many epochs on VOC or COCO ends at the published mIoU. No such run has been computed with this package yet.
What the authors' code does beside its papers is in [published-code.md](published-code.md).

## What is compared

| set | steps |
|---|---|
| clip | CLIP-ES: image tower, softmax over classes and backgrounds, GradCAM, boxes, transition matrix, spread maps; ExCEL: both paths, similarity maps, feedback, decoder, selection and affinity, labels, losses |
| cpdgl | CPDGL and ToCo: networks, CAMs, labels from CAMs, PAR, crops, memories, every loss, whole training steps with gradients, masks, CRF, scores |
| crt | both networks, tiles, training maps and losses, CAMs, IRN, random walk, DeepLab-v2, boxes on CUB and their scores |
| pcsformer | Conformer-S, losses and gradients of PC and SP, clusters and sub-labels, CAMs, AffinityNet, random walk, saliency step, DeepLab-v2 |
| pcss | PCSS and MCTformer v1, v2, plus: networks, CAMs, mixed magnitudes, measured frequencies, losses and gradients, rates, AffinityNet, ResNet-38 segmenter |
| semformer | CAAE and SemFormer: networks, losses, rates and updates, CAMs, affinity labels, AffinityNet, random walk, DeepLab-v1, scores |
| stages | shared stages: PSA, IRN, random walks, all CRF sets, DeepLab-v1, -v2, -v3+, ResNet-38, optimisers, lists and masks of VOC, COCO and CUB, every convention of the mIoU |
| weclip | WeCLIP and WeCLIP+: tokens, also of DINOv2, GradCAM, selection and affinity, spread maps, labels, decoder and its branches, three whole training steps with gradients and rates, merged views, labels of an image |

## How close

Differences as shares of the largest value of the case (of 0.001 if that is larger):
"""

CASES = """# Every comparison with the published code

The largest difference of each case and the tolerance of its test; docs/parity.md is the summary. Made by `make parity`.
"""

SMALL = 1e-3
NUMBERS = re.compile(r"(\S+) \(largest value (\S+)\)")


def main(notes: Path, page: Path, listing: Path) -> None:
    """Turn the lines of `notes` into a page with one table over all, and a listing of every case."""
    rows = [json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines()]
    methods = {
        method: {row["case"]: row for row in rows if row["method"] == method}
        for method in sorted({row["method"] for row in rows})
    }
    page.write_text("\n".join([INTRODUCTION, *summary(methods), ""]), encoding="utf-8")
    listing.parent.mkdir(parents=True, exist_ok=True)
    listing.write_text("\n".join([CASES, *cases(methods)]), encoding="utf-8")


def cases(methods: dict[str, dict[str, Any]]) -> list[str]:
    """Return a table for each method, with a row for each case."""
    lines = []
    for method, rows in methods.items():
        lines += [f"## {method}: {len(rows)} comparisons", ""]
        lines += ["| case | largest difference | tolerance |", "|---|---|---|"]
        lines += [
            f"| {case} | {row['difference']} | {row['tolerance']} |"
            for case, row in sorted(rows.items())
        ]
        lines += [""]
    return lines


def summary(methods: dict[str, dict[str, Any]]) -> list[str]:
    """Return how many comparisons each method has, and how near half and nearly all of them are."""
    lines = [
        "| | comparisons | equal | of the others half are below | 95 % below | the largest |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for method, rows in methods.items():
        shares = sorted(filter(None, (share(row["difference"]) for row in rows.values())))
        at = [shares[int(part * (len(shares) - 1))] for part in (0.5, 0.95, 1)] if shares else []
        cells = [method, len(rows), len(rows) - len(shares), *(f"{value:.0e}" for value in at)]
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return lines


def share(difference: str) -> float:
    """Return a noted difference as a share of the largest value, or of the entries."""
    if numbers := NUMBERS.match(difference):
        worst, largest = map(float, numbers.groups())
        return worst / max(largest, SMALL)
    return 1 - float(difference.partition("%")[0]) / 100


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
