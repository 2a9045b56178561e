"""Whole training steps of CPDGL and ToCo: every term of the loss, gradients, and what moved."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import fill
import numpy as np
import pytest
import torch
from family import adopted
from family import method as made
from golden import Golden
from scenes import boxes, given, normalised, one_hot, values
from torch import Tensor

from wsss.methods.cpdgl.method import CPDGL, tag_rule
from wsss.methods.single_stage import crops, online_labels
from wsss.methods.single_stage.base import Schedule, SingleStage, Views
from wsss.methods.single_stage.network import QUEUE_LAYOUT, TOCO_LAYOUT, QueueNet
from wsss.storage import checkpoint
from wsss.training.optimizer import rate

STEP = {"rtol": 1e-3, "absolute": 1e-6}
NAMES = {
    "cls": "labels",
    "aux": "auxiliary",
    "ptc": "pairs",
    "seg": "decoder",
    "reg": "dense_energy",
}
FORMS = {"lcl": "local", "pcl": "prototype"}


def views(golden: Golden) -> dict[str, Any]:
    """Return the batch of the step."""
    case = golden.case("step")
    pictures = {
        key: [fill.image(case["h"], case["w"], image[seed]) for image in case["images"]]
        for key, seed in (("image", "seed"), ("whole", "view_seed"), ("local", "key_seed"))
    }
    batch: dict[str, Any] = {key: normalised(*own) for key, own in pictures.items()}
    batch["label"] = one_hot(case)
    batch["content"] = boxes([image["box"] for image in case["images"]])
    return batch


def with_settings(method: SingleStage, **settings: Any) -> SingleStage:
    """Return the method with other settings."""
    own = method.params["classifier"]
    changed = own.hyper_parameters.model_copy(update=settings)
    merged = own.model_copy(update={"hyper_parameters": changed})
    return type(method)({"classifier": merged}, method.classes)


def begin(net: Any) -> dict[str, Tensor]:
    """Bring the memories to the state before the step; return the whole state."""
    net.queue.copy_(torch.nn.functional.normalize(net.queue, dim=0))
    net.prototypes.copy_(torch.nn.functional.normalize(net.prototypes, dim=1))
    net.queue_next.zero_()
    net.queue_tags.zero_()
    for start, step, tag in ((0, 3, 8), (1, 3, 3), (2, 9, -1)):
        net.queue_tags[start::step] = tag
    return copy.deepcopy(net.state_dict())


def compare_gradients(
    golden: Golden, case: str, net: Any, total: Tensor, wanted: Mapping[str, float | None]
) -> None:
    """Compare the norms of gradients by the published names."""
    own = dict(net.named_parameters())
    table = golden_layout(net)
    ours = {name: next(iter(checkpoint.rename({name: torch.zeros(1)}, table))) for name in wanted}
    gradients = torch.autograd.grad(
        total, [own[name] for name in ours.values()], retain_graph=True, allow_unused=True
    )
    found = {
        name: 0.0 if gradient is None else gradient.norm().item()
        for name, gradient in zip(wanted, gradients, strict=True)
    }
    for name, value in wanted.items():
        golden.close(f"{case}, gradient of {name}", found[name], value or 0.0, **STEP)


def golden_layout(net: Any) -> Any:
    """Return the renaming of published names for a network."""
    return (QUEUE_LAYOUT if isinstance(net, QueueNet) else TOCO_LAYOUT).table


def unweighed(method: SingleStage, net: Any, batch: Any, step: int) -> dict[str, Tensor]:
    """Return the terms of a step without their weights."""
    weights = method.weights(method.hyper_parameters, step)
    found = method.losses("classifier", {"classifier": net}, batch, step)
    return {name: term / weights.get(name, 1.0) for name, term in found.items()}


def compare_labels(golden: Golden, case: str, method: SingleStage, net: Any, batch: Any, step: int,
                   wanted: Mapping[str, Any]) -> None:  # fmt: skip
    """Compare how often each label occurs in what the CAMs become."""
    settings = method.hyper_parameters
    now, own = Schedule(step, settings, method.weights(settings, step)), Views.of(batch)
    guide = method.guide(net, own.image, settings.scales)
    with torch.no_grad():
        seen = net.encode(own.image)
    found = {
        "refined_counts": method.refined(net, own, guide, now),
        "aff_counts": method.pairs(guide, seen, own, now),
    }
    if isinstance(method, CPDGL):
        cams = now.choose(guide, settings.last_layer_crops_from)
        valid = online_labels.valid_cam(cams, own.label)
        sure = online_labels.three_way(valid, now.thresholds, online_labels.UNSURE)
        found["roi_counts"] = online_labels.boxed(sure, own.box)
        tags = crops.tagged_crops(found["roi_counts"], tag_rule(settings))[1]
        golden.same(f"{case}, tags", tags, wanted["flags"])
    else:
        valid = online_labels.valid_cam(guide.auxiliary, own.label)
        found["roi_counts"] = online_labels.regions(valid, now.thresholds)
    for name, labelled in found.items():
        kinds, counts = labelled.unique(return_counts=True)
        counted = dict(zip(map(str, kinds.tolist()), counts.tolist(), strict=True))
        assert counted.keys() == wanted[name].keys()
        for kind, count in wanted[name].items():
            golden.close(f"{case}, {name} of {kind}", counted[kind], count, absolute=2)


def look_once(method: SingleStage, net: Any, batch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CAMs, which are the same in all cases, be made once."""
    guide = method.guide(net, batch["image"], method.hyper_parameters.scales)
    monkeypatch.setattr(SingleStage, "guide", lambda *_: guide)


