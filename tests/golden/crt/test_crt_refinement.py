"""From CRT's CAMs to its pseudo labels: relation labels, IRN and walk of the shared code."""

from collections.abc import Sequence
from typing import Any

import fill
import numpy as np
import pytest
import torch
from crt_networks import PUBLISHED, SMALL, thinned
from golden import FORWARD, Golden, unpack
from numpy.typing import NDArray
from pictures import normalised

from wsss.nets.irn import IRN, IRN_LAYOUT, edge_displacement
from wsss.refine import crf
from wsss.refine.affinity import (
    WEIGHTS,
    from_thresholds,
    path_affinities,
    paths,
    reduce_labels,
    windows,
)
from wsss.refine.random_walk import random_walk, transition
from wsss.scores.metrics import seed
from wsss.stages.affinity import Relations
from wsss.storage import checkpoint
from wsss.storage.cam_archive import enlarge

TABLES = r"path_indices\d+|disp_target"
CRF_LABELS = 0.995
WALK = {"atol": 5e-4}  # of the largest: eight squarings in float32
ENERGY = {"rtol": 1e-6}


def irn(golden: Golden) -> IRN:
    affinity = PUBLISHED.affinity
    net = IRN(affinity.backbone, affinity.stride, affinity.irn)
    checkpoint.adopt(net, golden.checkpoint("res50_irn", SMALL, without=TABLES), IRN_LAYOUT)
    return net.eval()


def test_relation_labels(golden: Golden, crf_device: str | None) -> None:
    expected, case = golden.arrays("ir_label.npz"), golden.case("ir_label")
    confident = PUBLISHED.affinity.confident
    golden.same("levels", [confident.foreground, confident.background], [case["fg"], case["bg"]])
    image = fill.image(*case["size"], case["seed"])
    compare_relations(golden, image, expected["cams"], expected["keys"], "", crf_device)
    compact = seed(expected["cams"], range(len(expected["keys"])), confident.foreground)
    energy = crf.labels_unary(compact, len(expected["keys"]) + 1)
    flat = np.asarray(energy).reshape(len(expected["keys"]) + 1, -1)
    golden.close("energies", flat[:, 0], expected["unary_first_column"], **ENERGY)
    wanted, every = thinned(expected, "unary")
    golden.close("energies, thinned", flat[:, ::every], wanted, **ENERGY)


def test_relation_labels_of_the_network(golden: Golden, crf_device: str | None) -> None:
    maps, case = golden.arrays("cam_multi_scale.npz"), golden.case("cam_multi_scale")
    image = fill.image(*case["size"], case["seed"])
    compare_relations(golden, image, maps["high_res"], maps["keys"], "net_", crf_device)


def compare_relations(
    golden: Golden,
    image: NDArray[np.uint8],
    maps: NDArray[Any],
    keys: Any,
    prefix: str,
    crf_device: str | None,
) -> None:
    expected, confident = golden.arrays("ir_label.npz"), PUBLISHED.affinity.confident
    names, found = np.array([0, *(keys + 1)]), {}
    for kind, level in (("fg", confident.foreground), ("bg", confident.background)):
        compact = seed(maps, range(len(keys)), level)
        before = expected[f"{prefix}{kind}_argmax"]
        golden.same(f"{prefix}{kind} before the CRF", names[compact], before)
        unary = crf.labels_unary(compact, len(keys) + 1)
        found[kind] = crf.infer(image, [unary], confident.crf, crf_device)[0].argmax(0)
        after = expected[f"{prefix}{kind}_crf"]
        golden.same(f"{prefix}{kind} after the CRF", names[found[kind]], after, CRF_LABELS)
    labels = from_thresholds(found["fg"], found["bg"], keys.tolist())
    wanted = expected[f"{prefix}relation_label"]
    golden.same(f"{prefix}relation labels", labels, wanted, CRF_LABELS)


