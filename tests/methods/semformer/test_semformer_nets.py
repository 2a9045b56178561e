"""CAAE and SemFormer's network at toy size: what learns from what, and what maps cover."""

from dataclasses import replace

import pytest
import torch

from wsss.methods.semformer.caae import CAAENet, cosine
from wsss.methods.semformer.network import ClassHead, SemFormerNet, spread_out
from wsss.nets.build import load_backbone
from wsss.nets.vit import SHAPES, ViT, resize_table

SHAPE = SHAPES["vit_toy"]
PATCH, CLASSES, WIDTH = SHAPE.patch, 4, 16


@pytest.fixture
def caae() -> CAAENet:
    torch.manual_seed(0)
    return CAAENet(SHAPE, CLASSES, WIDTH, 2).eval()


@pytest.fixture
def net() -> SemFormerNet:
    torch.manual_seed(0)
    return SemFormerNet(SHAPE, CLASSES, WIDTH, 6, 0.5).eval()


@torch.inference_mode()
def test_pixels_beyond_whole_patches_are_not_seen_and_drawn_as_0(caae: CAAENet) -> None:
    images = torch.randn(2, 3, 45, 51)
    coded = caae.code(images)
    assert coded.grid == (5, 6)
    assert torch.equal(coded.embedding, caae.code(images[:, :, :40, :48]).embedding)
    drawn = caae.reconstruct(coded, (45, 51))
    assert drawn.shape == images.shape
    assert drawn[:, :, :40, :48].abs().min() > 0
    assert not drawn[:, :, 40:].any()
    assert not drawn[:, :, :, 48:].any()


def test_a_picture_teaches_the_semantics_of_its_own_classes_alone(caae: CAAENet) -> None:
    present = torch.tensor([[1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    similarities, _ = caae.learn(torch.randn(2, 3, 32, 32), present)
    similarities.sum().backward()
    learned = caae.semantics.weight.grad.abs().sum(1) > 0
    assert learned.tolist() == [True, False, True, False]
    assert caae.convert.weight.grad.unflatten(0, (CLASSES, -1)).abs().sum((1, 2)).all()


def test_cosines_stay_off_their_ends_and_nothing_is_0() -> None:
    vector = torch.rand(5)
    assert cosine(vector, 3 * vector).item() == pytest.approx(1 - 1e-4)
    assert cosine(vector, torch.zeros(5)).item() == 0


@torch.inference_mode()
def test_each_class_token_has_a_layer_of_its_own() -> None:
    head, tokens = ClassHead(CLASSES, 8, WIDTH), torch.randn(2, CLASSES, 8)
    each = [tokens[:, k] @ head.weight[k] + head.bias[k] for k in range(CLASSES)]
    assert torch.allclose(head(tokens), torch.stack(each, 1).relu(), atol=1e-6)


@torch.inference_mode()
def test_dropout_takes_whole_patches(net: SemFormerNet) -> None:
    net.dropout.train()
    logits = net(torch.randn(4, 3, 48, 48))
    at_bias = logits == net.mask_head.bias[:, None, None]
    assert torch.equal(at_bias.all(1), at_bias.any(1))
    assert 0.3 < at_bias.float().mean() < 0.7


@torch.inference_mode()
def test_attention_is_that_of_the_last_blocks_to_patches(net: SemFormerNet) -> None:
    images = torch.randn(2, 3, 32, 40)
    tokens, grid = net.embed(images)
    blocks = net.backbone.run(tokens, "mean").attention[-2:]
    wanted = sum(weights[:, :CLASSES, CLASSES:] for weights in blocks)
    logits, found = net.attended(images, 2)
    assert found.shape == (2, CLASSES, *grid)
    assert torch.allclose(found.flatten(2), wanted, atol=1e-6)
    assert torch.allclose(logits, net(images), atol=1e-5)


def test_maps_are_spread_from_0_to_1_and_flat_ones_are_0() -> None:
    found = spread_out(torch.stack([torch.arange(6.0).view(2, 3), torch.ones(2, 3)])[None])
    assert found[0, 0].max().item() == pytest.approx(1, abs=1e-5)
    assert found[0, 0].min() == 0
    assert not found[0, 1].any()


def test_every_class_begins_with_the_token_of_the_pretrained_network(net: SemFormerNet) -> None:
    torch.manual_seed(1)
    state = ViT(replace(SHAPE, grid=3)).state_dict()
    load_backbone(net.backbone, state)
    own = net.backbone.state_dict()
    assert torch.equal(own["cls_token"], state["cls_token"].expand(-1, CLASSES, -1))
    assert torch.equal(own["cls_posembed"], state["pos_embed"][:, :1].expand(-1, CLASSES, -1))
    assert torch.equal(own["pos_embed"], resize_table(state["pos_embed"][:, 1:], (6, 6)))
