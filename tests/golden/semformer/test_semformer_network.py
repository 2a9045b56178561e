"""SemFormer's network: tokens, mask logits, attention, maps, and the losses that CAAE judges."""

from typing import Any

import numpy as np
import pytest
import torch
from golden import FORWARD, Golden
from networks import CLASSES, batch, caae, gradients, labels, method, semformer, thin
from torch import Tensor, nn

from wsss.methods.semformer.caae import cosine
from wsss.methods.semformer.method import (
    complementation,
    content_mask,
    suppression,
    with_background,
)
from wsss.methods.semformer.network import SEMFORMER_LAYOUT, spread_out

LOSS = {"rtol": 1e-4}
TERMS = {  # the set's names of the losses, and ours
    "seg_sim": "similarity", "cls_fg": "foreground", "cls_bg": "background",
    "act_supp": "suppression", "act_cplt": "complementation",
}  # fmt: skip


@pytest.mark.slow
def test_the_network(golden: Golden) -> None:
    expected, cases = golden.arrays("semformer.npz"), golden.json("semformer.json")
    net, own = semformer(golden), method()
    for name, case in cases.items():
        images = batch(net, {**case, "image_seeds": [case["image_seed"]]})
        both = torch.cat([images, images.flip(3)])
        with torch.inference_mode():
            logits, attention = net.attended(
                both, own.params["semformer"].hyper_parameters.attention_layers
            )
            tokens, grid = net.tokens(both)
            maps = own.maps(net, both)
            golden.same(f"semformer {name} grid", grid, case["grid"])
            assert torch.allclose(net(both), logits, atol=1e-3)
        found = {
            "tokens": tokens, "logits": logits, "attention_sum": attention,
            "attention_norm": spread_out(attention), "cam": maps,
        }  # fmt: skip
        steps = golden.case("strides", "semformer", name)
        for part, values in found.items():
            kept = thin(values, steps.get(part, steps["maps"]))
            golden.close(f"semformer {name} {part}", kept, expected[f"{name}_{part}"], **FORWARD)


class Step:
    """One step of training on the pictures of the set, with the terms of its loss."""

    def __init__(self, golden: Golden) -> None:
        self.case = golden.json("semformer_train.json")
        side, self.seeds = self.case["image_size"], self.case["image_seeds"]
        self.method = method({"critic_px": self.case["ae_image_size"]})
        self.net, self.critic = semformer(golden), caae(golden).requires_grad_(False)
        self.net.train().dropout.eval()
        shape = {"height": side, "width": side, "image_seeds": self.seeds}
        boxes = self.case["crop_regions_xyxy"]
        content = torch.tensor([[y0, x0, y1, x1] for x0, y0, x1, y1 in boxes])
        images = batch(self.net, shape) * content_mask(content, side, side, torch.zeros(()))
        present = labels(self.case["labels_without_background"])
        self.batch: dict[str, Any] = {"image": images, "label": present, "content": content}

    def terms(self) -> dict[str, Tensor]:
        """Return the weighted terms of the loss."""
        nets: dict[str, nn.Module] = {"caae": self.critic, "semformer": self.net}
        return self.method.losses("semformer", nets, self.batch, 0)


@pytest.mark.slow
def test_a_step_of_training(golden: Golden) -> None:
    step = Step(golden)  # two large networks: made once for all that follows
    compare_masks(golden, step)
    compare_what_the_critic_finds(golden, step)
    compare_losses(golden, step)


def compare_masks(golden: Golden, step: Step) -> None:
    expected, net = golden.arrays("semformer_train.npz"), step.net
    logits, embedding = net.learn(step.batch["image"])
    masks, inside = step.method.masks(logits, step.batch)
    steps = golden.case("strides", "semformer_train")
    kept = thin(masks.detach(), steps["masks"])
    golden.close("training masks", kept, expected["masks"], **FORWARD)
    golden.same("where there is picture", inside[:, 0], expected["grad_masks"])
    small = thin(step.method.at_critic(step.batch["image"]), steps["ae_images"])
    golden.close("what CAAE sees", small, expected["ae_images"], **FORWARD)
    with torch.inference_mode():
        found = cosine(embedding, step.critic.class_semantics())
        golden.close("training similarities", found, expected["seg_sim"], **FORWARD)


