"""Scores of label images, seeds and classifiers against the published scripts."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from golden import Golden
from numpy.typing import NDArray

from wsss.scores import metrics

CLOSE = {"rtol": 1e-9, "absolute": 1e-9}
Arrays = dict[str, NDArray[Any]]


def pairs(expected: Arrays) -> Iterator[int]:
    return (int(key[2:]) for key in expected if key.startswith("gt"))


def counted(expected: Arrays, unlabelled: str) -> NDArray[np.int64]:
    classes = len(expected["irn_confusion"])
    return sum(
        (
            metrics.confusion(expected[f"gt{i}"], expected[f"pred{i}"], classes, unlabelled)
            for i in pairs(expected)
        ),
        start=np.zeros((), np.int64),
    )


def close(golden: Golden, case: str, measured: Any, name: str, place: Any = ...) -> None:
    expected = golden.arrays("evaluation.npz")
    if name not in expected:
        pytest.skip(f"the set has no {name}")
    golden.close(case, measured, expected[name][place], **CLOSE)


def test_a_predicted_255_as_background(golden: Golden) -> None:
    expected = golden.arrays("evaluation.npz")
    counts = counted(expected, "background")
    scores, pixels = metrics.class_scores(counts), metrics.pixel_scores(counts)
    golden.same("confusion matrix", counts, expected["irn_confusion"])
    close(golden, "IoU, convention A", scores["iou"], "irn_iou21")
    close(golden, "mIoU, convention A", metrics.mean_iou(counts, "A"), "irn_miou")
    close(golden, "mIoU, convention D", metrics.mean_iou(counts, "D"), "mct_seg_evaluator_miou")
    false = scores["false_positive"], scores["false_negative"]
    ratios = [each[0] for each in false] + [np.nanmean(each[1:]) for each in false]
    close(golden, "false ratios of IRNet", ratios, "irn_fp0_fn0_fpmean_fnmean")
    given = np.append(np.nan_to_num(scores["iou"]), metrics.mean_iou(counts, "C"))
    close(golden, "IoU and mIoU, convention C", given, "P_255to0_iou21_miou")
    values = [*pixels.values(), metrics.mean_iou(counts, "B")]
    close(golden, "pixel scores and mIoU, convention B", values, "scores_255to0_pa_ma_fw_miou")
    close(golden, "mIoU of ToCo", metrics.mean_iou(counts, "B"), "toco_scores_255to0_miou")
    close(golden, "IoU, convention B", scores["iou"], "scores_255to0_iou21")


def test_a_predicted_255_as_missed(golden: Golden) -> None:
    counts = counted(golden.arrays("evaluation.npz"), "missed")
    scores = metrics.class_scores(counts)
    given = np.append(np.nan_to_num(scores["iou"]), metrics.mean_iou(counts, "C"))
    close(golden, "255 missed: IoU and mIoU", given, "P_with255_iou21_miou")
    false = scores["false_positive"], scores["false_negative"]
    ratios = [np.nan_to_num(each).mean() for each in false]
    close(golden, "255 missed: false ratios", ratios, "P_with255_FP_FN")


def test_a_predicted_255_as_excluded(golden: Golden) -> None:
    counts = counted(golden.arrays("evaluation.npz"), "excluded")
    iou = metrics.class_scores(counts)["iou"]
    close(golden, "255 excluded: IoU", iou, "toco_pseudo_scores_iou21")
    close(golden, "255 excluded: mIoU", metrics.mean_iou(counts, "B"), "toco_pseudo_scores_miou")


def test_the_sweep_over_thresholds_and_where_it_was_stopped(golden: Golden) -> None:
    expected = golden.arrays("evaluation.npz")
    levels = expected["sweep_thresholds"].astype(np.float32)
    curve = metrics.ThresholdCurve(len(expected["irn_confusion"]), levels)
    for i in pairs(expected):
        curve.add(expected[f"gt{i}"], expected[f"cam{i}"], expected[f"cam{i}_keys"])
    values = metrics.mean_iou(curve.matrices(), "C")
    close(golden, "threshold sweep", values, "sweep_miou_all21")
    stopped = metrics.early_stop(expected["sweep_thresholds"], values)
    close(
        golden, "threshold sweep with early stop", stopped, "sweep_earlystop_best_t_miou_evaluated"
    )
    best = int(values.argmax())
    found = [expected["sweep_thresholds"][best], values[best]]
    close(golden, "best of the whole sweep", found, "sweep_full_best_t_miou")


def seeds(expected: Arrays, threshold: float, side_px: int) -> list[NDArray[np.uint8]]:
    found = []
    for i in pairs(expected):
        labels = metrics.seed(expected[f"cam{i}"], expected[f"cam{i}_keys"], threshold)
        found.append(metrics.erode(labels, side_px) if side_px else labels)
    return found


def miou(expected: Arrays, predictions: list[NDArray[np.uint8]], convention: str) -> float:
    classes = len(expected["irn_confusion"])
    both = zip(pairs(expected), predictions, strict=True)
    counts = [metrics.confusion(expected[f"gt{i}"], labels, classes) for i, labels in both]
    return float(metrics.mean_iou(np.sum(counts, 0), convention))


def test_seeds_at_a_fixed_threshold_and_eroded(golden: Golden) -> None:
    expected = golden.arrays("evaluation.npz")
    fixed = miou(expected, seeds(expected, 0.15, 0), "A")
    close(golden, "seed of IRNet", fixed, "irn_cam015_miou")
    plain, eroded = (seeds(expected, 0.25, side) for side in (0, 7))
    golden.same("eroded seed of SemFormer", eroded[0], expected["semformer_eroded_pred0"])
    close(golden, "mIoU of seeds", miou(expected, plain, "C"), "semformer_t025_plain_miou")
    close(golden, "mIoU of eroded seeds", miou(expected, eroded, "C"), "semformer_t025_eroded_miou")


def test_multi_label_classification(golden: Golden) -> None:
    expected = golden.arrays("evaluation.npz")
    if "cls_logits" not in expected:
        pytest.skip("the set has no cls_logits")
    logits, truth = expected["cls_logits"], expected["cls_labels"] > 0
    by_image = metrics.image_average_precision(logits, truth)
    close(golden, "average precision per image", by_image, "cls_mAP_per_image_mean")
    by_class = metrics.mean_average_precision(logits, truth)
    close(golden, "average precision per class", by_class, "cls_mAP_per_class_mean_present")
    f1 = metrics.image_f1(logits > 0, truth)
    close(golden, "F1 per image", f1, "cls_f1_per_image_mean_logit_gt0")
