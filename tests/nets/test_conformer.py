"""Conformer: what its branches exchange, its sizes, its maps."""

import pytest
import torch

from wsss.methods.pcsformer.network import ConformerNet
from wsss.nets.conformer import SHAPES, Conformer, Stage, conformer_of

TOY = SHAPES["conformer_toy"]


@pytest.fixture
def net() -> ConformerNet:
    torch.manual_seed(0)
    return ConformerNet(TOY, 3, clusters=6).eval()


def test_both_branches_have_a_cell_for_every_token(net: ConformerNet) -> None:
    with torch.inference_mode():
        seen = net.backbone.encode(torch.randn(2, 3, 48, 64), attention=True)
    rows, columns = 48 // TOY.stride, 64 // TOY.stride
    assert seen.maps.shape == (2, net.backbone.channels[0], rows, columns)
    assert seen.tokens.shape == (2, 1 + rows * columns, TOY.width)
    assert seen.attention is not None
    blocks = sum(TOY.stages)
    assert torch.allclose(seen.attention.sum(2), torch.full((2, 1 + rows * columns), float(blocks)))


def test_attention_changes_nothing_but_what_is_kept(net: ConformerNet) -> None:
    images = torch.randn(1, 3, 48, 48)
    with torch.inference_mode():
        plain, kept = net.encode(images), net.encode(images, attention=True)
    assert plain.attention is None
    assert torch.allclose(plain.maps, kept.maps, rtol=1e-3, atol=1e-3)


def test_the_class_token_enters_a_block_doubled() -> None:
    stage = Stage(TOY, 0, 0.0, first=False, last=False).eval()
    seen = []
    stage.trans_block.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    tokens = torch.randn(1, 17, TOY.width)
    with torch.inference_mode():
        stage(torch.randn(1, TOY.channels, 8, 8), tokens, False)
    assert torch.allclose(seen[0][:, 0], 2 * tokens[:, 0])


def test_maps_gather_scores_along_attention(net: ConformerNet) -> None:
    with torch.inference_mode():
        seen = net.encode(torch.randn(1, 3, 32, 32), attention=True)
        assert seen.attention is not None
        plain = net.maps(seen, "convcam")
        seen.attention = torch.zeros_like(seen.attention)
        seen.attention[:, 1, 5] = 2.0  # the first patch looks at the fifth
        gathered, spread = net.maps(seen), net.maps(seen, "attnagg")
        seen.attention = None
        with pytest.raises(ValueError, match="need the attention"):
            net.maps(seen)
    assert torch.allclose(gathered[0, :, 0, 0], 2 * plain[0, :, 1, 0])
    assert gathered.flatten(2)[0, :, 1:].abs().max() == 0
    assert torch.allclose(spread[0, :, 1, 0], 2 * plain[0, :, 0, 0])


def test_the_background_has_a_score_that_nothing_uses(net: ConformerNet) -> None:
    images = torch.randn(2, 3, 32, 32)
    before = net(images)
    with torch.no_grad():
        net.conv_head.bias[0] += 5
    assert torch.equal(net(images), before)


def test_only_conformers_have_such_sizes() -> None:
    assert conformer_of("toy") == conformer_of("conformer_toy") == TOY
    assert conformer_of("resnet50") is None
    assert SHAPES["conformer_small_patch16"].stride == 16
    assert Conformer(TOY).strides == (8,)
