"""DeepLab-v1 and v3+ of the code base, and MCTformer's head: networks, losses, tests."""

from collections.abc import Sequence
from pathlib import Path

import fill
import pytest
import torch
from golden import FORWARD, Golden
from pictures import normalised
from segmenters import (
    GRADIENT,
    LABELS,
    LOSS,
    MULTISCALE,
    batch,
    compare_decisions,
    compare_thinned,
    gradients,
    load,
    looks_of,
    renamed,
    settings,
)
from torch import Tensor, nn

from wsss.inference.trained import normalisation
from wsss.inference.views import segmenter_augmentation
from wsss.nets.deeplab import DeepLab
from wsss.stages.masks import crf_picture
from wsss.stages.segmenter import Segmentation
from wsss.training.optimizer import freeze, parameter_groups


@pytest.mark.slow
def test_deeplab_v1(golden: Golden, tmp_path: Path) -> None:
    manifest = "seg_deeplabv1_resnet38"
    net, expected = load(golden, manifest), golden.arrays(f"{manifest}.npz")
    with torch.inference_mode():
        logits = net(normalised(net, [golden.case("seg", "v1")]))
    compare_thinned(golden, manifest, "logits", logits, **FORWARD)
    golden.same(f"{manifest} labels", logits.argmax(1)[0], expected["pred"], LABELS)
    compare_multiscale(golden, manifest, net, golden.case("seg", "v1ms"), tmp_path)

    params = settings(manifest)
    freeze(net.train(), params.train)
    modes = dict(mode.split(":") for mode in expected["train_bn_modes"].tolist())
    for theirs, ours in zip(modes, renamed(manifest, [f"{name}." for name in modes]), strict=True):
        assert net.get_submodule(ours.rstrip(".")).training == bool(int(modes[theirs]))
    counts = [len(group["params"]) for group in parameter_groups(net, params.train)]
    golden.same(f"{manifest} groups", counts, [n for n in expected["group_counts"] if n])
    still = [n for n, p in net.named_parameters() if not p.requires_grad and "bn" not in n]
    assert still == renamed(manifest, expected["no_grad"].tolist())
    net.requires_grad_()  # the published norms have gradients and are in no group
    without_dropout(net)
    loss = Segmentation(net, params)(batch(net, *golden.case("seg", "v1tr")), 0)["pixels"]
    golden.close(f"{manifest} loss", loss, expected["train_loss_headBN_batchstats"], **LOSS)
    norms = gradients(manifest, net, loss, expected["grad_names"].tolist())
    golden.close(f"{manifest} gradients", norms, expected["grad_l2"], **GRADIENT)


def without_dropout(net: nn.Module) -> None:
    for layer in net.modules():
        if isinstance(layer, nn.Dropout | nn.Dropout2d):
            layer.eval()


def compare_multiscale(
    golden: Golden, manifest: str, net: DeepLab, case: Sequence[int], folder: Path
) -> None:
    """Compare the test of the code base at several scales."""
    expected, test = golden.arrays(f"{manifest}.npz"), settings(manifest).test
    resizing = segmenter_augmentation(settings(manifest)).resizing
    sizes = [resizing.size((case[0], case[1]), scale) for scale in test.scales]
    golden.same(f"{manifest} sizes", sizes, expected["ms_sizes"])
    entry, seen = looks_of(manifest, net, case, folder)
    mean = torch.from_numpy(seen) / len(sizes) / 2
    probabilities = mean.softmax(1)[0]
    golden.close(f"{manifest} ms max", probabilities.amax(0), expected["ms_prob_max"], **MULTISCALE)
    compare_thinned(golden, manifest, "ms_prob", probabilities, **MULTISCALE)
    compare_decisions(golden, manifest, entry, seen, net)
    image = fill.image(*case)
    differing = (crf_picture(image, "denormalised", normalisation(net)) != image).sum()
    golden.same(f"{manifest} de-normalised values", differing, expected["denorm_diff_count"])


@pytest.mark.slow
def test_deeplab_v3plus(golden: Golden, tmp_path: Path) -> None:
    manifest = "seg_deeplabv3plus_resnet101"
    net, expected = load(golden, manifest), golden.arrays(f"{manifest}.npz")
    features: list[Tensor] = []
    with torch.inference_mode():
        hook = net.head.cls_conv.register_forward_pre_hook(
            lambda _, inputs: features.extend(inputs)
        )
        logits = net(normalised(net, [golden.case("seg", "p")]))
        hook.remove()
    compare_thinned(golden, manifest, "feature", features[0], **FORWARD)
    compare_thinned(golden, manifest, "logits", logits, **FORWARD)
    golden.same(f"{manifest} labels", logits.argmax(1)[0], expected["pred"], LABELS)
    compare_multiscale(golden, manifest, net, golden.case("seg", "p_ms"), tmp_path)
    crops = batch(net, *golden.case("seg", "ptr"))
    loss = Segmentation(net, settings(manifest))(crops, 0)["pixels"]
    golden.close(f"{manifest} loss", loss, expected["loss_evalmode"], **LOSS)
    norms = gradients(manifest, net, loss, expected["grad_names"].tolist())
    golden.close(f"{manifest} gradients", norms, expected["grad_l2"], **GRADIENT)


@pytest.mark.slow
def test_mctformers_resnet38(golden: Golden, tmp_path: Path) -> None:
    manifest = "resnet38_seg"
    net, expected = load(golden, manifest), golden.arrays(f"{manifest}.npz")
    with torch.inference_mode():
        logits = net(normalised(net, [golden.case("seg", "v1")]))
    golden.close(f"{manifest} logits", logits, expected["out"], **FORWARD)
    entry, seen = looks_of(manifest, net, golden.case("seg", "v1ms"), tmp_path)
    golden.close(f"{manifest} ms", seen[0].sum(0), expected["ms_max_prob_sum"], **MULTISCALE)
    compare_decisions(golden, manifest, entry, seen, net)
