"""Boxes from maps and their scores, as CRT (and TS-CAM) localize."""

import numpy as np
import torch
import torch.nn.functional as F
from crt_networks import LOCALIZED, thinned
from golden import Golden

from wsss.scores import boxes
from wsss.scores.boxes import in_frame

FRAME_PX = LOCALIZED.networks["classifier"].augment.crop_px
NAMES = {
    "cls_top1": "top1_class", "cls_top5": "top5_class", "loc_top1": "top1", "loc_top5": "top5",
    "loc_gt_known": "gt_known",
}  # fmt: skip
OUTCOMES = {
    "cls_wrong": "class",
    **{o: o for o in ("right", "multi_instance", "part", "more", "wrong")},
}


def enlarged(maps: np.ndarray) -> np.ndarray:
    size = (FRAME_PX, FRAME_PX)
    return F.interpolate(torch.from_numpy(maps)[None], size, mode="bilinear")[0].numpy()


def test_boxes_of_maps(golden: Golden) -> None:
    expected = golden.arrays("wsol_boxes.npz")
    large = enlarged(expected["heatmaps"])
    for name, scores, wanted in zip(expected["names"], large, expected["boxes"], strict=True):
        found = [boxes.from_map(scores, float(level)) for level in expected["thresholds"]]
        golden.same(f"boxes of {name}", found, wanted)
    low, high = (reduce(large, (1, 2))[:, None, None] for reduce in (np.min, np.max))
    wanted, every = thinned(expected, "resized")
    normal = ((large - low) / (high - low))[:, ::every, ::every]
    golden.close("enlarged maps", normal, wanted, atol=1e-5)


def test_boxes_of_scores(golden: Golden) -> None:
    expected = golden.arrays("wsol_boxes.npz")
    for number, (scores, wanted) in enumerate(
        zip(expected["small_maps"], expected["small_boxes"], strict=True)
    ):
        found = [boxes.above(scores, float(level)) for level in expected["small_thresholds"]]
        golden.same(f"boxes of small map {number}", found, wanted)


def test_overlaps(golden: Golden) -> None:
    expected = golden.arrays("wsol_iou.npz")
    pairs = zip(expected["box1"].tolist(), expected["box2"].tolist(), strict=True)
    found = [boxes.overlaps(first, [second]) for first, second in pairs]
    for ours, theirs in (("iou", "iou"), ("truth", "iog"), ("own", "iob")):
        golden.close(theirs, [each[ours][0] for each in found], expected[theirs], rtol=1e-12)


def test_scores_of_localization(golden: Golden) -> None:
    expected = golden.arrays("wsol_metric.npz")
    summary, level = golden.json("wsol_metric_summary.json"), LOCALIZED.boxes.threshold
    found: list[boxes.Answer] = []
    for number, (logits, cams, label) in enumerate(
        zip(expected["logits"], expected["cams"], expected["labels"].tolist(), strict=True)
    ):
        ranked = np.argsort(-logits, kind="stable")[:5].tolist()
        golden.same(f"five best classes of {number}", ranked, expected["top5"][number])
        places = [boxes.from_map(scores, level) for scores in enlarged(cams)]
        best = [places[k] for k in ranked]
        golden.same(f"boxes of {number}", best, expected["top5_boxes"][number])
        own = expected["gt_class_boxes"][number]
        golden.same(f"box of the true class of {number}", places[label], own)
        truth = np.array(str(expected["gt_boxes"][number]).split(), int).reshape(-1, 4)
        found.append(boxes.score(label, ranked, best, places[label], truth.tolist()))
    for theirs, ours in NAMES.items():
        values = [getattr(each, ours) for each in found]
        golden.same(theirs, values, expected[theirs] > 0)
        golden.close(f"share {theirs}", np.mean(values), summary[theirs], rtol=1e-12)
    for theirs, ours in OUTCOMES.items():
        values = [each.outcome == ours for each in found]
        golden.same(theirs, values, expected[theirs] > 0)
        golden.same(f"count {theirs}", sum(values), summary[theirs])


def test_true_boxes_in_the_frame(golden: Golden) -> None:
    expected = golden.arrays("wsol_data.npz")
    sizes = expected["image_sizes_wh"][:, ::-1].tolist()
    for number, (size, box) in enumerate(zip(sizes, expected["cub_boxes_xywh"], strict=True)):
        found = in_frame(tuple(box.tolist()), tuple(size), FRAME_PX)
        golden.same(f"true box {number}", found, expected["cub_gt"][number])
