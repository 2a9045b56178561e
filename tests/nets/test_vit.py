"""Vision transformers: equal to timm's, any number of tokens, attention, positions, drop path."""

from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F

from wsss.errors import MissingError
from wsss.nets import weights
from wsss.nets.build import build_backbone, load_backbone
from wsss.nets.register_vit import RegisterViT
from wsss.nets.vit import EPS, SHAPES, Shape, ViT, dinov2, resize_table
from wsss.storage import checkpoint

SMALL = Shape(8, 32, 3, 4, 6)
SMALL_DINO = dinov2(32, 3, 4, grid=5)
DINO_RELEASE = "vit_small_patch14_dinov2.lvd142m.dinov2"


def timms(distilled: bool = False) -> torch.nn.Module:
    torch.manual_seed(0)
    options = {"patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 4, "img_size": 48}
    name = "deit_tiny_distilled_patch16_224" if distilled else "deit_tiny_patch16_224"
    net = timm.create_model(name, **options).eval()
    torch.nn.init.normal_(net.pos_embed)
    return net


@pytest.mark.parametrize("distilled", [False, True])
@torch.inference_mode()
def test_tokens_are_timms_with_or_without_attention(distilled: bool) -> None:
    reference, ours = timms(distilled), ViT(SMALL, distilled=distilled).eval()
    load_backbone(ours, reference.state_dict())
    images = torch.randn(2, 3, 48, 48)
    expected, (tokens, grid) = reference.forward_features(images), ours.embed(images)
    assert grid == (6, 6)
    for attention in ("none", "mean", "heads"):
        found = ours.norm(ours.run(tokens, attention).tokens)
        assert torch.allclose(found, expected, atol=1e-5)


def timms_dino(name: str = "vit_small_patch14_dinov2") -> torch.nn.Module:
    torch.manual_seed(0)
    options = {"embed_dim": 32, "depth": 3, "num_heads": 4, "img_size": 70}
    net = timm.create_model(name, dynamic_img_size=True, **options).eval()
    for name, value in net.named_parameters():
        if name.endswith("gamma") or name in ("pos_embed", "cls_token", "reg_token"):
            torch.nn.init.normal_(value)
    return net


@torch.inference_mode()
def test_dinov2_is_timms_but_for_the_positions_of_other_grids() -> None:
    reference, ours = timms_dino(), ViT(SMALL_DINO).eval()
    load_backbone(ours, {**reference.state_dict(), "mask_token": torch.zeros(1, 32)})
    assert ours.state_dict().keys() == reference.state_dict().keys()
    images = torch.randn(2, 3, 70, 70)
    (tokens,), expected = ours(images), reference.forward_features(images)[:, 1:]
    assert torch.allclose(tokens.flatten(2).transpose(1, 2), expected, atol=1e-5)
    (tokens,), expected = (
        ours(images[:, :, :56]),
        reference.forward_features(images[:, :, :56])[:, 1:],
    )
    assert not torch.allclose(tokens.flatten(2).transpose(1, 2), expected, atol=1e-2)


@torch.inference_mode()
def test_with_registers_dinov2_is_timms_on_every_grid() -> None:
    reference = timms_dino("vit_small_patch14_reg4_dinov2")
    ours = RegisterViT(SMALL_DINO).eval()
    load_backbone(ours, reference.state_dict())
    images = torch.randn(2, 3, 70, 98)
    for view in (images[..., :70], images):
        (tokens,), expected = ours(view), reference.forward_features(view)[:, 5:]
        assert torch.allclose(tokens.flatten(2).transpose(1, 2), expected, atol=1e-5)
    authors = {**ours.state_dict(), "mask_token": torch.zeros(1, 32)}
    authors["register_tokens"] = authors.pop("reg_token")
    again = RegisterViT(SMALL_DINO)
    load_backbone(again, authors)
    assert torch.equal(again.eval()(images)[0], ours(images)[0])


def test_the_authors_file_of_dinov2_becomes_initial_weights(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SHAPES, "dinov2_vits14", SMALL_DINO)
    state = ViT(SMALL_DINO).state_dict()
    state["blocks.2.ls1.gamma"] = torch.full((32,), 0.5)
    torch.save({**state, "mask_token": torch.zeros(1, 32)}, f"{DINO_RELEASE}.pth")
    target = Path(f"{DINO_RELEASE}.safetensors")
    assert weights.convert(DINO_RELEASE, target, None, None).startswith(f"{DINO_RELEASE}.pth")
    net = build_backbone("dinov2_vits14", 14)
    load_backbone(net, checkpoint.load(target)[0])
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    Path(f"{DINO_RELEASE}.pth").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(work))
    with pytest.raises(MissingError, match=f"hub.*put its authors' file at {DINO_RELEASE}.pth"):
        weights.convert(DINO_RELEASE, target, None, None)


