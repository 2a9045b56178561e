"""CRT's transformer over tiles, the CNN beside it, and what they learn from each other."""

import pytest
import torch
import torch.nn.functional as F
from crt_networks import CLASSES, PUBLISHED, batch_of, gradients, labels, method, network, thinned
from golden import FORWARD, Golden
from torch import nn

from wsss.methods.crt.network import CNN, TRANSFORMER
from wsss.training.optimizer import freeze

EXACT = {"atol": 1e-5}  # a wrong constant of a norm moves outputs by 2e-5
LOSS = {"rtol": 1e-4}


@pytest.mark.slow
def test_the_transformer_on_a_tile(golden: Golden) -> None:
    expected, case = golden.arrays("deits_tile.npz"), golden.case("tile")
    net = network(golden)
    images = batch_of(net, case["size"], case["seed"])
    backbone = net.backbone
    with torch.inference_mode():
        scores, attention = net.encode(images, attend=True)
        tokens, _ = backbone.embed(images)
        rows = 0
        for _ in range(net.encoding.passes):
            seen = backbone.run(tokens, "heads")
            rows = rows + seen.attention[0][0, 0].sum(1)
            tokens = tokens + seen.tokens
        tokens = backbone.norm(tokens)[0]
    patches, every = thinned(expected, "patch_tokens")
    golden.close("class token", tokens[0], expected["cls_token"], **EXACT)
    golden.close("patch tokens", tokens[1::every], patches, **EXACT)
    golden.close("attention", attention[0, 0], expected["attention_cls_row"], **EXACT)
    golden.close("sums of attention", rows, expected["attention_block0_head0_rowsum"], **EXACT)
    golden.close("scores of a tile", scores[0], expected["head_map"], **EXACT)


@pytest.mark.slow
def test_a_step_of_training(golden: Golden) -> None:
    maps, case = golden.arrays("train_maps.npz"), golden.case("train")
    net, own = network(golden, auxiliary_cnn=True), method()
    freeze(net.train(), PUBLISHED.networks["classifier"].train)
    images = batch_of(net, case["size"], *case["seeds"])
    ours, theirs = net.maps(images), net.auxiliary_maps(images)
    for name, found in (("deits", ours), ("res152", theirs)):
        golden.close(f"{name} maps", found.detach(), maps[f"{name}_map"], **EXACT)
        means = found.mean((2, 3)).detach()
        golden.close(f"{name} scores", means, maps[f"{name}_logits"], **EXACT)
    large = [
        F.interpolate(m.detach(), images.shape[2:], mode="bilinear", align_corners=True)
        for m in (theirs, ours)
    ]
    wanted, every = thinned(maps, "up_abs_diff")
    distance = (large[0] - large[1]).abs()[..., ::every, ::every]
    golden.close("distance of the maps", distance, wanted, **FORWARD)
    batch = {"image": images, "label": labels(case["classes"])}
    weight = PUBLISHED.networks["classifier"].hyper_parameters.consistency
    for done, (name, expected) in enumerate(golden.json("train_losses.json").items()):
        net.epochs_done.fill_(done)
        terms = own.losses("classifier", {"classifier": net}, batch, 0)
        assert ("consistency" in terms) == (done > 0)
        kinds = {"loss_cnn": "auxiliary_cnn", "loss_vit": "transformer"}
        for key, term in kinds.items():
            golden.close(f"{name} {key}", terms[term].detach(), expected[key], **LOSS)
        if done:
            distance = terms["consistency"].detach() / weight
            golden.close(f"{name} loss_l1", distance, expected["loss_l1"], **LOSS)
        total = torch.stack(list(terms.values())).sum()
        golden.close(f"{name} total", total.detach(), expected["total"], **LOSS)
        gradients(golden, f"{name} res152", net, total, expected["res152"], CNN)
        gradients(golden, f"{name} deits", net, total, expected["deits"], TRANSFORMER)


def test_norms_have_the_published_constants() -> None:
    net = method().build("classifier")
    found = {
        (name.partition(".")[0], type(layer), layer.eps)
        for name, layer in net.named_modules()
        if "norm" in type(layer).__name__.lower()
    }
    kinds = {(name, kind.__mro__[0].__name__[:9]) for name, kind, _ in found}
    assert kinds == {("backbone", "LayerNorm"), ("auxiliary_cnn", "BatchNorm")}
    assert {(name, eps) for name, _, eps in found} == {("backbone", 1e-6), ("auxiliary_cnn", 1e-5)}
    weight = net.head.weight
    limit = (weight.shape[1] * 9) ** -0.5  # PyTorch's default of a convolution
    assert weight.abs().max() <= limit < 1.01 * weight.abs().max()
    assert isinstance(net.head, nn.Conv2d)
    assert net.head.out_channels == CLASSES
