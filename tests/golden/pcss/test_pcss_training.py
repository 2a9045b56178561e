"""Learning rates, groups of weights that decay, and initial weights of one class token."""

import pytest
import torch
from golden import Golden
from transformers import build

from wsss.nets.build import load_backbone
from wsss.settings import Params, TrainParams
from wsss.settings.resolve import resolve_settings
from wsss.storage import checkpoint
from wsss.training.optimizer import optimizer, rate

TIMES = 7  # steps of an epoch, any number


def published(method: str) -> TrainParams:
    found = resolve_settings(Params(), "voc12", method, "published").networks["classifier"].train
    return found.model_copy(update={"precision": "fp32"})


@pytest.mark.parametrize("name", ["pcss", "mctformer_v2", "mctformer_plus"])
def test_rates_and_groups(golden: Golden, name: str) -> None:
    expected = golden.json("schedule.json")[name]
    params = published(name.partition("_")[0])
    wanted = expected["lr_by_epoch"]
    if len(wanted) != params.epochs:  # plus: another length and batch than the settings of V2
        warmup = params.warmup * params.epochs / len(wanted)
        params = params.model_copy(
            update={"epochs": len(wanted), "lr": expected["base_lr"], "warmup": warmup}
        )
    steps = TIMES * params.epochs
    for place in (0, TIMES - 1):
        rates = [params.lr * rate(params, at + place, steps) for at in range(0, steps, TIMES)]
        golden.close(f"{name} rates, step {place} of an epoch", rates, wanted, absolute=1e-9)
    assert params.lr == pytest.approx(expected["base_lr"], rel=1e-9)


def test_weights_that_decay(golden: Golden) -> None:
    expected = golden.json("schedule.json")["pcss"]
    _, net = build(golden, "pcss")
    params = published("pcss")
    called = {id(weight): name for name, weight in net.named_parameters()}
    found = optimizer(net, params)
    for group in expected.get("groups") or golden.json("schedule.json")["groups"]:
        ours = {
            called[id(weight)].removeprefix("backbone.")
            for own in found.param_groups
            if own["weight_decay"] == group["weight_decay"]
            for weight in own["params"]
        }
        # the final LayerNorm gets no gradient, so it has no place among ours
        assert ours == {name for name in group["names"] if not name.startswith("norm.")}
    for group in found.param_groups:
        assert list(group["betas"]) == expected["betas"]
        assert group["eps"] == expected["eps"]


@pytest.mark.parametrize("name", ["mctformer_v2", "mctformer_plus", "pcss"])
def test_initial_weights(golden: Golden, name: str) -> None:
    source = checkpoint.load_foreign(golden.checkpoint("deit_small_source", wrapper="model"))
    _, net = build(golden, name)
    load_backbone(net.backbone, source)
    own = net.backbone
    classes = net.classes
    assert torch.equal(own.cls_token, source["cls_token"].expand(-1, classes, -1))
    assert torch.equal(own.blocks[3].attn.qkv.weight, source["blocks.3.attn.qkv.weight"])
    first, cells = source["pos_embed"][:, :1], source["pos_embed"][:, 1:]
    side, large = int(cells.shape[1] ** 0.5), own.shape.grid
    if name != "mctformer_plus":
        assert torch.equal(own.pos_embed[:, :classes], first.expand(-1, classes, -1))
        assert torch.equal(own.pos_embed[:, classes:], cells)
        return
    assert torch.equal(own.pos_embed, source["pos_embed"])
    assert torch.equal(own.pos_embed_cls, first.expand(-1, classes, -1))
    grown = own.pos_embed_pat.reshape(large, large, -1)
    factor = large // side
    for row, column in ((0, 0), (large - 1, 3), (5, large - 1)):
        assert torch.equal(grown[row, column], cells[0, row // factor * side + column // factor])
