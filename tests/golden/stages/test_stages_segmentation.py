"""The DeepLab family: networks, losses, groups, schedules, tests at several scales, CRFs.

Every network is built, trained and tested with its preset, as a run does it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fill
import numpy as np
import torch
from golden import FORWARD, Golden
from numpy.typing import NDArray
from pictures import CPU, normalised
from PIL import Image
from torch import Tensor, nn

from wsss import checkpoint
from wsss.config import validate
from wsss.crf import refine_scores
from wsss.data.index import Entry
from wsss.localize import inference
from wsss.nets.backbone import published_layout
from wsss.nets.deeplab import LAYOUTS, DeepLab, reduce_labels, resize
from wsss.optimize import freeze, parameter_groups, rate
from wsss.schema import SegmenterParams
from wsss.stages.masks import crf_picture, decide, joining, resizing
from wsss.stages.network import normalisation
from wsss.stages.segmenter import Segmentation, build

PRESETS = {  # of each manifest
    "deeplabv2_resnet101_msc": "deeplab_v2_coco",
    "seg_deeplabv1_resnet38": "deeplab_v1_resnet38",
    "seg_deeplabv3plus_resnet101": "deeplab_v3plus_resnet101",
    "resnet38_seg": "resnet38_mctformer",
}
SCALE = {  # what keeps the made-up weights in a useful range
    "deeplabv2_resnet101_msc": {
        r"base\.aspp\.c[0-3]\.weight": 0.02, r".*increase\.bn\.weight": 0.25,
    },
    "seg_deeplabv1_resnet38": {r"conv_fov\.weight": 0.02},
    "seg_deeplabv3plus_resnet101": {r"backbone\.layer.*\.bn3\.weight": 0.25},
    "resnet38_seg": {r"fc8_seg_conv1\.weight": 0.02},
}  # fmt: skip
CLASSES = 20
LOSS, GRADIENT = {"rtol": 1e-4}, {"rtol": 1e-3}
MULTISCALE = {"absolute": 1e-3}  # of probabilities
LABELS = 0.995
Arrays = dict[str, NDArray[Any]]


def settings(manifest: str) -> SegmenterParams:
    return validate({"segmenter": {"preset": PRESETS[manifest]}}).segmenter


def load(golden: Golden, manifest: str) -> DeepLab:
    net = build(settings(manifest), CLASSES)
    checkpoint.adopt(net, golden.checkpoint(manifest, SCALE[manifest]), LAYOUTS[manifest])
    return net.eval()


def renamed(manifest: str, names: Sequence[str]) -> list[str]:
    """Return our names of published parameters."""
    empty = {name: torch.empty(0) for name in names}
    return list(checkpoint.rename(empty, LAYOUTS[manifest].table))


def label(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    first, second, _ = fill.image(height, width, seed).transpose(2, 0, 1)
    found = np.select([first < 110, first < 145], [0, 3], 15)
    return np.where((second >= 120) & (second < 130), 255, found).astype(np.uint8)


def batch(net: DeepLab, side: int, seed: int) -> dict[str, Tensor]:
    """Return the training crops of a case (side, seed) with their labels."""
    masks = [label(side, side, seed + offset) for offset in (10, 11)]
    images = normalised(net, [(side, side, seed), (side, side, seed + 1)])
    return {"image": images, "mask": torch.from_numpy(np.stack(masks)).long()}


def gradients(manifest: str, net: DeepLab, loss: Tensor, names: Sequence[str]) -> list[float]:
    weights = dict(net.named_parameters())
    found = torch.autograd.grad(loss, [weights[name] for name in renamed(manifest, names)])
    return [gradient.norm().item() for gradient in found]


def looks_of(
    manifest: str, net: DeepLab, case: Sequence[int], folder: Path
) -> tuple[Entry, NDArray[np.float32]]:
    """Return a picture and what the test makes of it: joined looks (classes, H, W)."""
    path = folder / "picture.png"
    Image.fromarray(fill.image(*case)).save(path)
    entry = Entry("picture", str(path), None, (), "val", (case[0], case[1]), "")
    params = settings(manifest)
    how = (resizing(params.test), joining(params))
    with torch.inference_mode():
        (_, maps), *_ = inference(
            net, [[entry]], params.test, lambda size: size, normalisation(net), CPU, 0, *how
        )
    return entry, maps.numpy()


def compare_decisions(
    golden: Golden, manifest: str, entry: Entry, seen: NDArray[np.float32], net: DeepLab
) -> None:
    """Compare the labels of the test, without and with its CRF."""
    expected = golden.arrays(f"{manifest}.npz")
    test, maps = settings(manifest).test, torch.from_numpy(seen)
    plain = test.model_copy(update={"crf": "none"})
    for key, params in (("ms_pred", plain), ("ms_crf_pred", test)):
        if key in expected:
            found = decide([entry], maps, params, normalisation(net))[0]
            golden.same(f"{manifest} {key}", found, expected[key], LABELS)


def test_deeplab_v2_looks_at_three_scales(golden: Golden) -> None:
    manifest, expected = "deeplabv2_resnet101_msc", golden.arrays("deeplabv2.npz")
    net = load(golden, manifest)
    case = golden.case("deeplabv2", "ev")
    with torch.inference_mode():
        images = normalised(net, [case])
        layers = [net.backbone.layer1(images), *net.backbone(images)]  # type: ignore[operator]
        for number, every in ((1, 16), (3, 128), (5, 256)):
            key = f"ev_layer{number}"
            golden.close(
                f"deeplabv2 {key}", layers[number - 1][:, ::every], expected[key], **FORWARD
            )
        looks = net.outputs(images)
        golden.close("deeplabv2 base", looks["pixels_1"], expected["ev_base"], **FORWARD)
        golden.close("deeplabv2 msc", looks["pixels_max"], expected["ev_msc"], **FORWARD)
        again = net(normalised(net, [golden.case("deeplabv2", "ev2")]))
        golden.close("deeplabv2 msc, other size", again, expected["ev2_msc"], **FORWARD)
    full = resize(looks["pixels_max"], case[:2])
    golden.same("deeplabv2 labels", full.argmax(1)[0], expected["ev_pred"], LABELS)
    compare_crf(golden, expected, full.softmax(1)[0].numpy(), net)


def compare_crf(
    golden: Golden, expected: Arrays, scores: NDArray[np.float32], net: DeepLab
) -> None:
    image = fill.image(*golden.case("deeplabv2", "ev"))
    kinds = {"wrapped": "upstream_wrapped", "bgr": "bgr", "original": "rgb"}
    for kind, key in kinds.items():
        picture = crf_picture(image, kind, normalisation(net))
        if kind == "wrapped":
            golden.same("deeplabv2 wrapped picture", picture, expected["crf_wrapped_image"])
        posterior = refine_scores(picture, scores, "deeplab_msc")
        wanted = expected[f"crf_pred_{key}"]
        golden.same(f"deeplabv2 crf {kind}", posterior.argmax(0), wanted, LABELS)
        if kind == "bgr":
            top = expected["crf_Q_bgr_top"]
            golden.close("deeplabv2 crf Q", posterior.max(0), top, absolute=1e-3, share=0.99)


def test_deeplab_v2_is_trained_at_three_scales(golden: Golden) -> None:
    manifest, expected = "deeplabv2_resnet101_msc", golden.arrays("deeplabv2.npz")
    net, params = load(golden, manifest), settings(manifest)
    freeze(net.train(), params.train)
    crops = batch(net, *golden.case("deeplabv2", "tr"))
    shapes = [list(logits.shape[2:]) for logits in net.outputs(crops["image"]).values()]
    golden.same("deeplabv2 output sizes", shapes, expected["tr_shapes"])
    reduced = reduce_labels(crops["mask"], shapes[0])
    golden.same("deeplabv2 reduced labels", reduced, expected["tr_label_mid"])
    terms = Segmentation(net, params)(crops, 0)
    found = [term.item() for term in terms.values()]
    golden.close("deeplabv2 losses", found, expected["tr_losses_1_05_075_max"], **LOSS)
    total = torch.stack(list(terms.values())).sum() / params.train.accumulate
    golden.close("deeplabv2 total", total, expected["tr_total_div_iter_size2"], **LOSS)
    norms = gradients(manifest, net, total, expected["grad_names"].tolist())
    golden.close("deeplabv2 gradients", norms, expected["grad_l2"], **GRADIENT)
    groups = parameter_groups(net, params.train)
    counts = [[len(g["params"]), sum(p.numel() for p in g["params"])] for g in groups]
    golden.same("deeplabv2 groups", counts, expected["group_counts_1x_10x_20x"])
    assert [group["factor"] for group in groups] == [1, 10, 20]
    assert [group.get("weight_decay") for group in groups] == [None, None, 0]


def test_deeplab_v2s_initial_weights_are_its_backbones(golden: Golden) -> None:
    net = build(settings("deeplabv2_resnet101_msc"), CLASSES)
    head = {key: value.clone() for key, value in net.head.state_dict().items()}
    layout = published_layout("resnet101_caffe")
    checkpoint.adopt(net.backbone, golden.checkpoint("deeplabv1_resnet101_coco91"), layout)
    key = "layer3.block1.reduce.conv.weight"
    golden.same(
        "deeplabv1_resnet101_coco91 loads", net.backbone.state_dict()[key],
        fill.tensor(key, net.backbone.state_dict()[key].shape),
    )  # fmt: skip
    assert all(torch.equal(net.head.state_dict()[key], value) for key, value in head.items())


def test_the_rates_of_deeplab_v2_and_v1(golden: Golden) -> None:
    cases = (
        ("deeplabv2.npz", "deeplabv2_resnet101_msc", "sched_iter", "sched_lr_1x", 1),
        ("seg_deeplabv1_resnet38.npz", "seg_deeplabv1_resnet38", "lr_iter", "lr_base", 0),
    )
    for file, manifest, at, key, first in cases:
        expected, train = golden.arrays(file), settings(manifest).train
        found = [
            train.lr * rate(train, int(step) - first, int(train.steps or 0))
            for step in expected[at]
        ]
        golden.close(f"{manifest} rates", found, expected[key], rtol=1e-9)


def test_deeplab_v1(golden: Golden, tmp_path: Path) -> None:
    manifest = "seg_deeplabv1_resnet38"
    net, expected = load(golden, manifest), golden.arrays(f"{manifest}.npz")
    with torch.inference_mode():
        logits = net(normalised(net, [golden.case("seg", "v1")]))
    golden.close(f"{manifest} logits", logits[:, :, ::4, ::4], expected["logits_s4"], **FORWARD)
    golden.same(f"{manifest} labels", logits.argmax(1)[0], expected["pred"], LABELS)
    compare_multiscale(golden, manifest, net, golden.case("seg", "v1ms"), tmp_path)

    params = settings(manifest)
    freeze(net.train(), params.train)
    modes = dict(mode.split(":") for mode in expected["train_bn_modes"].tolist())
    for theirs, ours in zip(modes, renamed(manifest, [f"{name}." for name in modes]), strict=True):
        assert net.get_submodule(ours.rstrip(".")).training == bool(int(modes[theirs]))
    without_dropout(net)
    loss = Segmentation(net, params)(batch(net, *golden.case("seg", "v1tr")), 0)["pixels"]
    golden.close(f"{manifest} loss", loss, expected["train_loss_headBN_batchstats"], **LOSS)
    norms = gradients(
        manifest,
        net,
        loss,
        [n for n in expected["grad_names"] if ".bn" not in n and not n.startswith("bn")],
    )
    kept = [i for i, n in enumerate(expected["grad_names"]) if not n.startswith("bn")]
    golden.close(f"{manifest} gradients", norms, expected["grad_l2"][kept], **GRADIENT)
    counts = [len(group["params"]) for group in parameter_groups(net, params.train)]
    golden.same(f"{manifest} groups", counts, [n for n in expected["group_counts"] if n])
    still = [n for n, p in net.named_parameters() if not p.requires_grad and "bn" not in n]
    assert still == renamed(manifest, expected["no_grad"].tolist())


def without_dropout(net: nn.Module) -> None:
    for layer in net.modules():
        if isinstance(layer, nn.Dropout | nn.Dropout2d):
            layer.eval()


def compare_multiscale(
    golden: Golden, manifest: str, net: DeepLab, case: Sequence[int], folder: Path
) -> None:
    """Compare the test of the code base at several scales."""
    expected, test = golden.arrays(f"{manifest}.npz"), settings(manifest).test
    sizes = [resizing(test).size((case[0], case[1]), scale) for scale in test.scales]
    golden.same(f"{manifest} sizes", sizes, expected["ms_sizes"])
    entry, seen = looks_of(manifest, net, case, folder)
    mean = torch.from_numpy(seen) / len(sizes) / 2
    probabilities = mean.softmax(1)[0]
    for key, found in (("max", probabilities.amax(0)), ("s4", probabilities[:, ::4, ::4])):
        golden.close(f"{manifest} ms {key}", found, expected[f"ms_prob_{key}"], **MULTISCALE)
    compare_decisions(golden, manifest, entry, seen, net)
    image = fill.image(*case)
    differing = (crf_picture(image, "denormalised", normalisation(net)) != image).sum()
    golden.same(f"{manifest} de-normalised values", differing, expected["denorm_diff_count"])


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
    golden.close(
        f"{manifest} decoder", features[0][:, ::16, ::2, ::2], expected["feature_c16_s2"], **FORWARD
    )
    golden.close(f"{manifest} logits", logits[:, :, ::4, ::4], expected["logits_s4"], **FORWARD)
    golden.same(f"{manifest} labels", logits.argmax(1)[0], expected["pred"], LABELS)
    compare_multiscale(golden, manifest, net, golden.case("seg", "p_ms"), tmp_path)
    crops = batch(net, *golden.case("seg", "ptr"))
    loss = Segmentation(net, settings(manifest))(crops, 0)["pixels"]
    golden.close(f"{manifest} loss", loss, expected["loss_evalmode"], **LOSS)
    norms = gradients(manifest, net, loss, expected["grad_names"].tolist())
    golden.close(f"{manifest} gradients", norms, expected["grad_l2"], **GRADIENT)


def test_mctformers_resnet38(golden: Golden, tmp_path: Path) -> None:
    manifest = "resnet38_seg"
    net, expected = load(golden, manifest), golden.arrays(f"{manifest}.npz")
    with torch.inference_mode():
        logits = net(normalised(net, [golden.case("seg", "v1")]))
    golden.close(f"{manifest} logits", logits, expected["out"], **FORWARD)
    entry, seen = looks_of(manifest, net, golden.case("seg", "v1ms"), tmp_path)
    golden.close(f"{manifest} ms", seen[0].sum(0), expected["ms_max_prob_sum"], **MULTISCALE)
    compare_decisions(golden, manifest, entry, seen, net)
