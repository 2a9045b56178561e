"""Losses of ToCo, SeCo and CPDGL and the bilateral filter, with gradients."""

from collections.abc import Callable
from typing import Any

import fill
import numpy as np
import torch
import torch.nn.functional as F
from golden import FORWARD, Golden
from scenes import boxes, drawn, given, rows, values
from torch import Tensor

from wsss.data.resize import in_boxes
from wsss.methods.single_stage import contrast, dense_energy, online_labels
from wsss.refine.permutohedral import bilateral

GRADIENT = {"rtol": 1e-3, "absolute": 1e-6}
VALUE = {"rtol": 1e-4, "absolute": 1e-6}


def value_and_gradient(
    golden: Golden, case: str, expected: Any, loss: Callable[[Tensor], Tensor], point: Tensor
) -> None:
    point = point.clone().requires_grad_()
    value = loss(point)
    golden.close(case, value.item(), expected["value"], **VALUE)
    if "grad_norm" in expected:
        (gradient,) = torch.autograd.grad(value, point)
        golden.close(f"{case}, gradient", gradient.norm(), expected["grad_norm"], **GRADIENT)


def test_label_losses(golden: Golden) -> None:
    expected = values(golden, "losses")
    truth = torch.from_numpy(golden.arrays("losses_inputs.npz")["labels"])
    for name, stem, scale in (("cls", "logits", 20), ("aux", "logits_aux", 10)):
        scores = drawn(golden, stem, truth.shape, scale)
        found = F.multilabel_soft_margin_loss(scores, truth)
        golden.close(f"loss {name}", found, expected[name], **VALUE)


def test_pair_loss(golden: Golden) -> None:
    expected, case = values(golden), golden.case("ptc")
    shape = case["shape"]
    features = drawn(golden, "fmap", shape, 4) + drawn(
        golden, "fmap_common", (1, shape[1], 1, 1), 3
    )
    grid = torch.tensor(case["grid"])[None].expand(shape[0], -1, -1)
    pairs = online_labels.pairs(grid)
    wanted = expected["losses"]["ptc"]
    golden.same("pairs alike", (pairs == 1).sum(), wanted["n_pos"])
    golden.same("pairs unlike", (pairs == 0).sum(), wanted["n_neg"])
    loss = lambda point: contrast.pair_loss(point, pairs)  # noqa: E731
    value_and_gradient(golden, "loss ptc", wanted, loss, features)
    toco = expected["toco_losses"]["ptc"]
    golden.close("toco loss ptc", loss(features), toco, **VALUE)


def test_decoder_loss(golden: Golden) -> None:
    expected = values(golden)
    truth = torch.from_numpy(golden.arrays("losses_inputs.npz")["seg_gt"])
    batch, classes = golden.arrays("losses_inputs.npz")["labels"].shape
    logits = drawn(golden, "seg", (batch, classes + 1, *truth.shape[1:]), 8)
    wanted = expected["losses"]
    absent = torch.where(truth > 0, 255, truth)
    cases = {"seg": truth, "seg_no_foreground": absent, "seg_all_ignored": truth * 0 + 255}
    for name, target in cases.items():
        loss = lambda point, target=target: dense_energy.balanced(point, target)  # noqa: E731
        value_and_gradient(golden, f"loss {name}", wanted[name], loss, logits)
    toco = expected["toco_losses"]["seg"]
    loss = lambda point: dense_energy.balanced(point, truth)  # noqa: E731
    value_and_gradient(golden, "toco loss seg", toco, loss, logits)


class Contrast:
    """Anchors, candidates and prototypes around class centres."""

    def __init__(self, golden: Golden) -> None:
        self.golden, self.inputs = golden, golden.arrays("losses_inputs.npz")
        self.tags = torch.from_numpy(self.inputs["flags"])
        self.others = torch.cat([self.tags, torch.from_numpy(self.inputs["queue_flags"])])
        self.width = given(golden, "memory", "width")
        shape = (given(golden, "losses", "centres"), self.width)
        self.centres = rows(drawn(golden, "centres", shape, 27.7))
        self.anchors = self.around("anchor", self.tags)
        keys = self.around("key", self.tags)
        queue = self.around("queue_feat", self.others[len(self.tags) :])
        self.candidates = torch.cat([keys, queue])
        noise = drawn(golden, "proto_noise", (len(self.centres) - 2, self.width), 27.7)
        self.prototypes = rows(self.centres[2:] + 0.04 * noise)

    def around(self, name: str, tags: Tensor) -> Tensor:
        """Return features (n, D) of tags (n,)."""
        noise = drawn(self.golden, name, (len(tags), self.width), 27.7)
        centre = self.centres[(tags.long() + 1).clamp(max=len(self.centres) - 1)]
        return rows(centre + 0.04 * noise)

    def local(self, form: str, anchors: Tensor) -> Tensor:
        """Return the local loss of anchors."""
        heat = given(self.golden, "losses", "temperature_local")
        return contrast.local_loss(anchors, self.candidates, self.tags, self.others, form, heat)[0]

    def global_(self, form: str, anchors: Tensor) -> Tensor:
        """Return the prototype loss of anchors."""
        heat = given(self.golden, "losses", "temperature_prototype")
        return contrast.prototype_loss(anchors, self.prototypes, self.tags, form, heat)