@torch.inference_mode()
def test_attention_is_a_distribution_and_the_mean_is_over_heads() -> None:
    net = ViT(SMALL, 5).eval()
    tokens, _ = net.embed(torch.randn(2, 3, 24, 40))
    mean, heads = (net.run(tokens, keep).attention for keep in ("mean", "heads"))
    assert [weights.shape for weights in mean] == [(2, 20, 20)] * 3
    for one, all_ in zip(mean, heads, strict=True):
        assert torch.allclose(all_.sum(-1), torch.ones(2, 4, 20), atol=1e-5)
        assert torch.allclose(all_.mean(1), one, atol=1e-6)


@torch.inference_mode()
def test_blocks_can_be_watched_and_changed() -> None:
    net = ViT(SMALL).eval()
    tokens, _ = net.embed(torch.randn(1, 3, 24, 24))
    seen = net.run(tokens, keep=(0, 2))
    assert list(seen.block_tokens) == [0, 2]
    assert torch.equal(seen.block_tokens[2], seen.tokens)
    again = net.run(torch.zeros_like(tokens), change={0: lambda _: seen.block_tokens[0]})
    assert torch.allclose(again.tokens, seen.tokens)


@torch.inference_mode()
def test_one_class_token_becomes_many_and_the_table_grows() -> None:
    state = timms(distilled=True).state_dict()
    net = ViT(Shape(8, 32, 3, 4, 8), 4)
    load_backbone(net, state)
    assert torch.equal(net.cls_token, state["cls_token"].expand(1, 4, 32))
    assert torch.equal(net.pos_embed[:, 3], state["pos_embed"][:, 0])
    grown = resize_table(state["pos_embed"][:, 2:], (8, 8))
    assert torch.equal(net.pos_embed[:, 4:], grown)
    without = ViT(SMALL, 0)
    load_backbone(without, state)
    assert torch.equal(without.pos_embed, state["pos_embed"][:, 2:])


@torch.inference_mode()
def test_tables_are_resized_to_a_size_or_by_a_factor() -> None:
    table = torch.randn(1, 36, 5)
    cells = table.transpose(1, 2).reshape(1, 5, 6, 6)
    for offset, how in (
        (None, {"size": (12, 3)}),
        (0.1, {"scale_factor": (12.1 / 6, 3.1 / 6)}),
    ):
        reference = F.interpolate(cells, mode="bicubic", **how)
        found = resize_table(table, (12, 3), offset)
        assert torch.allclose(found, reference.flatten(2).transpose(1, 2), atol=1e-5)
    sixty_one = resize_table(torch.randn(1, 784, 2), (61, 115), 0.0)  # 28 * (61 / 28) < 61
    assert sixty_one.shape == (1, 61 * 115, 2)


@torch.inference_mode()
def test_by_a_factor_only_square_images_take_the_table_as_it_is() -> None:
    net = ViT(SMALL, factor_offset=0.1)
    assert torch.equal(net.positions((6, 6), square=True), net.pos_embed)
    assert not torch.equal(net.positions((6, 6), square=False), net.pos_embed)


def test_training_images_skip_branches_at_random_and_the_others_never() -> None:
    net, images = ViT(SMALL, drop_path=0.9), torch.randn(8, 3, 24, 24)
    torch.manual_seed(0)
    assert not torch.allclose(net(images)[0], net(images)[0])
    net.eval()
    assert torch.equal(net(images)[0], net(images)[0])
    assert [block.drop_path for block in net.blocks] == [0.0, 0.45, 0.9]


@pytest.mark.parametrize(
    "name", ["vit_toy", "deit_small_patch16_224.fb_in1k", "dinov2_vits14", "dinov2_vits14_reg"]
)
@torch.inference_mode()
def test_names_of_transformers_are_backbones_with_one_map(name: str) -> None:
    net = build_backbone(name, 32).eval()
    stride = net.strides[-1]
    (found,) = net(torch.randn(1, 3, 61, 83))
    assert found.shape == (1, net.channels[-1], 61 // stride, 83 // stride)
    assert all(layer.eps == EPS for layer in net.modules() if isinstance(layer, torch.nn.LayerNorm))