@pytest.mark.slow
def test_cpdgl_steps(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    cases, batch = values(golden, "step"), views(golden)
    base, net = adopted(golden, "cpdgl")
    look_once(base, net, batch, monkeypatch)
    extra, before = given(golden, "step"), begin(net)
    kept, plain = [], CPDGL.terms
    note = lambda self, *inputs: kept.append(inputs) or plain(self, *inputs)  # noqa: E731
    monkeypatch.setattr(CPDGL, "terms", note)
    for case, wanted in cases.items():
        kind, _, number = case.partition("_")
        step = int(number)
        gather = "ones" if kind == "published" else "real"
        settings = {"crop_px": extra["crop"], "crops": extra["crops"], "gather": gather}
        method = with_settings(base, **settings)
        weights = method.weights(method.hyper_parameters, step)
        net.load_state_dict(before)
        terms, given_terms = unweighed(method, net, batch, step), kept[-1]
        totals = {}
        for form in ("parent", "head"):
            if form == "head":  # the other formulas, in the same graph
                *inputs, now = given_terms
                forms = {"local_form": form, "prototype_form": form}
                own = now.hyper_parameters.model_copy(update=forms)
                terms |= CPDGL.terms(method, *inputs, replace(now, hyper_parameters=own))  # type: ignore[arg-type]
            for name in ("lcl", "pcl"):
                value = terms[FORMS[name]].item()
                golden.close(f"cpdgl step {case}, {name} {form}", value,
                             wanted["values"][f"{name}_{form}"], **STEP)  # fmt: skip
            parts = [term * weights.get(name, 1.0) for name, term in terms.items()]
            totals[form] = torch.stack(parts).sum()
            golden.close(f"cpdgl step {case}, total {form}", totals[form],
                         wanted[f"total_{form}"], **STEP)  # fmt: skip
            compare_gradients(golden, f"cpdgl step {case}, {form}", net, totals[form],
                              wanted[f"grad_norm_{form}"])  # fmt: skip
        for theirs, ours in NAMES.items():
            if theirs in wanted["values"]:
                golden.close(f"cpdgl step {case}, {theirs}", terms[ours],
                             wanted["values"][theirs], **STEP)  # fmt: skip
        _moved(golden, f"cpdgl step {case}", net, wanted)
        net.load_state_dict(before)
        compare_labels(golden, f"cpdgl step {case}", method, net, batch, step, wanted)


def _moved(golden: Golden, case: str, net: Any, wanted: Mapping[str, Any]) -> None:
    """Compare prototypes, queue and teachers after a step."""
    count = len(wanted["queue_label_head"])
    weights = torch.arange(1, len(net.prototypes) + 1)
    found = (weights * net.prototypes.sum(1)).sum()
    golden.close(f"{case}, prototypes", found, wanted["proto_checksum"], **STEP)
    golden.close(f"{case}, prototypes' norm", net.prototypes.norm(), wanted["proto_norm"], **STEP)
    found = (torch.arange(count) * net.queue[:count].sum(1)).sum()
    golden.close(f"{case}, keys", found, wanted["key_checksum"], **STEP)
    golden.same(f"{case}, keys' tags", net.queue_tags[:count, 0], wanted["queue_label_head"])
    golden.same(f"{case}, next key", net.queue_next[0], wanted["queue_ptr"])
    moved = dict(net.named_parameters())
    for name, norm in wanted["encoder_k_after"].items():
        ours = next(iter(checkpoint.rename({name: torch.zeros(1)}, golden_layout(net))))
        golden.close(f"{case}, {name}", moved[ours].norm(), norm, **STEP)


@pytest.mark.slow
def test_toco_step(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, batch = values(golden, "toco_step"), views(golden)
    base, net = adopted(golden, "toco")
    look_once(base, net, batch, monkeypatch)
    extra = given(golden, "step")
    first, last = extra["toco_no"]
    plain = crops.flagged_crops

    def flagged(regions: Tensor, rule: Any) -> tuple[Tensor, Tensor]:
        corners, flags = plain(regions, rule)
        flags[:, first:last] = 0
        return corners, flags

    monkeypatch.setattr(crops, "flagged_crops", flagged)
    method = with_settings(base, crop_px=extra["crop"], crops=extra["toco_crops"])
    settings = method.hyper_parameters
    before = copy.deepcopy(net.state_dict())
    for kind, step in zip(("warm", "full"), extra["toco_n"], strict=True):
        net.load_state_dict(before)
        torch.manual_seed(golden.case("toco_torch_seed"))
        weights = method.weights(settings, step)
        terms = method.losses("classifier", {"classifier": net}, batch, step)
        for theirs, ours in {**NAMES, "ctc": "tokens"}.items():
            if ours in terms:
                value = terms[ours] / weights.get(ours, 1.0)
                golden.close(f"toco step {kind}, {theirs}", value, wanted["values"][theirs], **STEP)
        total = torch.stack(list(terms.values())).sum()
        golden.close(f"toco step {kind}, total", total, wanted[f"total_{kind}"], **STEP)
        compare_gradients(golden, f"toco step {kind}", net, total, wanted[f"grad_norm_{kind}"])
    moved = dict(net.named_parameters())
    for name, norm in wanted["teacher_after"].items():
        ours = next(iter(checkpoint.rename({name: torch.zeros(1)}, golden_layout(net))))
        golden.close(f"toco step, {name}", moved[ours].norm(), norm, **STEP)
    net.load_state_dict(before)
    compare_labels(golden, "toco step", method, net, batch, extra["toco_n"][-1], wanted)


def test_learning_rates(golden: Golden) -> None:
    expected = values(golden, "misc", "lr_voc")
    params = made("cpdgl", 1).params["classifier"].train
    for step, wanted in expected.items():
        factor = rate(params, int(step), params.steps or 0)
        found = [
            params.lr * factor * group
            for group in (1, 1, params.head_lr_scale, params.head_lr_scale)
        ]
        golden.close(f"learning rate, step {step}", np.array(found), wanted, rtol=1e-6)