def test_contrastive_losses(golden: Golden) -> None:
    found, case = values(golden), Contrast(golden)
    losses, ours = found["losses"], found["repaired_losses_not_upstream"]
    for form, wanted in (
        ("parent", losses["lcl_parent"]),
        ("head", losses["lcl_head"]),
        ("supcon", ours["lcl_supcon"]),
    ):
        loss = lambda point, form=form: case.local(form, point)  # noqa: E731
        value_and_gradient(golden, f"loss lcl {form}", wanted, loss, case.anchors)
    for form, wanted in (
        ("parent", losses["pcl_parent"]),
        ("head", losses["pcl_head"]),
        ("ce_margin", ours["pcl_ce_margin"]),
    ):
        loss = lambda point, form=form: case.global_(form, point)  # noqa: E731
        value_and_gradient(golden, f"loss pcl {form}", wanted, loss, case.anchors)
    case.tags = torch.zeros_like(case.tags)
    for form in ("head", "parent"):
        found = case.global_(form, case.anchors)
        golden.close(f"loss pcl {form}, no class", found, losses[f"pcl_{form}_no_valid"], **VALUE)


def test_tags_that_are_not_believed(golden: Golden) -> None:
    losses = values(golden, "losses")
    count, width = given(golden, "losses", "noise_queue"), given(golden, "memory", "width")
    anchors = rows(drawn(golden, "noise_anchor", (4, width), 27.7))
    noise = drawn(golden, "noise_q", (count, width), 27.7)
    queue = rows(0.9 * anchors[2] - anchors[0] + 0.02 * noise)
    queue[0] = anchors[0]
    queue[-3:] = rows(anchors[2] + 0.02 * drawn(golden, "noise_q2", (3, width), 27.7))
    tags = torch.tensor([1.0, 1.0, 2.0, -1.0])
    others = torch.cat([tags, torch.ones(count - 3), torch.full((3,), 2.0)])
    heat = given(golden, "losses", "temperature_local")
    for form in ("head", "parent"):
        candidates = torch.cat([anchors, queue])
        found, revised = contrast.local_loss(anchors, candidates, tags, others, form, heat)
        wanted = losses["lcl_noise_filter"][form]
        golden.close(f"loss lcl {form}, noisy", found, wanted["value"], **VALUE)
        golden.same(f"tags lcl {form}, noisy", revised, wanted["flags"])


def test_local_loss_with_the_published_gather_is_nothing(golden: Golden) -> None:
    losses, case = values(golden, "losses"), Contrast(golden)
    count = len(case.tags)
    case.candidates = torch.ones_like(case.candidates)
    case.others = torch.cat([case.tags, torch.ones(len(case.others) - count)])
    for form in ("head", "parent"):
        wanted = losses[f"lcl_published_gather_{form}"]
        golden.close(f"loss lcl {form}, gather of ones", case.local(form, case.anchors), wanted,
                     **VALUE)  # fmt: skip


def test_token_contrast(golden: Golden) -> None:
    losses = values(golden, "toco_losses")
    batch, extra = golden.case("b"), given(golden, "ctc")
    views = 2 + extra["locals"]
    student = drawn(golden, "student", (views * batch, extra["codes"]), 5)
    teacher = drawn(golden, "teacher", (2 * batch, extra["codes"]), 5)
    flags = torch.ones(batch, views)
    for number in range(batch):
        flags[number, 2 + number :: 3] = 0
    for heat in (0.5, 1.0):
        loss = lambda point, heat=heat: contrast.token_contrast(point, teacher, flags, heat)  # noqa: E731
        value_and_gradient(golden, f"loss ctc {heat}", losses[f"ctc_temp{heat}"], loss, student)
    none, all_ = torch.ones_like(flags), torch.zeros_like(flags)
    all_[:, :2] = 1
    for name, own in (("ctc_no_negative", none), ("ctc_all_local_negative", all_)):
        found = contrast.token_contrast(student, teacher, own, 0.5)
        golden.close(f"loss {name}", found, losses[name], **VALUE)


def test_bilateral_filter(golden: Golden) -> None:
    expected = golden.arrays("bilateral.npz")
    for name, case in given(golden, "bilateral").items():
        picture = torch.from_numpy(fill.image(*case["picture"]).transpose(2, 0, 1).copy())
        shape = (1, case["classes"], *case["picture"][:2])
        values = drawn(golden, case["name"], shape).abs()
        found = bilateral(picture, values[0], case["colour"], case["position"])
        golden.close(f"bilateral filter {name}", found[None], expected[name], **FORWARD)


def test_dense_energy(golden: Golden) -> None:
    wanted, case = values(golden, "toco_losses", "reg"), given(golden, "reg")
    height, width = case["size"]
    batch = golden.case("b")
    inputs = golden.arrays("losses_inputs.npz")
    small, classes = inputs["seg_gt"].shape[1:], inputs["labels"].shape[1] + 1
    logits = drawn(golden, "seg", (batch, classes, *small), 8)
    pictures = [fill.image(height, width, case["seed"] + i) for i in range(batch)]
    images = torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2)).float()
    truth = torch.zeros(batch, height, width, dtype=torch.long)
    thing = case["object"]
    truth[:, : case["silent_rows"]] = 255
    truth[:, slice(*thing["rows"]), slice(*thing["columns"])] = thing["label"]
    truth[0, slice(*case["silent_rows_of_the_first"])] = 255
    inside = in_boxes(boxes(case["boxes"])[:batch], (height, width))

    def loss(point: Tensor) -> Tensor:
        large = F.interpolate(point, (height, width), mode="bilinear", align_corners=False)
        return dense_energy.dense_energy(images, large, truth, inside)

    point = logits.clone().requires_grad_()
    value = loss(point)
    (gradient,) = torch.autograd.grad(value, point)
    golden.close("loss reg", value, wanted["value"], rtol=1e-3)
    golden.close("loss reg, gradient", gradient.norm(), wanted["grad_norm"], rtol=1e-3)
