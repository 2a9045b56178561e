"""DINOv2: patch tokens after the last LayerNorm, by the authors' names and positions, at toy size."""

import pytest
import torch
from frozen_clip import batch
from frozen_pair import second_backbone
from golden import Golden

from wsss.data.resize import resize_to_multiple

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
