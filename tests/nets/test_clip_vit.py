"""CLIP's image tower: equal to timm's, under the names of timm, OpenAI and open_clip, strictly."""

import re
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.errors import CheckpointError, MissingError
from wsss.nets import weights
from wsss.nets.build import build_backbone, load_backbone
from wsss.nets.clip_vit import SHAPES, ClipShape, ClipViT, image_tower
from wsss.storage import checkpoint

SMALL = ClipShape(8, 32, 3, 4, 6, output=16)
NAME = "vit_base_patch16_clip_quickgelu_224.openai.clip"
OPENAI = (  # timm's names -> OpenAI's
    (r"^cls_token$", "visual.class_embedding"),
    (r"^pos_embed$", "visual.positional_embedding"),
    (r"^patch_embed\.proj\.", "visual.conv1."),
    (r"^norm_pre\.", "visual.ln_pre."),
    (r"^norm\.", "visual.ln_post."),
    (r"^head\.weight$", "visual.proj"),
    (r"^blocks\.(\d+)\.norm", r"visual.transformer.resblocks.\1.ln_"),
    (r"^blocks\.(\d+)\.attn\.qkv\.", r"visual.transformer.resblocks.\1.attn.in_proj_"),
    (r"^blocks\.(\d+)\.attn\.proj", r"visual.transformer.resblocks.\1.attn.out_proj"),
    (r"^blocks\.(\d+)\.mlp\.fc1", r"visual.transformer.resblocks.\1.mlp.c_fc"),
    (r"^blocks\.(\d+)\.mlp\.fc2", r"visual.transformer.resblocks.\1.mlp.c_proj"),
)


def timms() -> torch.nn.Module:
    torch.manual_seed(0)
    options = {"patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 4, "img_size": 48}
    net = timm.create_model("vit_base_patch16_clip_quickgelu_224", num_classes=16, **options)
    torch.nn.init.normal_(net.pos_embed)
    torch.nn.init.zeros_(net.head.bias)
    return net.eval()


def openais(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return an image tower as OpenAI and open_clip name it, beside a text tower."""
    renamed = checkpoint.rename({k: v for k, v in state.items() if k != "head.bias"}, OPENAI)
    renamed["visual.class_embedding"] = renamed["visual.class_embedding"][0, 0]
    renamed["visual.positional_embedding"] = renamed["visual.positional_embedding"][0]
    renamed["visual.proj"] = renamed["visual.proj"].T
    text = {"positional_embedding": torch.zeros(77, 8), "logit_scale": torch.tensor(4.6)}
    text |= {"transformer.resblocks.0.ln_1.weight": torch.ones(8), "ln_final.bias": torch.ones(8)}
    return renamed | text | {"token_embedding.weight": torch.ones(9, 8)}


@pytest.mark.parametrize("layout", [dict, openais])
@torch.inference_mode()
def test_tokens_and_vectors_are_timms(layout: type) -> None:
    theirs, ours = timms(), ClipViT(SMALL).eval()
    checkpoint.fill(ours, image_tower(layout(theirs.state_dict())), "timm")
    images = torch.randn(2, 3, 48, 48)
    tokens, grid = ours.embed(images)
    assert grid == (6, 6)
    tokens = ours.norm(ours.run(tokens).tokens)
    assert torch.allclose(tokens, theirs.forward_features(images), atol=1e-5)
    assert torch.allclose(ours.project(tokens[:, 0]), F.normalize(theirs(images)), atol=1e-5)


def test_a_tower_with_a_bias_or_a_missing_layer_is_refused() -> None:
    state = dict(timms().state_dict())
    with pytest.raises(CheckpointError, match="left over .head.bias"):
        checkpoint.fill(
            ClipViT(SMALL), image_tower(state | {"head.bias": torch.ones(16)}), "a file"
        )
    del state["blocks.1.mlp.fc1.weight"]
    with pytest.raises(CheckpointError, match=re.escape("1 missing (blocks.1.mlp.fc1.weight)")):
        checkpoint.fill(ClipViT(SMALL), image_tower(openais(state)), "a file")


def test_positions_are_resized_bilinearly_and_rounded_if_asked() -> None:
    net = ClipViT(SMALL)
    table = net.positions((3, 5), square=False)
    cells = net.pos_embed[:, 1:].reshape(1, 6, 6, 32).permute(0, 3, 1, 2)
    expected = F.interpolate(cells, (3, 5), mode="bilinear").flatten(2).transpose(1, 2)
    assert torch.allclose(table[:, 1:], expected)
    assert torch.equal(net.positions((6, 6), square=True), net.pos_embed)
    net.round_positions = True
    rounded = net.positions((3, 5), square=False)
    assert torch.equal(rounded, table.half().float())
    assert not torch.equal(rounded, table)


def test_a_file_of_the_user_becomes_initial_weights(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SHAPES, "vit_base_patch16_clip_224", SMALL)
    torch.save(openais(dict(timms().state_dict())), "clip.pt")
    monkeypatch.setenv("WSSS_CLIP", "clip.pt")
    source = weights.convert(NAME, Path("tower.safetensors"), None, None)
    assert source.startswith("clip.pt sha256:")
    net = build_backbone("vit_base_patch16_clip_224", 16)
    load_backbone(net, checkpoint.load(Path("tower.safetensors"))[0])
    assert torch.equal(net.state_dict()["blocks.2.norm1.weight"], torch.ones(32))
    monkeypatch.setenv("WSSS_CLIP", "other.pt")
    with pytest.raises(MissingError, match="WSSS_CLIP is other.pt, but there is no such file"):
        weights.convert(NAME, Path("tower.safetensors"), None, None)


def test_without_hub_and_file_the_message_names_both(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WSSS_CLIP", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(work))
    with pytest.raises(MissingError, match="could not be downloaded.*hub.*by WSSS_CLIP"):
        weights.convert(NAME, Path("tower.safetensors"), None, None)
