"""The losses of PC and SP, their gradients, a step of the optimiser; sub-prototypes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from conformers import (
    CLASSES,
    EXACT,
    GRADIENT,
    LOSS,
    gradient_norms,
    labels,
    method,
    total,
    trainable,
)
from golden import Golden
from pictures import normalised
from torch import nn

from wsss.methods.base import Computed
from wsss.methods.pcsformer.image_clusters import class_major, cluster_classes
from wsss.methods.pcsformer.method import in_order, views
from wsss.methods.pcsformer.network import CONFORMER_LAYOUT
from wsss.storage import checkpoint
from wsss.training.optimizer import optimizer

MODES = ("bn_train", "bn_eval")


class Step:
    """One step of training a stage on the pictures of the set, without skipped branches."""

    def __init__(self, golden: Golden, stage: str, mode: str) -> None:
        self.case = golden.json(f"{stage}_losses.json")
        second = self.case.get("view_sizes", [0, 0])[1]
        self.stage, self.method = stage, method({stage: {"second_view_px": second}})
        self.net = trainable(golden, stage).train(mode == "bn_train")
        side = self.case.get("size") or self.case["view_sizes"][0]
        pictures = [(side, side, seed) for seed in self.case["images_seeds"]]
        self.batch: dict[str, Any] = {
            "image": normalised(self.net, pictures),
            "label": labels(self.case["labels"], CLASSES),
            "number": torch.arange(len(pictures)),
        }

    def terms(self) -> dict[str, torch.Tensor]:
        """Return the weighted terms of the loss."""
        nets: dict[str, nn.Module] = {self.stage: self.net}
        if "sub_labels" in self.case:
            nets["subprototypes"] = derived(self.case["sub_labels"])
        return self.method.losses(self.stage, nets, self.batch, 0)


def derived(sub_labels: list[list[int]]) -> Computed:
    """Return the clusters of images from the numbers of their sub-labels."""
    clusters = torch.full((len(sub_labels), CLASSES), -1, dtype=torch.int16)
    count = method().params["subprototypes"].hyper_parameters.clusters
    for row, numbers in zip(clusters, sub_labels, strict=True):
        for number in numbers:
            row[number // count] = number % count
    return Computed({"clusters": clusters})


def compare_gradients(golden: Golden, case: str, step: Step, expected: Mapping[str, Any]) -> None:
    loss = total(step.terms())
    golden.close(f"{case} loss", loss.detach(), expected["loss"], **LOSS)
    names = list(expected["grad_l2"])
    found = gradient_norms(step.net, loss, [*names], CONFORMER_LAYOUT)
    golden.close(f"{case} gradients", found, list(expected["grad_l2"].values()), **GRADIENT)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_the_loss_of_pc(golden: Golden, mode: str) -> None:
    step = Step(golden, "pc", mode)
    expected = step.case[mode]
    before = {key: value.clone() for key, value in step.net.state_dict().items()}
    terms = step.terms()
    parts = [2 * term.item() for term in terms.values()]
    golden.close(f"pc {mode} terms", parts, [expected["loss1"], expected["loss2"]], **LOSS)
    after = step.net.state_dict()
    for name, wanted in expected.get("running_mean_l2_after", {}).items():
        golden.close(f"pc {mode} {name}", after[ours_of(name)].norm(), wanted, **LOSS)
    step.net.load_state_dict(before)
    compare_gradients(golden, f"pc {mode}", step, expected)
    compare_logits(golden, step, expected, mode)


def compare_logits(golden: Golden, step: Step, expected: Mapping[str, Any], mode: str) -> None:
    with torch.no_grad():
        second = step.case["view_sizes"][1]
        for number, images in enumerate(views(step.batch["image"], second).values(), 1):
            conv, token = step.net.branches(step.net.encode(images))
            wanted = expected[f"logits_conv{number}"], expected[f"logits_trans{number}"]
            golden.close(f"pc {mode} CNN, view {number}", conv, wanted[0], **EXACT)
            golden.close(f"pc {mode} transformer, view {number}", token, wanted[1], **EXACT)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_the_loss_of_sp(golden: Golden, mode: str) -> None:
    step = Step(golden, "sp", mode)
    expected = step.case[mode]
    weight = step.method.params["sp"].hyper_parameters.cluster_weight
    assert weight == step.case["sub_loss_weight"]
    before = {key: value.clone() for key, value in step.net.state_dict().items()}
    terms = step.terms()
    golden.close(f"sp {mode} labels", terms["labels"].detach(), expected["loss20"], **LOSS)
    found = terms["labels_clusters"].detach() / weight
    golden.close(f"sp {mode} sub-labels", found, expected["loss200"], **LOSS)
    step.net.load_state_dict(before)
    compare_gradients(golden, f"sp {mode}", step, expected)


@pytest.mark.slow
def test_a_step_of_the_optimiser(golden: Golden) -> None:
    step = Step(golden, "pc", "bn_train")
    wanted = step.case["bn_train"]["adamw_step_delta_l2"]
    before = {name: weight.detach().clone() for name, weight in step.net.named_parameters()}
    rule = optimizer(step.net, step.method.params["pc"].train)
    total(step.terms()).backward()
    rule.step()
    own = dict(step.net.named_parameters())
    ours = [ours_of(name) for name in wanted]
    moved = [(own[name].detach() - before[name]).double().norm() for name in ours]
    golden.close("pc step of AdamW", torch.stack(moved), list(wanted.values()), **GRADIENT)


def ours_of(name: str) -> str:
    """Return our name of a published weight."""
    return next(iter(checkpoint.rename({name: torch.zeros(1)}, CONFORMER_LAYOUT.table)))


def test_sub_prototypes(golden: Golden) -> None:
    expected = golden.arrays("subprototypes.npz")
    settings = method().params["subprototypes"].hyper_parameters
    present, count = expected["labels20"], settings.clusters
    order = class_major(present)
    for kind in ("separated", "unstructured"):
        features = expected[f"{kind}_features"]
        clusters = cluster_classes(features, present, count, settings.seed, settings.starts)
        golden.same(f"clusters, {kind}", clusters, expected[f"{kind}_cluster_of_image_in_class"])
        golden.same(f"order by class, {kind}", order, expected[f"{kind}_file_order_list_index"])
        for name, key in (
            ("aligned", "label200_aligned"),
            ("upstream", "label200_rows_in_file_order"),
        ):
            found = Computed({"clusters": torch.from_numpy(in_order(clusters, present, name))})
            batch = {"number": torch.arange(len(present)), "label": torch.zeros(1)}
            packed = np.packbits(method().sub_labels(found, batch).numpy().astype(bool), axis=1)
            golden.same(f"sub-labels {name}, {kind}", packed, expected[f"{kind}_{key}_packed"])
