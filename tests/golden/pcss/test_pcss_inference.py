"""CAMs as they are stored, the threshold sweep, and the CRF's posteriors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from golden import Golden
from pictures import localized
from transformers import build, change

from wsss.scores.metrics import ThresholdCurve, mean_iou
from wsss.settings import CamParams

# rtol and atol as published, and the rounding of the stored float16
CLOSE = {"rtol": 1e-4 + 2**-11, "absolute": 5e-4}
SCALES = {"s1": (1.0,), "ms": (1.0, 0.75, 1.25)}


@pytest.mark.parametrize("name", ["mctformer_v1", "mctformer_v2", "mctformer_plus", "pcss"])
@torch.inference_mode()
def test_stored_maps(golden: Golden, tmp_path: Path, name: str) -> None:
    expected = golden.arrays(f"infer_{name}.npz")
    method, net = build(golden, name)
    normalise = "range_cut" if name == "pcss" else "range"
    for height, width, seed, labels in golden.case("infer", "images"):
        case = f"{height}x{width}_s{seed}"
        for key in dict.fromkeys(key.rpartition("/")[0] for key in expected):
            if not key.endswith(case):
                continue
            scales = (1.0,)
            if name != "pcss":
                blocks, _, look = key.partition("/")[0].partition("_")
                change(method, blocks=int(blocks.removeprefix("n")))
                scales = SCALES[look]
            params = CamParams(stride=1, scales=scales, normalise=normalise)
            cam = localized(method, net, (height, width, seed), params, labels, tmp_path)
            for label, found in zip(labels, cam.cam, strict=True):
                wanted = expected[f"{key}/class{label}"]
                golden.close(f"{name} {key} class {label}", found, wanted, **CLOSE)


def test_sweep(golden: Golden) -> None:
    expected, arrays = golden.json("eval_sweep.json"), golden.arrays("eval_inputs.npz")
    curve_key = next(key for key in expected if key.startswith("curve_"))
    wanted = np.array(expected[curve_key])
    levels = (np.arange(len(wanted)) / 100).astype(np.float32)
    curve = ThresholdCurve(golden.case("sweep", "classes") + 1, levels)
    for name, entry in expected["images"].items():
        maps = np.stack([arrays[f"cam/{name}/class{k}"] for k in entry["classes"]])
        curve.add(arrays[f"gt/{name}"], maps, entry["classes"])
    values = 100 * mean_iou(curve.matrices(), "C")
    golden.close("pcss sweep", values, wanted, absolute=1e-7)