def compare_losses(golden: Golden, step: Step) -> None:
    terms, losses, weights = step.terms(), step.case["losses"], step.case["weights"]
    settings = step.method.params["semformer"].hyper_parameters
    golden.same(
        "weights of the losses",
        [getattr(settings, TERMS[key]) for key in weights],
        list(weights.values()),
    )
    total = torch.stack(list(terms.values())).sum()
    for name, wanted in losses.items():
        loss = total if name == "total" else terms[TERMS[name]] / weights[name]
        golden.close(f"semformer {name}", loss.detach(), wanted["value"], **LOSS)
        kept = {k: v for k, v in wanted["grad_l2"].items() if v is not None}
        found = gradients(step.net, SEMFORMER_LAYOUT, loss, list(kept))
        golden.close(f"semformer {name} gradients", found, list(kept.values()), **LOSS)  # type: ignore[arg-type]


def compare_what_the_critic_finds(golden: Golden, step: Step) -> None:
    expected = golden.arrays("semformer_train.npz")
    present = with_background(step.batch["label"])
    image, own = present.nonzero(as_tuple=True)
    with torch.inference_mode():
        masks, _ = step.method.masks(step.net(step.batch["image"]), step.batch)
        pictures, chosen = step.method.at_critic(step.batch["image"])[image], masks[image, own]
        for name, kept in (("fg", chosen), ("bg", 1 - chosen)):
            embedding = step.critic.code(pictures * kept[:, None]).embedding
            found = cosine(embedding, step.critic.class_semantics())
            alone = torch.nn.functional.one_hot(own, CLASSES + 1)
            lists = {"own": found[alone > 0], "others": found[(present[image] - alone) > 0]}
            pull, push = ("own", "others") if name == "fg" else ("others", "own")
            golden.close(f"{name} pull", lists[pull], expected[f"{name}_pull"], **FORWARD)
            golden.close(f"{name} push", lists[push], expected[f"{name}_push"], **FORWARD)


def test_the_losses_of_masks_alone(golden: Golden) -> None:
    expected = golden.arrays("semformer_train.npz")
    case = golden.json("semformer_train.json")
    masks, inside = (torch.from_numpy(expected[key]) for key in ("fn_masks", "fn_grad_masks"))
    inside = inside.float()
    present = with_background(labels(case["labels_without_background"]))
    everywhere, nothing = torch.ones_like(inside), torch.zeros_like(present)
    nothing[:, 0] = 1
    found = {
        "act_supp": suppression(masks),
        "act_cplt_masked": complementation(masks * inside, present, inside),
        "act_cplt_unmasked": complementation(masks, present, everywhere),
        "act_cplt_single_class": complementation(masks, nothing, everywhere),
    }
    for name, value in case["functions"].items():
        golden.close(f"function {name}", found[name], value, **LOSS)


def test_pairs_of_an_image_and_a_class(golden: Golden) -> None:
    case = golden.json("misc.json")["label_info"]
    present = with_background(labels(case["labels_without_background"]))
    image, own = present.nonzero(as_tuple=True)
    golden.same("images of pairs", image, case["seen_indexes"])
    golden.same("classes of pairs", own, case["seen_classes"])
    others = present[image].scatter(1, own[:, None], 0.0)
    found = [row.nonzero()[:, 0].tolist() for row in others]
    assert found == case["push"]
    assert [[number] for number in own.tolist()] == case["pull"]


def test_where_there_is_picture(golden: Golden) -> None:
    case = golden.json("misc.json")["create_mask"]
    names = {key.rpartition("_")[0]: key for key in case}  # their sizes are in their names
    regions, floored = names["regions_xyxy"], names["floored"]
    crop, side = (int(key.rpartition("_")[2]) for key in (regions, floored))
    boxes = torch.tensor([[y0, x0, y1, x1] for x0, y0, x1, y1 in case[regions]])
    found = content_mask(boxes, side, crop, torch.zeros(()))
    golden.same("areas of picture", found.sum((1, 2, 3)), case["areas"])
    for row, (left, top, right, bottom) in zip(found[:, 0], case[floored], strict=True):
        assert row[top:bottom, left:right].all()


def test_maps_between_0_and_1(golden: Golden) -> None:
    expected = golden.arrays("misc.npz")
    flat = torch.from_numpy(expected["minmax_in"])
    found = spread_out(flat[:, :, None])[:, :, 0]
    golden.close("min-max maps", found, expected["minmax_out"], rtol=1e-5, absolute=1e-6)


def test_norms_have_the_published_constant() -> None:
    net = method().build("semformer")
    found = {layer.eps for layer in net.modules() if isinstance(layer, nn.LayerNorm)}
    assert found == {1e-6}
    weight, bias = net.class_head.weight, net.class_head.bias
    limits = [float(np.sqrt(1 / (weight.shape[1] * weight.shape[2]))), weight.shape[1] ** -0.5]
    assert weight.abs().max() <= limits[0] < 1.1 * weight.abs().max()
    assert bias.abs().max() <= limits[1] < 1.1 * bias.abs().max()