def test_pairs_and_paths(golden: Golden) -> None:
    for name, case in golden.json("path_index.json").items():
        radius, (height, width) = int(name.removeprefix("radius")), case["grid"]
        steps = [step for step, _ in paths(radius)]
        golden.same(f"{name} offsets", steps, case["search_dst"])
        for length, wanted in case["paths_per_length"].items():
            lines = [list(map(list, line)) for _, line in paths(radius) if len(line) == int(length)]
            assert lines == wanted, f"{name}: paths of {length} cells"
        grid = np.arange(height * width).reshape(height, width)
        ends = [windows(height, width, step, radius - 1) for step in steps]
        sources = grid[ends[0][0]].ravel()
        every = sources.tolist().index(case["src_indices"][1])  # of a large grid some are kept
        golden.same(f"{name} sources", sources[::every], case["src_indices"])
        sums = [int(grid[end].sum()) for _, end in ends]
        golden.same(f"{name} ends", sums, case["dst_indices_sum"])


@pytest.mark.slow
def test_inference_of_irn(golden: Golden) -> None:
    expected, case = golden.arrays("irn_infer.npz"), golden.case("irn_infer")
    net = irn(golden)
    images = normalised(net, [(*case["size"], case["seed"])])
    golden.same("padding", PUBLISHED.walk.pad_px, case["padded"])
    seen: list[Any] = []
    net.register_forward_hook(lambda *found: seen.append(found[2]))
    with torch.inference_mode():
        edge, field = edge_displacement(net, images, PUBLISHED.walk.pad_px)
    assert field is not None
    golden.close("boundaries", edge[0], expected["edge"], **FORWARD)
    golden.close("displacements", field[0], expected["displacement"], **FORWARD)
    for key, found in zip(("edge_logits", "displacement"), seen[0], strict=True):
        wanted, every = thinned(expected, key)
        golden.close(f"padded {key}", found[..., ::every, ::every], wanted, **FORWARD)
    walked = spread(edge[0, 0].numpy(), golden.arrays("cam_multi_scale.npz")["cam"])
    wanted = golden.arrays("sem_seg.npz")["rw"]
    golden.close("walk along IRN's boundaries", walked[:, None], wanted, **WALK)


@pytest.mark.slow
def test_training_of_irn(golden: Golden) -> None:
    expected, case = golden.arrays("irn_train.npz"), golden.case("irn_train")
    net, radius = irn(golden), case["radius"]
    golden.same("radius", PUBLISHED.affinity.radius, radius)
    net.train().backbone.eval().requires_grad_(False)
    images = normalised(net, [(*case["size"], seed_) for seed_ in case["seeds"]])
    labels = expected["relation_label"]
    reduced = reduce_labels(labels, tuple(case["grid"]))
    golden.same("reduced labels", reduced, expected["reduced_label"])
    batch = {"image": images, "mask": torch.from_numpy(labels)}
    logits, _ = net(images)
    compare_pairs(golden, logits, reduced, radius)
    terms = Relations(net, PUBLISHED.affinity)(batch, 0)
    compare_losses(golden, net, terms)


def compare_pairs(
    golden: Golden, logits: torch.Tensor, labels: NDArray[np.uint8], radius: int
) -> None:
    expected = golden.arrays("irn_train.npz")
    pairs = path_affinities(logits[:, 0].detach().sigmoid(), radius, radius - 1)
    found = torch.stack([values.flatten(1) for _, values in pairs], 1)
    for key, terms in (
        ("pos_loss", -(found + 1e-5).log()),
        ("neg_loss", -(1 + 1e-5 - found).log()),
    ):
        wanted, every = thinned(expected, key)
        golden.close(key, terms.flatten(1)[:, ::every], wanted, **FORWARD)
    height, width = labels.shape[1:]
    kinds: dict[str, list[Any]] = {"bg_pos": [], "fg_pos": [], "neg": []}
    for step, _ in paths(radius):
        here, there = windows(height, width, step, radius - 1)
        first, second = (labels[:, at[0], at[1]].reshape(len(labels), -1) for at in (here, there))
        known = (first < 21) & (second < 21)
        kinds["bg_pos"].append(known & (first == 0) & (second == 0))
        kinds["fg_pos"].append(known & (first == second) & (first > 0))
        kinds["neg"].append(known & (first != second))
    shape = tuple(expected["label_shape"].tolist())
    for name, rows in kinds.items():
        wanted = unpack(expected[f"{name}_bits"], shape)
        golden.same(f"pairs {name}", np.stack(rows, 1), wanted)
        golden.same(f"count of {name}", np.stack(rows).sum(), count_of(golden, name))


