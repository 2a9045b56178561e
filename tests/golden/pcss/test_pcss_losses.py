"""Loss terms and gradients of MCTformer and PCSS, and images without suppressed frequencies."""

from typing import Any

import fill
import numpy as np
import pytest
import torch
from golden import Golden
from pictures import normalised
from torch import Tensor
from transformers import build, change, gradients, labels_of, thinned

from wsss.methods.pcss.spectrum import suppressed

TERMS = {  # theirs -> ours
    "cls_loss": "tokens",
    "mct_loss": "tokens",
    "pat_loss": "patches",
    "attn_loss": "contrast",
    "loss_cls": "labels",
    "loss_cls_hif_reduced": "suppressed_labels",
    "loss_cam_hif_reduced": "suppressed_maps",
    "loss_cls_merge": "mixed_labels",
    "loss_cam_merge": "mixed_maps",
}


def batch(net: Any, case: dict[str, Any]) -> dict[str, Tensor]:
    """Return the pictures and labels of a case."""
    pictures = normalised(net, [(case["size"], case["size"], seed) for seed in case["image_seeds"]])
    return {"image": pictures, "label": labels_of(case["labels"], net.classes)}


def influence(size: int, classes: int) -> Tensor:
    """Return the influence of frequencies that the set's values were made with."""
    drawn = fill.tensor(f"pcss/fss/mask{size}", (classes, size, size))
    return torch.from_numpy(np.clip(0.5 + 1.5 * drawn, 0, 1))


def compare(
    golden: Golden, name: str, net: Any, case: dict[str, Any], terms: dict[str, Tensor], rtol: float
) -> None:
    """Compare the terms, their sum, and the gradients, within `rtol` for these."""
    theirs = case["terms"]
    known = [key for key in theirs if TERMS.get(key) in terms]
    measured = [terms[TERMS[key]].item() for key in known] + [sum(terms.values()).item()]
    wanted = [theirs[key] for key in known] + [theirs["total"]]
    golden.close(f"{name} terms", measured, wanted, rtol=1e-4)
    norms = gradients(net, terms, case["grad_l2"])
    golden.close(
        f"{name} gradients", norms, [v or 0.0 for v in case["grad_l2"].values()], rtol=rtol
    )


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1", "v2", "plus"])
def test_mctformer_losses(golden: Golden, version: str) -> None:
    method, net = build(golden, f"mctformer_{version}")
    for size, case in golden.json(f"losses_mctformer_{version}.json").items():
        terms = method.losses("classifier", {"classifier": net}, batch(net, case), 0)
        compare(golden, f"mctformer {version} losses {size}", net, case, terms, 5e-4)


@pytest.mark.slow
@pytest.mark.parametrize("data", ["96", "224", "coco"])
def test_pcss_losses(golden: Golden, monkeypatch: pytest.MonkeyPatch, data: str) -> None:
    method, net = build(
        golden, "pcss", "coco" if data == "coco" else "voc", **golden.case("losses", data)
    )
    for name, case in golden.json("losses_pcss.json").items():
        if not name.startswith(f"{data}/"):
            continue
        change(method, fss_weight=case["W"][0], mpc_weight=case["W"][1])
        net.influence.epoch.fill_(case["epoch"])
        mask, order = influence(case["size"], net.classes), torch.tensor(case["mpc_perm"])
        monkeypatch.setattr(net.influence, "mask", lambda mask=mask: mask)
        monkeypatch.setattr(method, "order", lambda count, order=order: order)
        terms = method.losses("classifier", {"classifier": net}, batch(net, case), 0)
        # the gradient of a phase has 1 / magnitude in it, where float32 is not exact
        compare(golden, f"pcss losses {name}", net, case, terms, 2e-3 if case["W"][1] else 1e-4)


def test_suppressed_frequencies(golden: Golden) -> None:
    expected = golden.arrays("fss_filtered.npz")
    _, net = build(golden, "pcss")
    case = golden.json("losses_pcss.json")[golden.case("fss")]
    items = batch(net, case)
    found = suppressed(items["image"], items["label"], influence(case["size"], net.classes))
    wanted = expected["filtered_sub"]
    golden.close("pcss suppressed images", thinned(found, wanted), wanted, rtol=1e-4, absolute=1e-5)
    for image, before, present in zip(found, items["image"], items["label"], strict=True):
        assert present.any() or torch.equal(image, before)
