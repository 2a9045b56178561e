"""From SemFormer's CAMs to its pseudo labels: affinity labels, AffinityNet, walk, CRF."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fill
import numpy as np
import pytest
import torch
from golden import FORWARD, Golden, unpack
from networks import CLASSES, PUBLISHED, thin
from numpy.typing import NDArray
from pictures import normalised
from PIL import Image

from wsss.data.index import Entry, Index
from wsss.nets.irn import IRN, PUZZLE_LAYOUT, edge_displacement
from wsss.refine.affinity import path_affinities, paths, windows
from wsss.refine.random_walk import random_walk, transition
from wsss.stages import confident, pseudo
from wsss.stages.affinity import Relations, pair_margin
from wsss.stages.walk import neighbours, spread_cam
from wsss.storage import archive, checkpoint
from wsss.storage.cam_archive import Cam, enlarge, grid, pack

NAMES = tuple(str(number) for number in range(1, CLASSES + 1))
CRF_LABELS = 0.999  # as the set's README says; without a CRF labels are equal
HALF = {"absolute": 1e-3}  # walked maps are stored with 16 bits


def affinitynet(golden: Golden) -> IRN:
    """Load a whole published file: weights, their other names, and tables of pixels."""
    layout = golden.json("layout_affinitynet.json")
    path = golden.checkpoint("affinitynet")
    state = torch.load(path, weights_only=True)
    state |= {alias: state[key] for alias, key in layout["aliases"].items()}
    tables = layout["computed_int64_buffers_512px"]
    state |= {name: torch.zeros(1, dtype=torch.int64) for name in tables}
    torch.save({name: state[name] for name in layout["state_dict_order"]}, path)
    affinity = PUBLISHED.affinity
    net = IRN(affinity.backbone, affinity.stride, affinity.irn).eval()
    checkpoint.adopt(net, path, PUZZLE_LAYOUT)
    return net


def mild(net: IRN, case: dict[str, Any]) -> IRN:
    """Keep the boundaries of made-up weights from being all or nothing."""
    with torch.no_grad():
        net.edge.mix.weight.mul_(case["fc_edge6_weight_times"])
        net.edge.mix.bias.fill_(case["fc_edge6_bias_set_to"])  # type: ignore[union-attr]
    return net


def pictures(net: IRN, case: dict[str, Any], seeds: Sequence[int]) -> torch.Tensor:
    return normalised(net, [(case["height"], case["width"], seed) for seed in seeds])


def test_the_network_of_affinities(golden: Golden) -> None:
    expected, case = golden.arrays("affinitynet.npz"), golden.json("affinitynet.json")["train"]
    net, radius = affinitynet(golden), PUBLISHED.affinity.radius
    margin = pair_margin(PUBLISHED.affinity)
    images = pictures(net, case, case["image_seeds"])
    with torch.inference_mode():
        for number, feature in enumerate(net.backbone(images), 1):
            name = f"stage{number}"
            golden.same(f"affinity {name} shape", feature.shape, case["stage_shapes"][number - 1])
            part = thin(feature, golden.case("strides", "affinitynet", name))
            golden.close(f"affinity {name}", part, expected[name], **FORWARD)
        edges, steps = net(images)
        assert steps is None
        golden.close("affinity boundary logits", edges, expected["edge_logits"], **FORWARD)
        pairs = path_affinities(edges[:, 0].sigmoid(), radius, margin)
        found = torch.stack([values.flatten(1) for _, values in pairs], 1)
    golden.same("affinity shape", found.shape, case["affinity_shape"])
    kept = thin(found, golden.case("strides", "affinitynet", "affinity"))
    golden.close("affinities", kept, expected["affinity"], **FORWARD)
    means = found.mean((0, 2))
    golden.close("mean affinities", means, expected["affinity_mean_per_path"], **FORWARD)


def kinds(masks: NDArray[np.uint8], radius: int) -> dict[str, NDArray[np.bool_]]:
    """Return which pairs (B, offsets, sources) are alike in background, in foreground, unlike."""
    ends = [windows(*masks.shape[1:], step, radius - 1) for step, _ in paths(radius)]
    first, second = (
        np.stack([masks[(slice(None), *end[which])].reshape(len(masks), -1) for end in ends], 1)
        for which in (0, 1)
    )
    known = (first != 255) & (second != 255)
    same = known & (first == second)
    return {"bg_pos": same & (first == 0), "fg_pos": same & (first > 0), "neg": known & ~same}


def test_the_losses_of_affinities(golden: Golden) -> None:
    expected, case = golden.arrays("affinitynet.npz"), golden.json("affinitynet.json")["train"]
    masks = expected["label_maps"]
    for name, found in kinds(masks, PUBLISHED.affinity.radius).items():
        golden.same(f"number of pairs {name}", found.sum(), case["label_sums"][name])
        wanted = unpack(expected[f"label_{name}"], tuple(case["label_packbits_shape"]))
        kept = thin(found, golden.case("strides", "affinitynet", "labels"))
        golden.same(f"pairs {name}", kept, wanted)
    net = affinitynet(golden)
    images = pictures(net, case, case["image_seeds"])
    objective = Relations(net, PUBLISHED.affinity)
    terms = objective({"image": images, "mask": torch.from_numpy(masks.astype(np.int64))}, 0)
    losses = case["losses"]
    wanted = {"background": losses["bg"] / 4, "foreground": losses["fg"] / 4}
    wanted["unlike"] = losses["neg"] / 2
    for name, value in wanted.items():
        golden.close(f"affinity loss {name}", terms[name].detach(), value, rtol=1e-4)
    total = torch.stack(list(terms.values())).sum()
    golden.close("affinity loss", total.detach(), losses["total"], rtol=1e-4)
    names = {key: torch.empty(0) for key in case["grad_l2"]}
    weights = dict(net.named_parameters())
    ours = [weights[name] for name in checkpoint.rename(names, PUZZLE_LAYOUT.table)]
    norms = [gradient.double().norm() for gradient in torch.autograd.grad(total, ours)]
    golden.close("affinity gradients", norms, list(case["grad_l2"].values()), rtol=1e-4)


def test_the_paths_between_cells(golden: Golden) -> None:
    for name, wanted in golden.json("affinitynet.json")["paths"].items():
        radius = wanted["radius_floor"] + 1
        steps, lines = zip(*paths(radius), strict=True)
        golden.same(f"{name} steps", steps, wanted["destinations"])
        lengths = [len(line) for line in lines]
        counts = [[length, lengths.count(length)] for length in sorted(set(lengths))]
        golden.same(f"{name} lengths", counts, wanted["lengths"])
        for length, line in zip(sorted(set(lengths)), wanted["first_paths"], strict=True):
            golden.same(f"{name} path of {length}", lines[lengths.index(length)], line)


@pytest.mark.slow
def test_boundaries_of_a_picture(golden: Golden) -> None:
    expected = golden.arrays("affinitynet.npz")
    case = golden.json("affinitynet.json")["edge_inference"]
    net = mild(affinitynet(golden), case)
    with torch.inference_mode():
        images = pictures(net, case, [case["image_seed"]])
        edges, _ = edge_displacement(net, images, PUBLISHED.walk.pad_px)
    golden.close("boundaries of a picture", edges[0], expected["edge_inference"], **FORWARD)


def test_walks(golden: Golden) -> None:
    expected, cases = golden.arrays("random_walk.npz"), golden.json("random_walk.json")
    steps = golden.case("strides", "random_walk", "rw_up")
    for name in (name for name in cases if f"{name}_x" in expected):
        case, edges = cases[name], torch.from_numpy(expected[f"{name}_edge"])
        pairs = ((at, near[0].numpy()) for at, near in path_affinities(edges, case["radius"]))
        step = transition(pairs, *edges.shape[1:], case["beta"])
        maps = expected[f"{name}_x"] * (1 - expected[f"{name}_edge"])
        walked = random_walk(maps, step, 2 ** case["times"])
        golden.close(f"walk {name}", walked[:, None], expected[f"{name}_rw"], **FORWARD)
        large = enlarge(walked, tuple(case["crop"]), PUBLISHED.cam.stride)
        wanted = expected[f"{name}_rw_up"]
        golden.close(f"walk {name}, enlarged", thin(large / large.max(), steps), wanted, **FORWARD)


@pytest.mark.slow
def test_the_walk_of_a_picture(golden: Golden) -> None:
    expected, case = golden.arrays("random_walk.npz"), golden.json("random_walk.json")["script"]
    net = mild(affinitynet(golden), case)
    with torch.inference_mode():
        images = pictures(net, case, [case["image_seed"]])
        edges, _ = edge_displacement(net, images, PUBLISHED.walk.pad_px)
    near = neighbours(edges[0], net.stride, PUBLISHED.affinity, PUBLISHED.walk)
    labels, size = np.array(case["classes_1based"], np.int16) - 1, (case["height"], case["width"])
    golden.same("walk keys", [0, *(labels + 1)], expected["script_keys"])
    cam = Cam(labels, expected["script_cam"], size, PUBLISHED.cam.stride)
    walked = spread_cam(cam, near, PUBLISHED.walk)
    golden.close("walk of a picture", walked.full(), expected["script_rw"], **HALF)


def stored(folder: Path, maps: NDArray[Any], case: dict[str, Any]) -> tuple[Path, Entry]:
    """Write a picture and an archive with its maps (K, H, W)."""
    size = (case["height"], case["width"])
    picture = folder / "picture.png"
    Image.fromarray(fill.image(*size, case["image_seed"])).save(picture)
    labels = tuple(str(number) for number in case["classes_1based"])
    small = np.zeros((len(labels), *grid(size, PUBLISHED.cam.stride)), np.float16)
    numbers = np.array(case["classes_1based"], np.int16) - 1
    with archive.Writer(folder / "maps.zip") as writer:
        cam = Cam(numbers, small, size, PUBLISHED.cam.stride, maps.astype(np.float16))
        writer.add("picture.npz", pack(cam))
    entry = Entry("picture", str(picture), None, labels, "train", size, "")
    return folder / "maps.zip", entry


def test_affinity_labels(golden: Golden, tmp_path: Path, crf_device: str | None) -> None:
    expected, cases = golden.arrays("labels.npz"), golden.json("labels.json")
    params = PUBLISHED.affinity.confident
    assert (params.foreground, params.background) == (0.11, 0.15)
    for number, case in cases.items():
        (tmp_path / number).mkdir()
        maps, entry = stored(tmp_path / number, expected[f"{number}_hr_cam"], case)
        index = Index("pictures", NAMES, (entry,))
        start = f"{number}_affinity_"
        for key in (key for key in expected if key.startswith(start)):
            levels = [float(part[2:]) for part in key.removeprefix(start).split("_")]
            own = params.model_copy(
                update=dict(zip(("foreground", "background"), levels, strict=True))
            )
            found = confident.label(index, maps, own, entry, crf_device)
            golden.same(key, found, expected[key], CRF_LABELS)


def test_pseudo_labels(golden: Golden, tmp_path: Path, crf_device: str | None) -> None:
    expected, cases = golden.arrays("labels.npz"), golden.json("labels.json")
    names = {"0": "none", "1": PUBLISHED.pseudo.crf, "10": PUBLISHED.affinity.confident.crf}
    for number, case in cases.items():
        (tmp_path / number).mkdir()
        maps, entry = stored(tmp_path / number, expected[f"{number}_rw"], case)
        start = f"{number}_pseudo_t"
        for key in (key for key in expected if key.startswith(start)):
            threshold, iterations = key.removeprefix(start).split("_crf")
            changes = {"threshold": float(threshold), "crf": names[iterations]}
            params = PUBLISHED.pseudo.model_copy(update=changes)
            found = pseudo.label(maps, params, CLASSES + 1, entry, crf_device)
            golden.same(key, found, expected[key], 1.0 if iterations == "0" else CRF_LABELS)
