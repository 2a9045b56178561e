"""From CAMs to labels, PAR, local crops and their tags."""

import torch
import torch.nn.functional as F
from golden import FORWARD, Golden
from scenes import MEAN, STD, Scene, given, normalised

from wsss.methods.single_stage import crops, online_labels
from wsss.methods.single_stage.crops import CropRule
from wsss.refine import par


def test_labels_of_pixels(golden: Golden) -> None:
    expected, scene = golden.arrays("labels.npz"), Scene(golden, "labels")
    valid = online_labels.valid_cam(scene.cams, scene.labels)
    golden.close("valid CAM, sums", valid.sum((2, 3)), expected["valid_cam_sum"], **FORWARD)
    plain = online_labels.plain(valid, scene.background)
    golden.same("labels, plain", plain, expected["label_plain"])
    found = online_labels.boxed(plain, scene.boxes)
    golden.same("labels, background threshold, boxed", found, expected["label_box_nomid"])
    found = online_labels.boxed(online_labels.three_way(valid, scene.thresholds), scene.boxes)
    golden.same("labels, three-way, boxed", found, expected["label_box_mid"])
    sure = online_labels.three_way(valid, scene.thresholds, online_labels.UNSURE)
    golden.same("regions", online_labels.boxed(sure, scene.boxes), expected["roi_mask"])


def test_labels_of_cells_and_pairs(golden: Golden) -> None:
    expected, scene = golden.arrays("labels.npz"), Scene(golden, "labels")
    cell = given(golden, "labels", "cell")  # in pixels
    size = [length // cell for length in scene.cams.shape[2:]]
    cams = F.interpolate(scene.cams, size, mode="bilinear", align_corners=False)
    small = online_labels.three_way(online_labels.valid_cam(cams, scene.labels), scene.thresholds)
    pixelbox = online_labels.boxed(small, scene.boxes)
    golden.same("labels of cells, box in pixels", pixelbox, expected["label_small_pixelbox"])
    found = online_labels.boxed(small, scene.boxes // cell)
    golden.same("labels of cells, box in cells", found, expected["label_small_scaledbox"])
    golden.same("pairs of cells", online_labels.pairs(pixelbox), expected["aff_mask"])


def test_refined_labels(golden: Golden) -> None:
    expected, scene = golden.arrays("labels.npz"), Scene(golden, "labels")
    for name, shrink in (("refined_label", 2), ("refined_label_scale1", 1)):
        found = online_labels.refined(
            scene.unit, scene.valid, scene.labels, scene.boxes, scene.thresholds, shrink
        )
        golden.same(f"{name.replace('_', ' ')}", found, expected[name])
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    found = online_labels.unit_images(normalised(*scene.pictures), mean, std, truncate=True) * 255
    golden.close("colours, cut", found.mean((2, 3)), expected["denorm_uint8_mean"], **FORWARD)


def test_par(golden: Golden) -> None:
    expected, scene = golden.arrays("labels.npz"), Scene(golden, "labels")
    own = scene.cams[:1, scene.case["images"][0]["labels"]]
    found = par.refine(scene.unit[:1], own)
    golden.close("PAR, 10 iterations", found, expected["par_iter10"], **FORWARD)
    found = par.refine(scene.unit[:1], own[:, :1], iterations=1)
    golden.close("PAR, 1 iteration", found, expected["par_iter1"], **FORWARD)
    case = given(golden, "labels")
    size = [length // case["cell"] for length in own.shape[2:]]
    small = F.interpolate(own[:, :1], size, mode="bilinear", align_corners=False)
    how = (case["par_dilations"], case["par_iterations"])
    found = par.refine(scene.unit[:1], small, *how)
    golden.close("PAR, smaller scores", found, expected["par_lowres_mask"], **FORWARD)


def test_crops_and_tags(golden: Golden) -> None:
    expected, scene = golden.arrays("crops.npz"), Scene(golden, "crops")
    case = scene.case
    rule = CropRule(case["crop"], case["num"], case["tag_threshold"], True, True, 1)
    sure = online_labels.three_way(scene.valid, scene.thresholds, online_labels.UNSURE)
    sure = online_labels.boxed(sure, scene.boxes)
    golden.same("regions of the crops", sure, expected["roi_mask"])
    unsure = (sure == online_labels.UNSURE).sum((1, 2))
    golden.same("unsure pixels", unsure, expected["n_uncertain"])
    corners, tags = crops.tagged_crops(sure, rule)
    golden.same("corners of the crops", corners, expected["topleft"])
    golden.same("tags of the crops", tags, expected["flags"])
    means = crops.cut(normalised(*scene.pictures), corners, rule.side).mean((2, 3, 4))
    golden.close("means of the crops", means, expected["crop_means"], **FORWARD)


def test_toco_crops(golden: Golden) -> None:
    expected, scene = golden.arrays("toco_basic.npz"), Scene(golden, "crops")
    regions = online_labels.regions(scene.valid, scene.thresholds)
    golden.same("toco regions", regions, expected["roi_mask"])
    count = expected["topleft"].shape[1]
    rule = CropRule(scene.case["crop"], count, scene.case["tag_threshold"])
    torch.manual_seed(golden.case("toco_torch_seed"))
    corners, flags = crops.flagged_crops(regions, rule)
    golden.same("toco corners", corners, expected["topleft"])
    golden.same("toco flags", flags, expected["flags"])
