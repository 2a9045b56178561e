"""The DeepLab family on a small backbone: every head, several looks, losses that cannot be NaN."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from wsss.errors import CheckpointError
from wsss.nets.backbone import freeze_norm
from wsss.nets.build import build_backbone, published_layout
from wsss.nets.deeplab import HEADS, DeepLab, pixel_loss, reduce_labels
from wsss.settings import SegmenterParams
from wsss.stages.segmenter import Segmentation
from wsss.storage import checkpoint


def net(head: str = "deeplab_v2", **options: object) -> DeepLab:
    torch.manual_seed(0)
    return DeepLab(build_backbone("toy", 8), head, 4, (1, 2), **options).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("head", HEADS)
@torch.inference_mode()
def test_every_head_answers_for_every_class_at_its_size(head: str) -> None:
    found = net(head)(torch.rand(2, 3, 33, 47))
    expected = (33, 47) if head in ("deeplab_v1", "deeplab_v3plus") else (5, 6)
    assert found.shape == (2, 4, *expected)
    assert found.isfinite().all()


@torch.inference_mode()
def test_several_scales_are_trained_alone_and_together_and_the_largest_counts() -> None:
    images, scales = torch.rand(1, 3, 64, 96), net(extra_scales=(0.5, 0.75))
    outputs = scales.outputs(images)
    assert list(outputs) == ["pixels_1", "pixels_0.5", "pixels_0.75", "pixels_max"]
    assert [tuple(o.shape[2:]) for o in outputs.values()] == [(8, 12), (4, 6), (6, 9), (8, 12)]
    assert torch.equal(outputs["pixels_1"], net()(images))
    assert (outputs["pixels_max"] >= outputs["pixels_1"]).all()
    assert (outputs["pixels_max"] > outputs["pixels_1"]).any()
    assert torch.equal(scales(images), outputs["pixels_max"])


@torch.inference_mode()
def test_factors_from_whole_sizes_differ_where_the_size_is_odd() -> None:
    for side, alike in ((64, True), (65, False)):
        images = torch.rand(1, 3, side, side)
        given, again = (net(extra_scales=(0.5,), recompute_factor=r)(images) for r in (False, True))
        assert torch.allclose(given, again, atol=1e-6) == alike


def test_the_loss_of_a_batch_without_valid_pixels_is_zero_with_zero_gradients() -> None:
    for reduce in (False, True):
        logits = torch.rand(2, 4, 5, 5, requires_grad=True)
        loss = pixel_loss(logits, torch.full((2, 9, 9), 255), reduce=reduce)
        loss.backward()
        assert loss.item() == 0
        assert logits.grad is not None
        assert (logits.grad == 0).all()


def test_ignored_pixels_do_not_count() -> None:
    logits, masks = torch.rand(1, 4, 6, 6), torch.randint(0, 4, (1, 6, 6))
    half = masks.clone()
    half[:, 3:] = 255
    whole = torch.nn.functional.cross_entropy(logits[:, :, :3], masks[:, :3])
    assert pixel_loss(logits, half).item() == pytest.approx(whole.item(), rel=1e-6)


@pytest.mark.parametrize("size", [(41, 41), (13, 9), (5, 70)])
def test_labels_are_reduced_as_pillow_does(size: tuple[int, int]) -> None:
    masks = np.random.default_rng(0).integers(0, 255, (321, 97)).astype(np.uint8)
    theirs = np.asarray(Image.fromarray(masks).resize(size[::-1], Image.Resampling.NEAREST))
    assert np.array_equal(reduce_labels(torch.from_numpy(masks)[None].long(), size)[0], theirs)


def test_each_output_of_the_network_has_a_term_of_the_loss() -> None:
    params = SegmenterParams(msc=(0.5,), loss_at="logits")
    batch: dict[str, Tensor] = {
        "image": torch.rand(1, 3, 32, 32), "mask": torch.randint(0, 4, (1, 32, 32)),
    }  # fmt: skip
    terms = Segmentation(net(extra_scales=(0.5,)), params)(batch, 0)
    assert list(terms) == ["pixels_1", "pixels_0.5", "pixels_max"]
    assert list(Segmentation(net(), SegmenterParams())(batch, 0)) == ["pixels"]


def test_norms_are_frozen_by_name() -> None:
    found = net("deeplab_v1").train()
    freeze_norm(found, ("backbone.*",))
    assert not found.backbone.blocks[0][1].training  # type: ignore[index]
    assert found.head.bn_fov.training


def test_a_file_of_another_backbone_is_refused(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}, tmp_path / "a.pth")
    layout = published_layout("toy")
    with pytest.raises(CheckpointError, match="1 left over \\(conv1.weight\\)"):
        checkpoint.adopt(build_backbone("toy", 8), tmp_path / "a.pth", layout)