def count_of(golden: Golden, kind: str) -> float:
    return float(golden.json("irn_losses.json")[f"n_{kind.removesuffix('_pos')}"])


def compare_losses(golden: Golden, net: IRN, terms: dict[str, torch.Tensor]) -> None:
    expected = golden.json("irn_losses.json")
    total = torch.stack(list(terms.values())).sum()
    means = {name: terms[name].item() / WEIGHTS[name] for name in WEIGHTS}
    measured = {
        "bg_pos": means["background"],
        "fg_pos": means["foreground"],
        "pos": (means["background"] + means["foreground"]) / 2,
        "neg": means["unlike"],
        "dp_fg": terms["moves"].item() * 2,
        "dp_bg": terms["rests"].item() * 2,
        "total": total.item(),
    }
    for name, value in measured.items():
        golden.close(f"IRN {name}", value, expected[name], rtol=1e-4)
    norms = {k.partition("/")[2]: v for k, v in expected.items() if k.startswith("grad_norm/")}
    empty = {name: torch.empty(0) for name, norm in norms.items() if norm is not None}
    weights = dict(net.named_parameters())
    ours = [weights[name] for name in checkpoint.rename(empty, IRN_LAYOUT.table)]
    found = [grad.norm().item() for grad in torch.autograd.grad(total, ours)]
    golden.close("IRN gradients", found, [norms[name] for name in empty], rtol=1e-3)


def step_of(edge: NDArray[np.float32]) -> Any:
    """Return the matrix of one step of the published walk along boundaries (h, w)."""
    radius = PUBLISHED.walk.radius or PUBLISHED.affinity.radius
    found = path_affinities(torch.from_numpy(edge)[None], radius)
    pairs = ((step, values[0].numpy()) for step, values in found)
    return transition(pairs, *edge.shape, PUBLISHED.walk.beta)


def spread(edge: NDArray[np.float32], cam: NDArray[Any]) -> NDArray[Any]:
    """Return maps (K, h, w) after the published walk."""
    return random_walk(cam * (1 - edge), step_of(edge), 2**PUBLISHED.walk.log2_steps)


def labelled(walked: NDArray[Any], size: Sequence[int], keys: Any, level: float) -> NDArray[Any]:
    """Return the pseudo labels (H, W) of walked maps."""
    large = enlarge(walked, (size[0], size[1]), PUBLISHED.cam.stride)
    return seed((large / large.max()).astype(np.float32), keys, level)


def test_the_random_walk(golden: Golden) -> None:
    expected, case = golden.arrays("random_walk.npz"), golden.case("random_walk")
    walk = PUBLISHED.walk
    published = [walk.radius, walk.beta, walk.log2_steps, PUBLISHED.pseudo.threshold]
    wanted = [case[key] for key in ("radius", "beta", "exp_times", "background")]
    golden.same("settings of the walk", published, wanted)
    edge, cam = expected["edge"][0], expected["cam"]
    once = step_of(edge).toarray()  # rows are cells, and sum to 1: the published matrix, turned
    wanted, every = thinned(expected, "transition_once")
    golden.close("one step", once.T[::every], wanted, **WALK)
    many = np.linalg.matrix_power(once, 2**walk.log2_steps)
    wanted, every = thinned(expected, "transition")
    golden.close("all steps", many.T[::every], wanted, **WALK)
    walked = spread(edge, cam)
    golden.close("walked maps", walked[:, None], expected["rw"], **WALK)
    size = expected["out_size"].tolist()
    labels = labelled(walked, size, range(len(cam)), case["background"])
    golden.same("labels of the walk", labels, expected["label"], share=0.999)


def test_pseudo_labels(golden: Golden) -> None:
    expected, maps = golden.arrays("sem_seg.npz"), golden.arrays("cam_multi_scale.npz")
    size, level = golden.case("cam_multi_scale", "size"), PUBLISHED.pseudo.threshold
    walked = spread(expected["given_edge"][0], maps["cam"])
    golden.close("walk, given boundaries", walked[:, None], expected["given_edge_rw"], **WALK)
    labels = labelled(walked, size, maps["keys"], level)
    golden.same("labels, given boundaries", labels, expected["given_edge_label"], share=0.999)
