"""Groups of parameters, frozen parts and the fall of the rate."""

import pytest
import torch
from torch import nn

from wsss.errors import ConfigError
from wsss.settings import PartParams, TrainParams
from wsss.training.optimizer import freeze, optimizer, parameter_groups, parts, rate


def net() -> nn.Module:
    found = nn.Module()
    found.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    found.head = nn.Sequential(nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5), nn.Conv2d(5, 2, 1))
    return found


def names(module: nn.Module, params: TrainParams) -> list[tuple[list[str], float, object]]:
    called = {id(p): name for name, p in module.named_parameters()}
    return [
        ([called[id(p)] for p in group["params"]], group["factor"], group.get("weight_decay"))
        for group in parameter_groups(module, params)
    ]


def test_without_options_there_are_two_groups() -> None:
    found = names(net(), TrainParams(head_lr_scale=10.0))
    assert [(len(group), factor, decay) for group, factor, decay in found] == [
        (4, 1.0, None),
        (6, 10.0, None),
    ]


def test_biases_of_new_layers_learn_at_their_own_rate_and_without_decay() -> None:
    params = TrainParams(
        head_lr_scale=10.0, head_bias_lr_scale=20.0, decay_bias=False, frozen=("backbone.1.*",)
    )
    assert names(net(), params) == [
        (["backbone.0.weight"], 1.0, None),
        (["backbone.0.bias"], 1.0, 0.0),
        (["head.0.weight", "head.1.weight", "head.2.weight"], 10.0, None),
        (["head.0.bias", "head.1.bias", "head.2.bias"], 20.0, 0.0),
    ]


def test_new_layers_can_be_named() -> None:
    found = names(net(), TrainParams(head=("head.2.*",), head_lr_scale=10.0))
    assert [(len(group), factor) for group, factor, _ in found] == [(8, 1.0), (2, 10.0)]


def test_frozen_weights_and_norms_stay_and_the_others_learn() -> None:
    module = net().train()
    params = TrainParams(
        optimizer="sgd", lr=0.1, frozen=("backbone.0.*",), freeze_norm=("backbone.*",)
    )
    freeze(module, params)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    running = optimizer(module, params)
    module.head(module.backbone(torch.rand(2, 3, 5, 5))).sum().backward()
    running.step()
    after = module.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert not any(key.startswith("backbone.0") or "backbone.1.running" in key for key in changed)
    assert {"head.1.running_mean", "head.2.weight", "backbone.1.weight"} <= changed


@pytest.mark.parametrize("key", ["frozen", "head", "freeze_norm"])
def test_a_pattern_that_fits_nothing_is_an_error(key: str) -> None:
    params = TrainParams.model_validate({key: ("backbne.*",)})
    with pytest.raises(ConfigError, match=f"train.{key}: no name matches 'backbne") as caught:
        freeze(net(), params)
    assert "\n" not in str(caught.value)


def test_a_rate_stays_until_it_is_refreshed() -> None:
    params = TrainParams(warmup=0.0, power=1.0, lr_update_steps=10)
    assert [rate(params, step, 100) for step in (0, 9, 10, 19, 99)] == pytest.approx(
        [1.0, 1.0, 0.9, 0.9, 0.1]
    )


def test_a_schedule_can_outlast_the_training_and_ends_with_it() -> None:
    params = TrainParams(warmup=0.0, power=1.0, schedule_extra_steps=1)
    assert rate(params, 9, 10) == pytest.approx(2 / 11)
    assert rate(params, 50, 10) == rate(params, 9, 10)


def test_nesterov_reaches_the_optimiser_and_needs_momentum() -> None:
    running = optimizer(net(), TrainParams(optimizer="sgd", nesterov=True))
    assert running.param_groups[0]["nesterov"]
    with pytest.raises(ValueError, match="nesterov needs optimizer sgd"):
        TrainParams(optimizer="adamw", nesterov=True)


def test_a_warm_up_within_the_fall_drops_where_it_ends() -> None:
    params = TrainParams(warmup=0.1, warmup_start=1e-6, power=0.9)
    assert rate(params, 0, 1000) == pytest.approx(1e-6)
    assert rate(params, 99, 1000) == pytest.approx(0.99, abs=1e-3)
    assert rate(params, 100, 1000) == pytest.approx(0.9**0.9)
    assert rate(params, 999, 1000) == pytest.approx(0.001**0.9)


def test_a_part_has_an_optimiser_rates_and_decay_of_its_own() -> None:
    own = PartParams(
        names=("head*",), optimizer="sgd", lr=0.5, head=("head.2.*",), head_lr_scale=10.0,
        momentum=0.0, weight_decay=0.3, decay_bias=True, schedule="constant",
    )  # fmt: skip
    params = TrainParams(
        lr=0.1, schedule="poly", power=1.0, warmup=0.0, decay_bias=False, parts=(own,)
    )
    module = net()
    rest, head = parts(module, params)
    assert [type(part.optimizer) for part in (rest, head)] == [torch.optim.AdamW, torch.optim.SGD]
    for part in (rest, head):
        part.set_rate(5, 10)
    called = {id(p): name for name, p in module.named_parameters()}
    groups = [g for part in (rest, head) for g in part.optimizer.param_groups]
    found = {called[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert found["backbone.0.weight"] == pytest.approx((0.05, params.weight_decay))
    assert found["backbone.0.bias"] == pytest.approx((0.05, 0.0))
    assert found["head.0.bias"] == pytest.approx((0.5, 0.3))
    assert found["head.2.weight"] == pytest.approx((5.0, 0.3))
    assert set(found) == set(called.values())


def test_without_parts_there_is_one_optimiser_and_a_part_of_all_leaves_no_rest() -> None:
    assert len(parts(net(), TrainParams())) == 1
    everything = PartParams(names=("*",), lr=0.5)
    [only] = parts(net(), TrainParams(parts=(everything,)))
    assert only.params.lr == 0.5


def test_a_part_that_fits_no_weight_is_an_error() -> None:
    with pytest.raises(ConfigError, match="parts.names: no name matches 'tail"):
        parts(net(), TrainParams(parts=(PartParams(names=("tail*",)),)))


def test_a_rate_falls_to_a_tenth_at_each_multiple_of_a_milestone() -> None:
    params = TrainParams(epochs=6, schedule="milestones", milestones=(2, 3), warmup=0.0)
    found = [rate(params, step, 12) for step in range(12)]  # two steps in each epoch
    tens = [0, 0, 1, 1, 2, 2, 3, 3, 3, 3, 4, 4]
    assert found == pytest.approx([0.1**ten for ten in tens])
