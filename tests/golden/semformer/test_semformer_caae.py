"""The class-aware autoencoder: features, similarities, pictures drawn again, losses."""

import numpy as np
import pytest
import torch
from golden import FORWARD, Golden
from networks import batch, caae, gradients, labels, method, thin
from torch import Tensor, nn

from wsss.methods.semformer.caae import CAAE_LAYOUT, CAAENet, cosine
from wsss.methods.semformer.method import similarity_loss, with_background

LOSS = {"rtol": 1e-4}


@pytest.mark.slow
def test_the_autoencoder(golden: Golden) -> None:
    expected, cases = golden.arrays("caae.npz"), golden.json("caae.json")
    net = caae(golden)
    for name, case in cases.items():
        images = batch(net, case)
        with torch.inference_mode():
            tokens = net.backbone(images)[0].flatten(2).transpose(1, 2)
            coded = net.code(images)
            found = {
                "input": images,
                "tokens": tokens,
                "class_tokens": coded.features,
                "cre": coded.embedding,
                "retokens": net.restore(coded.features),
                "sim": net(images),
                "recon": net.reconstruct(coded, images.shape[2:]),
            }
        for part, values in found.items():
            kept = thin(values, golden.case("strides", "caae", part))
            golden.close(f"caae {name} {part}", kept, expected[f"{name}_{part}"], **FORWARD)
    golden.close("caae semantics", net.class_semantics(), expected["crs"], **FORWARD)


def terms(net: CAAENet, images: Tensor, present: Tensor) -> dict[str, Tensor]:
    found = method().losses("caae", {"caae": net}, {"image": images, "label": present}, 0)
    return {
        "sim": found["similarity"],
        "recon": found["reconstruction"],
        "total": torch.stack(list(found.values())).sum(),
    }


@pytest.mark.slow
def test_the_losses_of_the_autoencoder(golden: Golden) -> None:
    net = caae(golden)
    for name, case in golden.json("caae.json").items():
        if "losses" not in case:
            continue
        present = labels(case["labels_without_background"])
        found, expected = terms(net, batch(net, case), present), case["losses"]
        for part, loss in found.items():
            golden.close(f"caae {name} {part} loss", loss.detach(), expected[part]["value"], **LOSS)
            _gradients(golden, f"caae {name} {part}", net, loss, expected[part]["grad_l2"])
        rows = torch.autograd.grad(found["total"], net.semantics.weight)[0].double().norm(dim=1)
        wanted = expected["crs_grad_row_l2"]
        golden.close(f"caae {name} semantics gradients", rows, _rows(wanted), **LOSS)
        absent = with_background(present).sum(0) == 0
        assert not rows[absent].any(), "semantics learn from pictures without the class"


def _rows(wanted: object) -> list[float]:
    assert isinstance(wanted, list | dict)
    return wanted["total"] if isinstance(wanted, dict) else wanted


def _gradients(
    golden: Golden, case: str, net: CAAENet, loss: Tensor, wanted: dict[str, float | None]
) -> None:
    kept = {key: value for key, value in wanted.items() if not _dropped(key)}
    found = gradients(net, CAAE_LAYOUT, loss, list(kept))
    nothing = [key for key, value in kept.items() if value is None]
    assert [key for key, value in zip(kept, found, strict=True) if not value] == nothing
    both = [(f, w) for f, w in zip(found, kept.values(), strict=True) if w is not None]
    golden.close(f"{case} gradients", [f for f, _ in both], [w for _, w in both], rtol=1e-4)


def _dropped(key: str) -> bool:
    return "dist" in key  # DeiT's left-overs have no gradient and no place in our network


def test_similarities_and_their_loss(golden: Golden) -> None:
    expected = golden.arrays("misc.npz")
    found = cosine(torch.from_numpy(expected["cos_a"]), torch.from_numpy(expected["cos_b"]))
    golden.close("clamped cosine", found, expected["cos_out"], rtol=1e-6, absolute=1e-7)
    caae_cases = golden.json("caae.json")
    for name, case in caae_cases.items():
        if "losses" in case:
            scores = torch.from_numpy(golden.arrays("caae.npz")[f"{name}_sim"])
            present = with_background(labels(case["labels_without_background"]))
            loss = similarity_loss(scores, present)
            wanted = case["losses"]["sim"]["value"]
            golden.close(f"caae {name} similarity loss", loss, wanted, **LOSS)


def test_norms_have_the_published_constants() -> None:
    net = method().build("caae")
    found = {
        (name.partition(".")[0], layer.eps)
        for name, layer in net.named_modules()
        if isinstance(layer, nn.LayerNorm)
    }
    assert found == {("backbone", 1e-6), ("restore", 1e-5), ("decoder", 1e-5)}
    assert np.isclose(1e-4, 1 - cosine(torch.ones(3), torch.ones(3)).item(), rtol=1e-3)
