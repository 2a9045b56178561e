"""Pairs, affinity labels and random walks of PSA and IRNet."""

from collections.abc import Sequence

import fill
import numpy as np
import torch
import torch.nn.functional as F
from golden import Golden, unpack
from numpy.typing import NDArray
from pictures import cams, label_map

from wsss.refine import crf
from wsss.refine.affinity import (
    from_thresholds,
    offsets,
    path_affinities,
    paths,
    reduce_labels,
    windows,
)
from wsss.refine.random_walk import random_walk, transition
from wsss.scores.metrics import seed as seed_labels

WALK = {"absolute": 2e-4}
CONFIDENT = {"irn": (0.30, 0.05), "crt": (0.35, 0.15), "semformer": (0.11, 0.15)}


def kinds(
    grid: NDArray[np.uint8], steps: Sequence[tuple[int, int]], margin: int
) -> list[NDArray[np.bool_]]:
    """Return background, foreground and unlike pairs (offsets, sources)."""
    found: list[list[NDArray[np.bool_]]] = [[], [], []]
    for step in steps:
        here, there = windows(*grid.shape, step, margin)
        first, second = grid[here].ravel(), grid[there].ravel()
        known = (first != 255) & (second != 255)
        same = known & (first == second)
        for rows, kind in zip(
            found, (same & (first == 0), same & (first > 0), known & ~same), strict=True
        ):
            rows.append(kind)
    return [np.stack(rows) for rows in found]


def test_psa_labels_of_pairs(golden: Golden) -> None:
    expected = golden.arrays("psa_aff.npz")
    height, width, seed = golden.case("psa", "affl")
    size = (-(-height // 8), -(-width // 8))
    golden.same("psa label map", label_map(*size, seed), expected["lab_map"])
    shape = tuple(expected["lab_shape"])
    found = kinds(expected["lab_map"], offsets(5), 4)
    for name, pairs in zip(("bg", "fg", "neg"), found, strict=True):
        golden.same(f"psa pairs {name}", pairs, unpack(expected[f"lab_{name}"], shape))
    golden.same("psa pair counts", [pairs.sum() for pairs in found], expected["lab_counts"])


def test_irn_paths_and_their_affinities(golden: Golden) -> None:
    expected = golden.arrays("irn_steps.npz")
    for radius in (5, 10):
        own = {
            key.split("_", 1)[1]: value
            for key, value in expected.items()
            if key.startswith(f"pi{radius}_")
        }
        steps, lines = zip(*paths(radius), strict=True)
        golden.same(f"irn radius {radius} offsets", steps, own["search_dst"])
        flat = [cell for line in lines for cell in line]
        golden.same(f"irn radius {radius} path cells", flat, own["paths_flat"])
        height, width = own["size"].tolist()
        grid = np.arange(height * width).reshape(height, width)
        ends = [windows(height, width, step, radius - 1) for step in steps]
        golden.same(f"irn radius {radius} sources", grid[ends[0][0]].ravel(), own["src"])
        golden.same(f"irn radius {radius} ends", [grid[end].ravel() for _, end in ends], own["dst"])
        edge = fill.image(height, width, 77 + radius)[..., 0].astype(np.float32) / 255
        found = [
            a.flatten(1)
            for _, a in path_affinities(torch.from_numpy(edge)[None], radius, radius - 1)
        ]
        golden.close(
            f"irn radius {radius} affinities", torch.stack(found, 1), own["aff"], rtol=1e-6
        )


def test_irn_labels_of_pairs(golden: Golden) -> None:
    expected = golden.arrays("irn_steps.npz")
    full = label_map(*golden.case("irn", "lab"))
    side = golden.case("irn", "crop")
    crop = np.full((side, side), 255, np.uint8)
    part = full[:side, :side]
    crop[: part.shape[0], : part.shape[1]] = part
    reduced = reduce_labels(crop, (side // 4, side // 4))
    golden.same("irn reduced labels", reduced, expected["red_label"])
    found = kinds(reduced, [step for step, _ in paths(10)], 9)
    for name, pairs in zip(("bg", "fg", "neg"), found, strict=True):
        wanted = unpack(expected[f"lab_{name}"], tuple(expected["lab_shape"]))
        golden.same(f"irn pairs {name}", pairs, wanted)
    golden.same("irn pair counts", [pairs.sum() for pairs in found], expected["lab_counts"])


def test_irn_relation_labels(golden: Golden, crf_device: str | None) -> None:
    expected = golden.arrays("irn_steps.npz")
    case = golden.case("irn", "conf")
    maps, image = cams(case), fill.image(*case)
    for name, levels in CONFIDENT.items():
        compact = [seed_labels(maps, range(len(maps)), level) for level in levels]
        golden.same(f"{name} foreground before the CRF", compact[0], expected[f"fg_in_{name}"])
        golden.same(f"{name} background before the CRF", compact[1], expected[f"bg_in_{name}"])
        unaries = [crf.labels_unary(part, len(maps) + 1) for part in compact]
        posteriors = crf.infer(image, unaries, "irn_label", crf_device)
        found = from_thresholds(posteriors[0].argmax(0), posteriors[1].argmax(0), (3, 14))
        golden.same(f"{name} relation labels", found, expected[f"conf_{name}"], 0.995)


def test_irn_walk(golden: Golden) -> None:
    expected = golden.arrays("irn_steps.npz")
    case = golden.case("irn", "rw")
    height, width, seed = case
    strength = np.clip(fill.image(*case)[..., 0].astype(np.float32) - 90, 0, 120) / 120
    edge = torch.from_numpy(0.9 * strength**2)
    maps = cams(case) * (1 - edge.numpy())
    walked = {}
    for name, beta, log2_steps in (("b10", 10, 8), ("b10e6", 10, 6), ("b8", 8, 8)):
        pairs = ((step, a[0].numpy()) for step, a in path_affinities(edge[None], 5))
        step = transition(pairs, height, width, beta)
        walked[name] = random_walk(maps, step, 2**log2_steps)
        golden.close(f"irn walk {name}", walked[name], expected[f"rw_{name}"], **WALK)
    large = torch.from_numpy(walked["b10"])[None]
    full = F.interpolate(large, scale_factor=4, mode="bilinear")[
        0, :, : 4 * height - 1, : 4 * width - 3
    ]
    full = (full / full.max()).numpy()
    golden.close(
        "irn walk, largest per class",
        full.max((1, 2)),
        expected["rw_up_max_per_class"],
        absolute=2e-4,
    )
    found = seed_labels(full.astype(np.float32), (3, 14), 0.25)
    golden.same("irn semantic labels", found, expected["rw_pred"], 0.995)
