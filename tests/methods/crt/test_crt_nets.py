"""CRT's network: maps begin in the image, tiles do not see each other, the CNN stays outside."""

import pytest
import torch

from wsss.methods.crt.network import CRTNet, Encoding, build
from wsss.nets.vit import Shape
from wsss.settings import AuxiliaryCnnParams

SMALL = Shape(8, 16, 2, 2, 4)


def net(passes: int = 3, tile_px: int = 32) -> CRTNet:
    torch.manual_seed(0)
    return build(SMALL, 4, Encoding(passes, tile_px), AuxiliaryCnnParams()).eval()


@torch.inference_mode()
@pytest.mark.parametrize("size", [(32, 32), (40, 75), (9, 100)])
def test_maps_have_the_cells_that_begin_in_the_image(size: tuple[int, int]) -> None:
    wanted = (2, 4, -(-size[0] // 8), -(-size[1] // 8))
    images = torch.randn(2, 3, *size)
    assert net().maps(images).shape == net().attended(images).shape == wanted


@torch.inference_mode()
def test_a_tile_does_not_see_what_is_outside() -> None:
    images = torch.randn(1, 3, 32, 64)
    other = images.clone()
    other[:, :, :, 48:] = 0
    first, second = net().maps(images), net().maps(other)
    assert torch.allclose(first[..., :2], second[..., :2], atol=1e-6)
    assert not torch.allclose(first[..., 6:], second[..., 6:], atol=1e-3)


@torch.inference_mode()
def test_an_image_of_one_tile_is_encoded_whole_for_training_and_padded_for_cams() -> None:
    own, images = net(), torch.randn(1, 3, 32, 32)
    scores, attention = own.encode(images, attend=True)
    assert torch.allclose(own.maps(images), scores, atol=1e-5)
    assert not torch.allclose(own.attended(images), scores * attention, atol=1e-4)
    whole = net(tile_px=0)
    scores, attention = whole.encode(images, attend=True)
    assert torch.allclose(whole.attended(images), scores * attention)


@torch.inference_mode()
def test_attention_is_that_of_the_class_token_summed_over_blocks_and_passes() -> None:
    own = net(passes=2)
    _, attention = own.encode(torch.randn(1, 3, 32, 32), attend=True)
    assert attention.shape == (1, 1, 4, 4)
    assert 0 < attention.sum() < 2 * SMALL.depth  # what the class token gives itself is missing


@torch.inference_mode()
def test_one_pass_adds_no_input_to_its_output() -> None:
    images = torch.randn(1, 3, 32, 32)
    own = net(passes=1)
    tokens, grid = own.backbone.embed(images)
    features = own.backbone.as_map(own.backbone.norm(own.backbone.run(tokens).tokens), grid)
    assert torch.allclose(own.encode(images, attend=False)[0], own.head(features), atol=1e-5)


def test_the_partner_does_not_touch_the_transformers_scores() -> None:
    own, images = net(), torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        before = own(images)
        for weight in (own.auxiliary_head.weight, *own.auxiliary_cnn.parameters()):
            weight.zero_()
        assert torch.equal(own(images), before)
        assert not own.auxiliary_maps(images).any()
