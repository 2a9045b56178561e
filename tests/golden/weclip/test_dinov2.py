"""DINOv2: patch tokens after the last LayerNorm, by the authors' names and positions, at toy size."""

import pytest
import torch
from frozen_clip import batch, pictures
from frozen_pair import DINO, second_backbone
from golden import Golden

from wsss.data.resize import resize_to_multiple
from wsss.nets.build import load_backbone
from wsss.nets.register_vit import RegisterViT
from wsss.nets.vit import dinov2
from wsss.storage import checkpoint

CLOSE = {"atol": 1e-5}  # of the largest value


@pytest.mark.parametrize("tag", ["plus", "plus_coco", "plus14"])
def test_patch_tokens(golden: Golden, tag: str) -> None:
    expected = golden.arrays("weclip.npz")[f"{tag}_dino"]
    images, _ = batch(golden, tag)
    net = second_backbone(golden).eval()
    with torch.inference_mode():
        (tokens,) = net(resize_to_multiple(images, net.strides[-1]))
    thinned = tokens.flatten(2).transpose(1, 2)[:, ::5, ::4]
    golden.close(f"{tag} DINOv2's tokens", thinned, expected, **CLOSE)


def test_patch_tokens_with_registers(golden: Golden) -> None:
    expected, case = golden.arrays("weclip.npz")["dino_reg"], golden.case("dino_reg")
    shape = dinov2(case["width"], case["depth"], case["heads"], case["table"])
    net = RegisterViT(shape, case["registers"]).eval()
    state = checkpoint.load_foreign(golden.checkpoint("dino_reg_toy"))
    load_backbone(net, {key.removeprefix(DINO): value for key, value in state.items()})
    images = pictures([(*case["size"], case["seed"])])
    with torch.inference_mode():
        (tokens,) = net(images)
    thinned = tokens.flatten(2).transpose(1, 2)[:, ::3, ::4]
    golden.close("DINOv2's tokens with registers", thinned, expected, **CLOSE)
