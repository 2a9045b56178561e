"""The forward passes of MCTformer V1, V2 and plus, and of PCSS."""

from typing import Any

import pytest
import torch
from golden import Golden
from pictures import normalised
from transformers import CLOSE, build, sizes, thinned

ROOTED = {"rtol": 1e-4, "absolute": 5e-4}  # plus takes the square root of its maps


@pytest.mark.parametrize("version", ["v1", "v2", "plus"])
@torch.inference_mode()
def test_mctformer(golden: Golden, version: str) -> None:
    expected = golden.arrays(f"net_mctformer_{version}.npz")
    _, net = build(golden, f"mctformer_{version}")
    for case, size in sizes(expected):
        seen = net.look(normalised(net, [size]), "mean", keep=range(12))
        found: dict[str, Any] = {"cls": seen.class_logits}
        if version != "v1":
            found |= {"pcls": net.patch_logits(seen), "patchcam": seen.patch_map}
        if version == "plus":
            found["mean_logits"] = (found["cls"] + found["pcls"]) / 2
        mean = version == "plus"
        for blocks in (3, 12):
            found[f"mct_n{blocks}"] = net.maps(seen, blocks, mean, "tokens")
            found[f"fused_n{blocks}"] = net.maps(seen, blocks, mean)
            for name in (f"refined_n{blocks}", f"fused_n{blocks}_refined"):
                found[name] = seen.spread(net.maps(seen, blocks, mean))
        for key in (key for key in expected if key.startswith(f"{case}/")):
            name = key.partition("/")[2]
            if name == "class_tokens_sub":
                kept = torch.stack([seen.kept[block][0, : net.classes] for block in (0, 3, 6, 9)])
                measured = thinned(kept, expected[key])
            else:
                measured = found[name][0]
            close = ROOTED if version == "plus" else CLOSE
            golden.close(f"mctformer {version} {key}", measured, expected[key], **close)
