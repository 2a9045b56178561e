"""What follows the CAMs in the authors' pipeline: CRF, AffinityNet, walk, segmentation network."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fill
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import CRF_DEVICES, Golden
from numpy.typing import NDArray
from pictures import CPU, normalised
from PIL import Image
from torch import Tensor, nn
from transformers import LOOSE, thinned

from wsss.data.index import Entry
from wsss.data.resize import pad_to_multiple
from wsss.inference.multiscale import inference
from wsss.inference.trained import normalisation, without_gradients
from wsss.inference.views import segmenter_augmentation
from wsss.nets.affinitynet import PSA_LAYOUT, AffinityNet
from wsss.nets.deeplab import LAYOUTS, DeepLab, build_deeplab
from wsss.refine import crf
from wsss.refine.affinity import WEIGHTS, affinity_loss, offsets, pair_affinities, windows
from wsss.refine.random_walk import cells, random_walk, transition, with_background
from wsss.settings import Params
from wsss.settings.resolve import resolve_settings
from wsss.stages.masks import decide
from wsss.stages.segmenter import Segmentation
from wsss.storage import checkpoint
from wsss.training.optimizer import freeze, parameter_groups

RADIUS, MARGIN, CHANNELS = 5, 4, (64, 128, 256)
CRF = {"rtol": 1e-3, "absolute": 1e-3, "share": 0.99}
MIX = {r"f9\.weight": 0.02}  # keeps the made-up weights in a useful range
LAST = {r"fc8_seg_conv2\.weight": 0.02}


def affinity_net(golden: Golden, scale: dict[str, float] | None = None) -> AffinityNet:
    net = AffinityNet("resnet38", 8, CHANNELS).eval()
    checkpoint.adopt(net, golden.checkpoint("resnet38_aff", scale), PSA_LAYOUT)
    return net


def affinities(features: Tensor) -> Tensor:
    """Return the affinities (offsets, pairs) of features (1, C, h, w)."""
    found = [alike.flatten(1)[0] for _, alike in pair_affinities(features, RADIUS, MARGIN)]
    return torch.stack(found)


def norms(net: nn.Module, total: Tensor, names: Iterable[str], layout: Any) -> list[float]:
    """Return the L2 norms of the gradients of parameters, by their published names."""
    weights = dict(net.named_parameters())
    ours = [next(iter(checkpoint.rename({name: torch.zeros(1)}, layout.table))) for name in names]
    found = torch.autograd.grad(total, [weights[name] for name in ours])
    return [gradient.norm().item() for gradient in found]


def test_crf(golden: Golden, crf_device: str | None) -> None:
    expected = golden.arrays("crf.npz")
    image = fill.image(*golden.case("crf", "image"))
    maps = np.stack([value for key, value in expected.items() if key.startswith("cam/")])
    labels = np.array(golden.case("crf", "labels"))
    for name in dict.fromkeys(key.partition("/")[0] for key in expected if "alpha" in key):
        background = (1 - maps.max(0, keepdims=True)) ** int(name.removeprefix("alpha"))
        found = crf.refine_scores(image, np.concatenate([background, maps]), "psa", crf_device)
        wanted = expected[f"{name}/prob_sub"]
        golden.close(f"pcss crf {name}", thinned(found, wanted), wanted, **CRF)
        chosen = labels[found.argmax(0)]
        golden.same(f"pcss crf {name} labels", chosen, expected[f"{name}/argmax"], 0.995)


def test_pairs(golden: Golden) -> None:
    expected = golden.arrays("psa_indices.npz")
    for case in dict.fromkeys(key.partition("/")[0] for key in expected):
        radius, _, grid = case.removeprefix("r").partition("_")
        height, width = map(int, grid.split("x"))
        numbers = np.arange(height * width).reshape(height, width)
        ends = [
            [numbers[end].ravel() for end in windows(height, width, step, int(radius) - 1)]
            for step in offsets(int(radius))
        ]
        golden.same(f"pcss pairs {case} from", ends[0][0], expected[f"{case}/from"])
        there = np.concatenate([end for _, end in ends])
        golden.same(f"pcss pairs {case} to", there, expected[f"{case}/to"])


@torch.inference_mode()
@pytest.mark.slow
def test_affinity_head_and_walk(golden: Golden) -> None:
    expected, case = golden.arrays("psa_walk.npz"), golden.case("psa", "walk")
    net, grid = affinity_net(golden), case["grid"]
    taps = [
        torch.from_numpy(fill.tensor(f"pcss/psa/conv{number}", (1, channels, *grid)))
        for number, channels in ((4, 512), (5, 1024), (6, 4096))
    ]
    net.backbone.forward = lambda images: taps
    features = net(torch.zeros(1, 3, grid[0] * 8, grid[1] * 8))
    golden.close(
        "pcss affinities of given features", affinities(features), expected["aff"], **LOOSE
    )
    pairs = [(step, a[0].numpy()) for step, a in pair_affinities(features, RADIUS, MARGIN)]
    numbers, dense = np.arange(grid[0] * grid[1]).reshape(grid), np.eye(grid[0] * grid[1])
    for move, values in pairs:
        here, there = (numbers[end].ravel() for end in windows(*grid, move, MARGIN))
        dense[here, there] = dense[there, here] = values.ravel()
    golden.close("pcss matrix, sums", dense.sum(1), expected["dense_rowsum"], **LOOSE)
    golden.close("pcss matrix, a row", dense[7], expected["dense_row7"], **LOOSE)
    for key in (key for key in expected if key.startswith("walk_b")):
        beta, steps = (int(part[1:]) for part in key.split("_")[1:])
        step = transition(pairs, *grid, beta, MARGIN)
        walked = random_walk(expected["walk_input"], step, 2**steps)
        golden.close(f"pcss {key}", walked, expected[key], rtol=1e-3, absolute=1e-5)


@torch.inference_mode()
@pytest.mark.slow
def test_affinity_net(golden: Golden) -> None:
    expected = golden.arrays("net_resnet38_aff.npz")
    net = affinity_net(golden, MIX)
    images = normalised(net, [golden.case("psa", "aff")])
    for name, tap in zip(("conv4", "conv5", "conv6"), net.backbone(images), strict=True):
        wanted = expected[f"{name}_sub"]
        golden.close(f"pcss {name}", thinned(tap[0], wanted), wanted, rtol=1e-4, absolute=1e-2)
    golden.close("pcss affinities", affinities(net(images)), expected["aff"], **LOOSE)


@pytest.mark.slow
def test_affinity_labels_and_loss(golden: Golden) -> None:
    expected, losses = golden.arrays("psa_labels.npz"), golden.json("losses_psa.json")
    label = expected["label"]
    for kind, pairs in zip(("bg", "fg", "neg"), pair_kinds(label), strict=True):
        golden.same(f"pcss pair labels {kind}", pairs, expected[kind])
    net = affinity_net(golden, MIX)
    params = resolve_settings(Params(), "voc12", "mctformer", "published").affinity.train
    freeze(net, params)
    groups = [len(group["params"]) for group in parameter_groups(net, params)]
    golden.same("pcss affinity groups", groups, [n for n in losses["group_sizes"] if n])
    features = net(normalised(net, [golden.case("psa", "loss")]))
    pairs = pair_affinities(features, RADIUS, MARGIN)
    terms = affinity_loss(pairs, torch.from_numpy(label.astype(np.int64))[None], MARGIN)
    total = torch.stack(list(terms.values())).sum()
    measured = [terms[name].item() / WEIGHTS[name] for name in WEIGHTS] + [total.item()]
    golden.close("pcss affinity loss", measured, list(losses["terms"].values()), rtol=1e-4)
    found = norms(net, total, losses["grad_l2"], PSA_LAYOUT)
    golden.close("pcss affinity gradients", found, list(losses["grad_l2"].values()), rtol=5e-4)


def pair_kinds(label: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return which pairs (offsets, pairs) are background, alike, and unlike."""
    ends = [
        [label[end].ravel() for end in windows(*label.shape, step, MARGIN)]
        for step in offsets(RADIUS)
    ]
    here, there = (np.stack(each) for each in zip(*ends, strict=True))
    known, same = (here < 255) & (there < 255), here == there
    return known & same & (here == 0), known & same & (here > 0), known & ~same


