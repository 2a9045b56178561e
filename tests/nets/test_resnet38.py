"""ResNet-38: its shape, its dropout, and where its initial weights come from."""

from pathlib import Path

import pytest
import torch

from wsss.errors import MissingError
from wsss.nets.resnet38 import MXNET, Bottleneck, ResNet38
from wsss.nets.weights import convert
from wsss.storage import checkpoint

STATISTICS = {"weight": "gamma", "bias": "beta"}


def mxnet_name(key: str) -> str:
    """Return what the published ImageNet file calls a tensor of ours."""
    layer, _, kind = key.rpartition(".")
    kind = STATISTICS.get(kind, kind.replace("running", "moving"))
    if layer in ("conv1a", "bn7"):
        return f"arg:{layer}_weight" if layer == "conv1a" else f"arg:{layer}_{kind}"
    block, _, branch = layer.partition(".")
    stage, _, number = block[1:].partition("_")
    if branch.startswith("conv_"):
        return f"arg:res{stage}{'b' + number if number else 'a'}_{branch[5:]}_weight"
    where = "aux:" if kind.startswith("moving") else "arg:"
    return f"{where}bn{stage}{'b' + number if number else 'a'}_{branch[3:]}_{kind}"


def test_features_have_stride_8_rounded_up() -> None:
    with torch.device("meta"):
        net = ResNet38()
        found = net(torch.zeros(1, 3, 61, 45))
    assert [tuple(feature.shape) for feature in found] == [
        (1, channels, 8, 6) for channels in net.channels
    ]


def test_names_of_the_published_initial_weights_are_translated() -> None:
    with torch.device("meta"):
        ours = [key for key in ResNet38().state_dict() if not key.endswith("_tracked")]
    theirs = {mxnet_name(key): torch.zeros(1) for key in ours}
    assert len(theirs) == len(ours)
    assert set(checkpoint.rename(theirs, MXNET.table)) == set(ours)
    again = {key: torch.zeros(1) for key in ours}
    assert set(checkpoint.rename(again, MXNET.table)) == set(ours)


def test_missing_initial_weights_are_asked_for_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        MissingError, match="resnet38.imagenet.pth is missing, and no command can fetch it"
    ) as caught:
        convert("resnet38.imagenet", tmp_path / "resnet38.imagenet.safetensors", None, None)
    assert "\n" not in str(caught.value)


def test_dropout_is_on_in_training_alone() -> None:
    block, x = Bottleneck(8, 16, 4, 0.5), torch.randn(2, 8, 9, 9)
    for layer in block.children():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eval()
    torch.manual_seed(0)
    assert not torch.equal(block(x)[0], block(x)[0])
    block.eval()
    assert torch.equal(block(x)[0], block(x)[0])
