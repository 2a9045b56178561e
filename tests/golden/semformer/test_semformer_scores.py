"""Scores of SemFormer's maps and labels, and the segmenter that learns from them."""

import re
from pathlib import Path
from typing import Any

import fill
import numpy as np
import pytest
import torch
from golden import CRF_DEVICES, FORWARD, Golden
from networks import CLASSES, PUBLISHED, thin
from numpy.typing import NDArray
from pictures import CPU, normalised
from PIL import Image

from wsss.data import labelmap
from wsss.data.index import Entry, Index
from wsss.inference.multiscale import inference
from wsss.inference.trained import normalisation
from wsss.inference.views import segmenter_augmentation
from wsss.nets.deeplab import LAYOUTS, DeepLab, build_deeplab
from wsss.refine import crf
from wsss.runs.evaluation import Scoring
from wsss.scores import metrics
from wsss.stages import evaluate, pseudo
from wsss.stages.masks import decide
from wsss.storage import archive, checkpoint
from wsss.storage.cam_archive import Cam, grid, pack
from wsss.training.optimizer import freeze, parameter_groups, rate

EXACT = {"rtol": 1e-6, "absolute": 1e-9}
CRF_MIOU = {"rtol": 2e-3}  # 0.1 % of the pixels may have another label after a CRF
MULTISCALE = {"absolute": 1e-3}  # of probabilities
CRF_LABELS = 0.999
MANIFEST = "deeplabv1_resnet38"
NAMES = tuple(str(number) for number in range(1, CLASSES + 1))


class Pictures:
    """The pictures of the set with masks, maps and labels, as stages have them."""

    def __init__(self, golden: Golden, folder: Path) -> None:
        self.expected = golden.arrays("evaluate.npz")
        self.cases, self.maps = golden.json("evaluate.json"), folder / "maps.zip"
        self.labels, self.entries = folder / "labels.zip", []
        with archive.Writer(self.maps) as maps, archive.Writer(self.labels) as labels:
            for number, case in enumerate(self.cases["images"]):
                entry = self._entry(folder, number, case)
                maps.add(f"{entry.name}.npz", pack(self._cam(number, entry.size)))
                labels.add(f"{entry.name}.png", labelmap.encode(self.expected[f"{number}_png"]))
                self.entries.append(entry)
        self.index = Index("pictures", NAMES, tuple(self.entries))

    def _entry(self, folder: Path, number: int, case: dict[str, Any]) -> Entry:
        picture, mask = folder / f"{number}.png", folder / f"{number}.mask.png"
        size = (case["height"], case["width"])
        Image.fromarray(fill.image(*size, case["image_seed"])).save(picture)
        mask.write_bytes(labelmap.encode(self.expected[f"{number}_gt"]))
        classes = tuple(str(label) for label in case["classes_1based"])
        return Entry(f"{number:03d}", str(picture), str(mask), classes, "train", size, "")

    def _cam(self, number: int, size: tuple[int, int]) -> Cam:
        high, keys = self.expected[f"{number}_hr_cam"], self.expected[f"{number}_keys"]
        small = np.zeros((len(high), *grid(size, 4)), np.float16)
        return Cam(keys[1:].astype(np.int16) - 1, small, size, 4, high)

    def counts(self, predictions: list[NDArray[Any]]) -> NDArray[np.int64]:
        """Return the confusion matrix of predictions."""
        found = [
            metrics.confusion(self.expected[f"{number}_gt"], prediction, CLASSES + 1)
            for number, prediction in enumerate(predictions)
        ]
        return np.sum(found, 0)


def scoring() -> Scoring:
    own = PUBLISHED.evaluation
    return Scoring(
        convention=own.convention,
        threshold=0.2,
        thresholds=own.thresholds,
        erode_px=own.erode_px,
        unlabelled=own.unlabelled,
    )


def test_maps_at_every_threshold_with_erosion(golden: Golden, tmp_path: Path) -> None:
    pictures = Pictures(golden, tmp_path)
    case = pictures.cases["npy_mode"]
    entries, index = pictures.entries, pictures.index
    found = evaluate.score_maps(entries, index, pictures.maps, scoring())
    curve = dict(zip(found.curve.thresholds, found.curve.miou, strict=True))
    levels, miou, _, _ = zip(*case["curve_threshold_mIoU_FP_FN"], strict=True)
    ours = [100 * curve[round(level, 2)] for level in levels]
    golden.close(
        "mIoU at thresholds", ours, miou, absolute=1e-4
    )  # the curve is kept with six digits
    assert round(case["best_threshold"], 2) == round(levels[int(np.argmax(ours))], 2)
    for number, entry in enumerate(entries):
        keys = pictures.expected[f"{number}_keys"]
        maps = pictures.expected[f"{number}_hr_cam"].astype(np.float32)
        start = f"{number}_eroded_t"
        for name in (name for name in pictures.expected if name.startswith(start)):
            labels = metrics.seed(maps, keys[1:] - 1, float(name.removeprefix(start)))
            eroded = metrics.erode(labels, PUBLISHED.evaluation.erode_px)
            wanted = keys[pictures.expected[name]]
            golden.same(f"eroded labels {entry.name}", eroded, wanted)