@torch.inference_mode()
@pytest.mark.slow
def test_labels_of_an_image_after_the_walk(golden: Golden) -> None:
    expected, case = golden.arrays("psa_infer.npz"), golden.case("psa", "infer")
    net = affinity_net(golden, MIX)
    labels = [int(key.removeprefix("cam/class")) for key in expected if key.startswith("cam/")]
    maps = np.stack([expected[f"cam/class{label}"] for label in labels])
    features = net(pad_to_multiple(normalised(net, [case]), 8))
    height, width = features.shape[2:]
    # The authors' copy keeps its radius on grids below 11 cells, where the stage takes a smaller one.
    pairs = [(step, a[0].numpy()) for step, a in pair_affinities(features, RADIUS, MARGIN)]
    step = transition(pairs, height, width, golden.case("psa", "walk")["beta"], MARGIN)
    for key in (key for key in expected if key.startswith("label_bg")):
        value = float(key.removeprefix("label_bg"))
        pooled = cells(with_background(maps, "constant", value), 8)
        walked = random_walk(pooled, step, 2 ** golden.case("psa", "infer_log2_steps"))
        large = F.interpolate(torch.from_numpy(walked)[None], scale_factor=8, mode="bilinear")[0]
        chosen = np.array([0, *(label + 1 for label in labels)])[large.argmax(0)]
        golden.same(f"pcss walked {key}", chosen[: case[0], : case[1]], expected[key], 0.999)


