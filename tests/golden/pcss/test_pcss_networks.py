"""The forward passes of MCTformer V1, V2 and plus, and of PCSS."""

from typing import Any

import fill
import pytest
import torch
from golden import Golden
from pictures import normalised
from transformers import CLOSE, LOOSE, build, sizes, thinned

from wsss.methods.pcss.spectrum import mixed_magnitude, with_magnitude

ROOTED = {"rtol": 1e-4, "absolute": 5e-4}  # plus takes the square root of its maps


@pytest.mark.parametrize("version", ["v1", "v2", "plus"])
@torch.inference_mode()
def test_mctformer(golden: Golden, version: str) -> None:
    expected = golden.arrays(f"net_mctformer_{version}.npz")
    _, net = build(golden, f"mctformer_{version}")
    for case, size in sizes(expected):
        seen = net.encode(normalised(net, [size]), "mean", keep=range(12))
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
                blocks = golden.case("class_token_blocks")
                kept = torch.stack([seen.block_tokens[block][0, : net.classes] for block in blocks])
                measured = thinned(kept, expected[key])
            else:
                measured = found[name][0]
            close = ROOTED if version == "plus" else CLOSE
            golden.close(f"mctformer {version} {key}", measured, expected[key], **close)


@pytest.mark.parametrize("data", ["voc", "coco"])
@torch.inference_mode()
def test_pcss(golden: Golden, data: str) -> None:
    expected = golden.arrays(f"net_pcss_{data}.npz")
    method, net = build(golden, "pcss", data)
    block = method.mixed_block(net)
    cases = list(sizes(expected)) or [("", golden.case("net_pcss_coco", "size"))]
    for case, size in cases:
        seen = net.encode(normalised(net, [size]), "mean", keep=(block,))
        kept = net.backbone.as_map(seen.block_tokens[block], seen.scores.shape[2:])
        found = {
            "cls": seen.class_logits,
            "pcls": net.patch_logits(seen),
            "pcam": seen.patch_map,
            "rcam": method.refined(net, seen),
            "rcam_last3": seen.spread(net.maps(seen, 3, mean=True)),
            f"patch_after_block{block}": kept,
        }
        for key in (key for key in expected if key.startswith(case) and "mpc" not in key):
            name = key.rpartition("/")[2]
            measured = thinned(found[name.removesuffix("_sub")][0], expected[key])
            close = LOOSE if name.startswith(("pcam", "patch")) else CLOSE
            golden.close(f"pcss {data} {key}", measured, expected[key], **close)


@torch.inference_mode()
def test_mixed_magnitudes_without_a_network(golden: Golden) -> None:
    expected, case = golden.arrays("mpc_unit.npz"), golden.case("mpc_unit")
    drawn = [
        fill.tensor(key, case["shape"]) * case["factor"] for key in ("pcss/mpc/x1", "pcss/mpc/x2")
    ]
    first, second = map(torch.from_numpy, drawn)
    mixed = mixed_magnitude(first, torch.tensor(case["permutation"]), case["ratio"])
    half = expected["mag"][..., : mixed.shape[-1]]
    golden.close("mpc unit magnitudes", mixed, half, **LOOSE)
    golden.close("mpc unit features", with_magnitude(second, mixed), expected["mixed"], **LOOSE)


@torch.inference_mode()
def test_mixed_magnitudes_in_the_network(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, case = golden.arrays("net_pcss_voc.npz"), golden.case("mpc")
    method, net = build(golden, "pcss", mpc_keep=case["ratio"])
    order = torch.tensor(case["permutation"])
    monkeypatch.setattr(method, "order", lambda count: order)
    block = method.mixed_block(net)
    for name in dict.fromkeys(key.partition("/")[0] for key in expected if key.startswith("mpc")):
        side = int(name.removeprefix("mpc"))
        images = normalised(net, [(side, side, seed) for seed in case["seeds"]])
        first = net.encode(images, keep=(block,))
        second = method.encode_mixed(net, images, first, "mean")
        grid = second.scores.shape[2:]
        features = net.backbone.as_map(first.block_tokens[block], grid)
        wanted = expected[f"{name}/mag_sub"]
        half = mixed_magnitude(features, order, case["ratio"])[
            :, :: -(-features.shape[1] // wanted.shape[1])
        ]
        golden.close(
            f"pcss {name} magnitudes", half, wanted[..., : half.shape[-1]], rtol=1e-4, absolute=1e-3
        )
        found = {
            "cls": second.class_logits,
            "pcls": net.patch_logits(second),
            "pcam_sub": second.patch_map,
            "rcam_sub": method.refined(net, second),
        }
        for key, measured in found.items():
            wanted = expected[f"{name}/{key}"]
            close = LOOSE if key == "pcam_sub" else CLOSE
            golden.close(f"pcss {name} {key}", thinned(measured, wanted), wanted, **close)