def test_maps_after_a_crf(golden: Golden, tmp_path: Path, crf_device: str | None) -> None:
    pictures = Pictures(golden, tmp_path)
    for name, case in pictures.cases.items():
        if level := re.fullmatch(r"npy_threshold([\d.]+)_crf1", name):
            own = PUBLISHED.pseudo.model_copy(update={"threshold": float(level[1])})
            found = [
                pseudo.label(pictures.maps, own, CLASSES + 1, e, crf_device)
                for e in pictures.entries
            ]
            miou = metrics.mean_iou(pictures.counts(found), PUBLISHED.evaluation.convention)
            golden.close("mIoU after the CRF", 100 * miou, case["mIoU"], **CRF_MIOU)


def test_label_images(golden: Golden, tmp_path: Path) -> None:
    pictures = Pictures(golden, tmp_path)
    case, chosen = pictures.cases["png_mode"], scoring()
    found = evaluate.score_labels(pictures.entries, pictures.index, pictures.labels, chosen)
    golden.close("mIoU of label images", 100 * found.miou, case["mIoU"], absolute=1e-4)
    labels = [pictures.expected[f"{number}_png"] for number in range(len(pictures.entries))]
    scores = metrics.class_scores(pictures.counts(labels))
    golden.close("IoU of label images", 100 * np.nan_to_num(scores["iou"]), case["IoU"], **EXACT)
    for name, key in (("FP", "false_positive"), ("FN", "false_negative")):
        golden.close(
            f"{name} of label images", np.nan_to_num(scores[key]).mean(), case[name], **EXACT
        )


def segmenter(golden: Golden) -> DeepLab:
    net = build_deeplab(PUBLISHED.segmenter, CLASSES)
    checkpoint.adopt(net, golden.checkpoint(MANIFEST), LAYOUTS[f"seg_{MANIFEST}"])
    return net.eval()


@pytest.mark.slow
def test_the_segmenter(golden: Golden, tmp_path: Path) -> None:
    expected, case = golden.arrays("deeplabv1.npz"), golden.json("deeplabv1.json")
    net, augmentation = segmenter(golden), segmenter_augmentation(PUBLISHED.segmenter)
    size = (case["height"], case["width"])
    image = fill.image(*size, case["image_seed"])
    with torch.inference_mode():
        images = normalised(net, [(*size, case["image_seed"])])
        features = net.backbone(images)[-1]
        steps = golden.case("strides", "deeplabv1")
        for name, values in (("conv6", features), ("logits", net(images))):
            golden.close(name, thin(values, steps[name]), expected[name], **FORWARD)
        for name in (name for name in expected if name.startswith("image_")):
            scale = float(name.removeprefix("image_"))
            view = augmentation.resizing.view([image], scale, normalisation(net))[0]
            small = thin(view, steps[name])
            golden.close(f"image at {scale}", small, expected[name], **FORWARD)
        path = tmp_path / "picture.png"
        Image.fromarray(image).save(path)
        entry = Entry("picture", str(path), None, (), "val", size, "")
        ((_, (maps,)),) = inference(net, [[entry]], augmentation, normalisation(net), CPU)
    compare_tests(golden, entry, maps, net)


def compare_tests(golden: Golden, entry: Entry, maps: torch.Tensor, net: DeepLab) -> None:
    expected, test = golden.arrays("deeplabv1.npz"), PUBLISHED.segmenter.test
    steps = golden.case("strides", "deeplabv1")
    prob = (maps[0] / (2 * len(test.scales))).softmax(0)
    golden.close(
        "multi-scale probability", thin(prob, steps["prob"]), expected["prob"], **MULTISCALE
    )
    plain = test.model_copy(update={"crf": "none"})
    for name, chosen in (("label_nocrf", plain), ("label_crf1", test)):
        for golden.suffix, device in CRF_DEVICES.items():
            labels = decide([entry], maps, chosen, normalisation(net), device)[0]
            golden.same(f"segmenter {name}", labels, expected[name], CRF_LABELS)


def test_the_crf_of_the_segmenter(golden: Golden, crf_device: str | None) -> None:
    expected, case = golden.arrays("deeplabv1.npz"), golden.json("deeplabv1.json")
    maps = expected["crf_maps"].astype(np.float32)
    logits = np.zeros((CLASSES + 1, *maps.shape[1:]), np.float32)
    logits[case["crf_classes"]] = 4 * maps
    scores = torch.from_numpy(logits).softmax(0).numpy()
    image = fill.image(case["height"], case["width"], case["image_seed"])
    found = crf.refine_scores(image, scores, PUBLISHED.segmenter.test.crf, crf_device)
    kept = thin(found[case["crf_classes"]], golden.case("strides", "deeplabv1", "crf_prob"))
    golden.close("segmenter CRF", kept, expected["crf_prob"], **MULTISCALE)
    golden.same("segmenter CRF labels", found.argmax(0), expected["crf_label"], CRF_LABELS)


def test_the_training_of_the_segmenter(golden: Golden) -> None:
    case, own = golden.json("deeplabv1.json"), PUBLISHED.segmenter
    net = build_deeplab(own, CLASSES).train()
    freeze(net, own.train)
    sizes = [len(group["params"]) for group in parameter_groups(net, own.train)]
    golden.same("segmenter groups", sizes, [n for n in case["group_sizes_as_trained"] if n])
    assert net.backbone.conv1a.weight.requires_grad == case["conv1a_trainable_as_trained"]
    norms = [layer for layer in net.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert {layer.training for layer in norms} == {case["batchnorm_in_training_mode_as_trained"]}
    for step, wanted in case["lr_schedule"].items():
        lr = own.train.lr * rate(own.train, int(step), own.train.steps or 0)
        golden.close(f"segmenter rate at {step}", lr, wanted, rtol=1e-9)
