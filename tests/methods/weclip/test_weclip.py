"""WeCLIP: what is frozen, its schedule and its labels; resumption, and the way by commands."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from made_frozen import CLASSES, PRESENT, items, losses
from torch import Tensor

from wsss.data.labelmap import IGNORE
from wsss.machine.runtime import Runtime
from wsss.methods.base import load_method
from wsss.methods.frozen.labels import (
    affinity,
    affinity_loss,
    label_maps,
    window,
    windowed_pairs,
)
from wsss.methods.frozen.network import FrozenNet
from wsss.methods.single_stage.base import Views
from wsss.methods.weclip.method import WeClip
from wsss.settings import Params
from wsss.settings.resolve import resolve_settings

CPU = Runtime(torch.device("cpu"), torch.float32)


def build(protocol: str = "common", **changes: Any) -> tuple[WeClip, FrozenNet]:
    """Return the method with changed hyper-parameters, and its network at toy size."""
    settings = resolve_settings(Params(), "shapes", "weclip", protocol)
    network = settings.networks["classifier"]
    changed = network.hyper_parameters.model_copy(update=changes)
    params = network.model_copy(update={"hyper_parameters": changed, "backbone": "clip_toy"})
    method = load_method("weclip")({"classifier": params}, CLASSES)
    assert isinstance(method, WeClip)
    torch.manual_seed(0)
    return method, method.build("classifier")


def test_only_the_decoder_learns() -> None:
    method, net = build()
    torch.stack(list(losses(method, net, 0, items()).values())).sum().backward()
    learned = {name.partition(".")[0] for name, p in net.named_parameters() if p.grad is not None}
    assert learned == {"fuse", "decoder"}
    pairs = losses(method, net, 0, items())["pairs"]
    net.zero_grad()
    pairs.backward()  # reaches the fused features alone
    assert net.fuse.merge.weight.grad is not None
    assert net.decoder.predict.weight.grad is None


@pytest.mark.parametrize("first", [3, 9144])
def test_selection_and_affinity_begin_at_a_step(
    first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, net = build("published") if first == 9144 else build(select_from=3)
    assert method.hyper_parameters.select_from == first
    weighed: list[bool] = []
    attention = method.attention

    def recorded(*arguments: Any) -> Tensor:
        weighed.append(arguments[3] is not None)
        return attention(*arguments)

    monkeypatch.setattr(method, "attention", recorded)
    for step in (first - 1, first):
        losses(method, net, step, items())
    assert weighed == [False, True]
    method.cam_of(net, items()["image"], PRESENT)
    assert weighed[-1]  # always outside of training


def test_attention_before_and_after_the_selection_begins() -> None:
    method, net = build()
    tokens = method.encode(net, items()["image"])
    cam = method.explained(net, tokens, PRESENT)
    blocks = net.patch_attention(tokens, cam.attention)
    assert blocks.shape == (2, 3, 48, 48)
    assert torch.allclose(method.attention(net, tokens, cam, None), blocks.mean(1))
    half = torch.full((2, 48, 48), 0.5)
    weighed = method.attention(net, tokens, cam, half)
    assert not torch.allclose(weighed, blocks.mean(1) / 2)  # some block is left out


@pytest.mark.parametrize("step", [0, 1000])
def test_images_without_a_class_are_background(step: int) -> None:
    method, net = build(dropout=0.0)
    batch = items(torch.zeros(2, CLASSES))
    terms = losses(method, net, step, batch)
    logits = F.interpolate(method.decode(net, batch["image"]), (48, 64), mode="bilinear")
    mean = F.cross_entropy(logits, torch.zeros(2, 48, 64, dtype=torch.long))
    assert terms["decoder"].item() == pytest.approx(mean.item() / 2, rel=1e-4)
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad.isfinite().all() for p in net.decoder.parameters() if p.grad is not None)


@pytest.mark.parametrize("padded", [False, True])
def test_labels_name_present_classes_and_leave_padding_out(padded: bool) -> None:
    method, net = build(label_padding=padded)
    content = torch.tensor([[0, 0, 48, 64], [8, 0, 40, 64]])
    views = Views.of({**items(), "content": content})
    labels = method.labels(net, method.encode(net, views.image), views, torch.empty(0), 0)
    assert set(labels[0].unique().tolist()) <= {0, 1, 3, 4}
    assert set(labels[1].unique().tolist()) <= {0, 4, IGNORE}
    assert bool((labels[1, :8] == IGNORE).all()) != padded
    assert bool((labels == IGNORE).any()) != padded


def test_background_is_what_the_best_class_lacks_to_1() -> None:
    images, maps = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    maps[0, 0], maps[0, 1, :, :4], maps[0, 2] = 0.45, 0.6, 1.0
    labels = label_maps(images, maps, torch.tensor([[1.0, 1, 0]]), 1, 1)
    assert torch.equal(labels[0, :, 0], torch.full((8,), 2))
    assert torch.equal(labels[0, :, 7], torch.zeros(8, dtype=torch.long))


def test_pairs_lie_in_a_window_and_a_cell_is_paired_with_itself() -> None:
    near = window((20, 20), 8)
    assert near[0].sum() == 81
    assert near[10 * 20 + 10].sum() == 289
    labels = torch.zeros(1, 16, 48, dtype=torch.long)
    labels[0, 0, 16], labels[0, 0, 32:] = 2, IGNORE  # the upper left pixels of cells 1 and 2
    pairs = windowed_pairs(labels, (1, 3), 1)
    assert pairs[0].tolist() == [[1, 0, 255], [0, 1, 255], [255, 255, 255]]
    p = torch.full((1, 3, 3), 0.75)
    assert affinity_loss(p, pairs).item() == pytest.approx(0.5 * (2 * 0.25 / 3 + 2 * 0.75 / 3))
    assert torch.equal(affinity(torch.zeros(1, 2, 1, 3)), torch.full((1, 3, 3), 0.5))
