"""Optimisers: parameter groups with their learning rates, frozen parameters, schedules."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import torch
from torch import nn

from wsss.errors import ConfigError
from wsss.nets.backbone import freeze_norm, matches
from wsss.settings import TrainParams


def rate(params: TrainParams, step: int, steps: int) -> float:
    """Return the factor on the learning rate at `step` (from 0); it is constant after `steps`."""
    step = min(step, steps - 1)
    if params.schedule == "cosine_epochs":
        return _rate_of_epoch(params, step // max(1, steps // params.epochs)) / params.lr
    if params.schedule == "milestones":
        epochs = range(1, step // max(1, steps // params.epochs) + 2)
        return 0.1 ** sum(any(epoch % at == 0 for at in params.milestones) for epoch in epochs)
    step -= step % params.lr_update_steps
    rising = round(params.warmup * steps)
    if step < rising and params.warmup_start is not None:
        return 1 - (1 - step / rising) * (1 - params.warmup_start)
    if step < rising:
        return (step + 1) / (rising + 1)
    if params.warmup_start is not None:
        rising = 0
    done = (step - rising) / max(1, steps + params.schedule_extra_steps - rising)
    if params.schedule == "poly":
        return float((1 - done) ** params.power)
    return 0.5 * (1 + math.cos(math.pi * done)) if params.schedule == "cosine" else 1.0


def _rate_of_epoch(params: TrainParams, epoch: int) -> float:
    epoch = max(0, min(epoch, params.epochs - 1) - params.lr_delay_epochs)
    rising = round(params.warmup * params.epochs)
    if epoch < rising:
        return params.lr_first + epoch * (params.lr - params.lr_first) / rising
    fall = (1 + math.cos(math.pi * epoch / params.epochs)) / 2
    return params.lr_last + fall * (params.lr - params.lr_last)


class Group(TypedDict):
    """A parameter group of an optimiser; `factor` is its learning rate as a multiple of `lr`."""

    params: list[nn.Parameter]
    factor: float
    weight_decay: NotRequired[float]


@dataclass
class Part:
    """Parameters that share an optimiser; `params` are their settings."""

    params: TrainParams
    optimizer: torch.optim.Optimizer

    def load(self, state: dict[str, object]) -> None:
        """Load a state of the optimiser; its kernel stays that of this device."""
        fused = [group.get("fused") for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state)
        for group, kernel in zip(self.optimizer.param_groups, fused, strict=True):
            if "fused" in group:
                group["fused"] = kernel

    def set_rate(self, step: int, steps: int) -> None:
        """Set the learning rates of `step` (from 0) of `steps`."""
        factor = rate(self.params, step, steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.params.lr * group["factor"] * factor


def parts(net: nn.Module, params: TrainParams) -> list[Part]:
    """Return the optimiser of the parameters outside all `params.parts`, then one for each part."""
    names = [name for name, _ in net.named_parameters()]
    separate: list[Part] = []
    claimed: set[str] = set()
    for part in params.parts:
        _check_patterns("parts.names", part.names, names)
        changes = part.model_dump(exclude={"names"}, exclude_none=True)
        merged = params.model_copy(update={**changes, "parts": ()})
        _check_patterns("parts.head", merged.head, names)
        members = {name for name in names if matches(name, part.names)} - claimed
        claimed |= members
        separate.append(Part(merged, optimizer(net, merged, members)))
    rest = set(names) - claimed
    return [Part(params, optimizer(net, params, rest)), *separate] if rest else separate


def optimizer(
    net: nn.Module, params: TrainParams, members: Collection[str] | None = None
) -> torch.optim.Optimizer:
    """Return the optimiser over the groups of `parameter_groups`."""
    groups = [dict(group) for group in parameter_groups(net, params, members)]
    if params.optimizer == "adamw":
        return torch.optim.AdamW(
            groups, params.lr, weight_decay=params.weight_decay, fused=_on_gpu(net)
        )
    return torch.optim.SGD(
        groups,
        params.lr,
        params.momentum,
        weight_decay=params.weight_decay,
        nesterov=params.nesterov,
    )


def _on_gpu(net: nn.Module) -> bool | None:
    """Return whether the fused kernel updates the weights: on a GPU.

    On a processor it would round the last bit of weights otherwise than the usual one (None).
    """
    return True if all(weight.is_cuda for weight in net.parameters()) else None


def parameter_groups(
    net: nn.Module, params: TrainParams, members: Collection[str] | None = None
) -> list[Group]:
    """Return the parameter groups of backbone and head.

    members: names of the parameters to group; None for all. Biases form groups of their own if they
    have another rate or do not decay, and so do weights that do not decay.
    """
    factors = {
        (False, False): 1.0,
        (False, True): params.bias_lr_scale,
        (True, False): params.head_lr_scale,
        (True, True): params.head_bias_lr_scale or params.head_lr_scale,
    }
    apart = (
        params.head_bias_lr_scale is not None or params.bias_lr_scale != 1 or not params.decay_bias
    )
    groups: dict[tuple[bool, bool, bool], Group] = {}
    for head, bias, still in itertools.product((False, True), repeat=3):
        groups[head, bias, still] = {"params": [], "factor": factors[head, bias]}
        if still or (bias and not params.decay_bias):
            groups[head, bias, still]["weight_decay"] = 0.0
    for name, parameter in net.named_parameters():
        is_member = members is None or name in members
        if is_member and parameter.requires_grad and not matches(name, params.frozen):
            bias, still = apart and matches(name, params.bias), matches(name, params.undecayed)
            groups[is_head(name, params), bias, still]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def is_head(name: str, params: TrainParams) -> bool:
    """Return whether the parameter called `name` belongs to the new layers."""
    if params.head:
        return matches(name, params.head)
    return not name.startswith("backbone.")


def freeze(net: nn.Module, params: TrainParams) -> None:
    """Freeze the weights in `params.frozen` and the BatchNorm statistics in `params.freeze_norm`.

    Raises:
        ConfigError: a pattern matches no name.
    """
    names = [name for name, _ in net.named_parameters()]
    _check_patterns("frozen", params.frozen, names)
    _check_patterns("head", params.head, names)
    _check_patterns("undecayed", params.undecayed, names)
    for name, parameter in net.named_parameters():
        if matches(name, params.frozen):
            parameter.requires_grad_(False)
    if isinstance(params.freeze_norm, tuple):
        _check_patterns(
            "freeze_norm", params.freeze_norm, [name for name, _ in net.named_modules()]
        )
        freeze_norm(net, params.freeze_norm)
    elif params.freeze_norm:
        freeze_norm(net)


def _check_patterns(key: str, patterns: Sequence[str], names: Sequence[str]) -> None:
    for pattern in patterns:
        if not any(matches(name, (pattern,)) for name in names):
            raise ConfigError(
                f"train.{key}: no name matches {pattern!r}. The names are {', '.join(names[:3])}, "
                f"... {', '.join(names[-3:])}."
            )