def segmentation_net(golden: Golden) -> DeepLab:
    params = resolve_settings(Params(), "voc12", "mctformer", "published").segmenter
    net = build_deeplab(params, 20)
    checkpoint.adopt(net, golden.checkpoint("resnet38_seg", LAST), LAYOUTS["resnet38_seg"])
    return net.eval()


@pytest.mark.slow
def test_segmentation_network(golden: Golden) -> None:
    expected, losses = golden.arrays("net_resnet38_seg.npz"), golden.json("losses_seg.json")
    net = segmentation_net(golden)
    params = resolve_settings(Params(), "voc12", "mctformer", "published").segmenter
    with torch.inference_mode():
        found = net(normalised(net, [golden.case("seg", "net")]))
    golden.close("pcss segmentation logits", found[0], expected["logits"], **LOOSE)
    size = losses["size"]
    batch = {
        "image": normalised(net, [(size, size, seed) for seed in losses["seeds"]]),
        "mask": torch.from_numpy(golden.arrays("seg_label.npz")["label"].astype(np.int64)),
    }
    freeze(net, params.train)
    groups = parameter_groups(net, params.train)
    wanted = losses["optimizer_groups"]
    frozen = sum(not weight.requires_grad for weight in net.parameters())
    counts = [len(groups[0]["params"]) + frozen, len(groups[1]["params"])]  # theirs has these too
    golden.same("pcss segmentation groups", counts, [g["n_params"] for g in wanted])
    rates = [params.train.lr * group["factor"] for group in groups]
    golden.close("pcss segmentation rates", rates, [g["lr"] for g in wanted], rtol=1e-9)
    assert {(g["momentum"], g["weight_decay"]) for g in wanted} == {
        (params.train.momentum, params.train.weight_decay)
    }
    loss = Segmentation(net, params)(batch, 0)["pixels"]
    golden.close("pcss segmentation loss", loss.item(), losses["ce"], rtol=1e-4)
    found = norms(net, loss, losses["grad_l2"], LAYOUTS["resnet38_seg"])
    golden.close("pcss segmentation gradients", found, list(losses["grad_l2"].values()), rtol=1e-3)


@pytest.mark.slow
def test_segmentation_at_several_scales(golden: Golden, tmp_path: Path) -> None:
    expected = golden.arrays("seg_infer.npz")
    params = resolve_settings(Params(), "voc12", "mctformer", "published").segmenter
    net, case = segmentation_net(golden), golden.case("seg", "infer")
    path = tmp_path / "picture.png"
    Image.fromarray(fill.image(*case)).save(path)
    entry = Entry("picture", str(path), None, (), "val", (case[0], case[1]), "")
    look = without_gradients(net)
    normalise, test = normalisation(net), params.test
    augmentation = segmenter_augmentation(params)
    ((_, (seen,)),) = inference(look, [[entry]], augmentation, normalise, CPU)
    wanted = expected["prob_max_sub"]
    golden.close("pcss segmentation, maximum", thinned(seen[0], wanted), wanted, **CRF)
    for name in ("none", test.crf):
        key, chosen = f"label_crf{name != 'none'}", test.model_copy(update={"crf": name})
        for golden.suffix, device in CRF_DEVICES.items():
            labels = decide([entry], seen, chosen, normalise, device)[0]
            golden.same(f"pcss segmentation {key}", labels, expected[key], 0.995)
    sub = expected["crf_sub"]
    for golden.suffix, device in CRF_DEVICES.items():
        refined = crf.refine_scores(fill.image(*case), seen[0].numpy(), test.crf, device)
        golden.close("pcss segmentation, CRF", thinned(refined, sub), sub, **CRF)
