"""CRT's DeepLab-v2: the shared network with its preset."""

from typing import Any

import fill
import numpy as np
import pytest
import torch
from crt_networks import CLASSES, PUBLISHED, thinned
from golden import FORWARD, Golden
from pictures import normalised

from wsss.inference.trained import normalisation
from wsss.nets.deeplab import LAYOUTS, DeepLab, build_deeplab, reduce_labels, resize
from wsss.refine.crf import refine_scores
from wsss.stages.masks import crf_picture
from wsss.stages.segmenter import Segmentation
from wsss.storage import checkpoint
from wsss.training.optimizer import freeze, rate

MANIFEST = "deeplabv2_res101_msc"
LAYOUT = LAYOUTS["deeplabv2_resnet101_msc"]
SMALL = {r".*\.aspp\..*weight": 0.01, r".*increase\.bn\.weight": 0.2}
OUTPUTS = ("train_logits_0", "train_logits_1", "train_logits_2", "train_logits_3")


def network(golden: Golden) -> DeepLab:
    net = build_deeplab(PUBLISHED.segmenter, CLASSES)
    checkpoint.adopt(net, golden.checkpoint(MANIFEST, SMALL), LAYOUT)
    return net.eval()


@pytest.mark.slow
def test_the_network_and_its_training(golden: Golden) -> None:
    net = network(golden)
    compare_looks(golden, net)
    compare_training(golden, net)


def compare_looks(golden: Golden, net: DeepLab) -> None:
    expected, case = golden.arrays("deeplab.npz"), golden.case("deeplab_eval")
    with torch.inference_mode():
        images = normalised(net, [(*case["size"], case["seed"])])
        looks, deep = net.outputs(images), net.backbone(images)
    golden.close("logits", looks["pixels_max"], expected["msc_logits"], **FORWARD)
    golden.close("logits of one scale", looks["pixels_1"], expected["base_logits"], **FORWARD)
    wanted, every = thinned(expected, "layer4")
    golden.close("fourth layer", deep[-2][:, ::every], wanted, **FORWARD)
    labels = resize(looks["pixels_max"], case["size"]).argmax(1)[0]
    golden.same("labels", labels, expected["label"], share=0.999)


def compare_training(golden: Golden, net: DeepLab) -> None:
    expected, case = golden.arrays("deeplab.npz"), golden.case("deeplab_train")
    losses: dict[str, Any] = golden.json("deeplab_losses.json")
    params = PUBLISHED.segmenter
    freeze(net.train(), params.train)
    net.requires_grad_()  # the published norms have gradients and no optimiser
    images = normalised(net, [(*case["size"], seed) for seed in case["seeds"]])
    mask = torch.from_numpy(expected["train_label"]).long()
    looks = net.outputs(images)
    for key, logits in zip(OUTPUTS, looks.values(), strict=True):
        golden.close(key, logits.detach(), expected[key], **FORWARD)
        reduced = reduce_labels(mask, list(logits.shape[2:]))
        golden.same(
            key.replace("logits", "label"), reduced, expected[key.replace("logits", "label")]
        )
    terms = list(Segmentation(net, params)({"image": images, "mask": mask}, 0).values())
    golden.close("losses", [t.item() for t in terms], losses["per_output"], rtol=1e-4)
    total = torch.stack(terms).sum()
    golden.close("sum of the losses", total.detach(), losses["sum"], rtol=1e-4)
    norms = {k.partition("/")[2]: v for k, v in losses.items() if k.startswith("grad_norm/")}
    ours = checkpoint.rename({name: torch.empty(0) for name in norms}, LAYOUT.table)
    weights = dict(net.named_parameters())
    found = torch.autograd.grad(total / params.train.accumulate, [weights[n] for n in ours])
    measured = [gradient.norm().item() for gradient in found]
    golden.close("gradients", measured, list(norms.values()), rtol=1e-3)


def test_the_rates(golden: Golden) -> None:
    train, expected = PUBLISHED.segmenter.train, golden.json("deeplab_lr.json")
    steps = int(train.steps or 0)
    # The last one, 0, comes after the last step.
    kept = {int(step): lr for step, lr in expected.items() if int(step) < steps}
    found = [train.lr * rate(train, step, steps) for step in kept]
    golden.close("rates", found, list(kept.values()), rtol=1e-9)


def test_the_crf(golden: Golden, crf_device: str | None) -> None:
    expected, case = golden.arrays("deeplab_crf.npz"), golden.case("deeplab_crf")
    net, image = (
        build_deeplab(PUBLISHED.segmenter, CLASSES),
        fill.image(*case["size"], case["seed"]),
    )
    logits = torch.from_numpy(expected["logits"])[None]
    scores = resize(logits, case["size"]).softmax(1)[0].numpy()
    wrapped = crf_picture(image, "wrapped", normalisation(net))
    golden.same("picture of the CRF", wrapped, expected["image_as_upstream_u8"])
    for kind, key in (("wrapped", "upstream"), ("bgr", "true_image")):
        picture = crf_picture(image, kind, normalisation(net))
        posterior = refine_scores(picture, scores, "deeplab_msc", crf_device)
        labels = posterior.argmax(0)
        golden.same(f"labels of the CRF, {kind}", labels, expected[f"label_{key}"], 0.995)
        wanted, every = thinned(expected, f"q_{key}")
        found = np.asarray(posterior)[:, ::every, ::every]
        golden.close(f"CRF, {kind}", found, wanted, absolute=1e-3, share=0.99)
