"""WeCLIP+: three steps of training, and masks and labels of a picture of odd size, at toy size."""

import dataclasses
from typing import Any

import pytest
import torch
from frozen_clip import batch, decode_settings, optimizer_settings, present, thinned, views
from frozen_pair import build
from golden import Golden
from torch import Tensor

from wsss.inference.multiscale import multiscale
from wsss.inference.views import decode_augmentation
from wsss.machine.runtime import Runtime
from wsss.methods.frozen.labels import label_maps, windowed_pairs
from wsss.methods.weclip_plus.losses import balanced
from wsss.methods.weclip_plus.method import WeClipPlus
from wsss.nets.deeplab import resize
from wsss.settings import DecodeParams
from wsss.training.optimizer import parts

CPU = Runtime(torch.device("cpu"), torch.float32)
CLOSE = {"atol": 1e-5}  # of the largest value
TRAINED = {"atol": 1e-3}
GRADIENTS = {
    "fuse": "fuse.merge.weight",
    "fuse_dino": "second_fuse.merge.weight",
    "first": "fuse.layers.0.0.weight",
    "out": "decoder.blocks.0.attn.proj.weight",
    "predict": "decoder.predict.weight",
}


def recorded(method: WeClipPlus, name: str, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Return the list that the results of a function of the method will be in."""
    results, compute = [], getattr(method, name)

    def function(*arguments: Any) -> Tensor:
        results.append(compute(*arguments))
        return results[-1]

    monkeypatch.setattr(method, name, function)
    return results


@pytest.mark.slow
def test_three_steps_of_training(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays, values = golden.arrays("weclip.npz"), golden.json("values.json")["plus_train"]
    _ = arrays["plus_train_0_labels"]  # skipped if the set does not have it
    method, net = build(golden, "plus_train")
    params, (images, label) = method.hyper_parameters, batch(golden, "train")
    items = {"image": images, "label": label}
    (part,) = parts(net, optimizer_settings(golden, "weclip_plus", "rate_plus"))
    labels, targets = (recorded(method, name, monkeypatch) for name in ("labels", "targets"))
    grid = (images.shape[2] // 16, images.shape[3] // 16)
    for step in range(golden.case("train", "steps")):
        name, expected = f"plus_train {{}}, step {step}".format, values[step]
        affinity, segmentation, dice, *mutual = expected["terms"]
        part.set_rate(step, golden.case("train", "max"))
        (group,) = part.optimizer.param_groups
        golden.close(name("rate"), [group["lr"]], [expected["rate"][3]], rtol=1e-9)
        losses = method.losses("classifier", {"classifier": net}, items, step)
        golden.close(name("decoder"), losses["decoder"], segmentation[1], rtol=1e-3)
        golden.close(name("dice"), losses["dice"] / params.dice_weight, dice[1], rtol=1e-3)
        total = losses["mutual"] / params.mutual_weight
        golden.close(name("mutual"), total, mutual[0][1] + mutual[1][1], rtol=1e-3)
        golden.close(name("pairs"), losses["pairs"] / params.pairs_weight, affinity[1], rtol=1e-3)
        expected_labels = arrays[f"plus_train_{step}_labels"]
        golden.same(name("labels"), targets[step][:, ::7, ::7], expected_labels, 0.995)
        pairs = windowed_pairs(labels[step], grid, params.window)
        counts = [int((pairs == kind).sum()) for kind in (1, 0)]
        golden.same(name("pair counts"), counts, affinity[2:])
        part.optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        weights = dict(net.named_parameters())
        norm = torch.stack([p.grad.norm() for p in weights.values() if p.grad is not None]).norm()
        golden.close(name("norm of gradients"), norm, expected["gradient"], rtol=1e-3)
        for key, weight in GRADIENTS.items():
            gradient = thinned(weights[weight].grad)
            reference = arrays[f"plus_train_{step}_grad_{key}"]
            golden.close(name(f"gradient {key}"), gradient, reference, **TRAINED)
        for frozen in (net.backbone, net.second_backbone):
            assert not any(p.grad is not None for p in frozen.parameters())
        part.optimizer.step()
        updated = net.decoder.predict.weight[::3, ::16, 0, 0]
        golden.close(name("updated"), updated, arrays[f"plus_train_{step}_predict"], atol=2e-6)


def test_losses_of_both_branches_on_each_other(golden: Golden) -> None:
    clip, second = golden.json("values.json")["plus_train"][0]["terms"][3:]
    method, net = build(golden, "plus_train")
    images, _ = batch(golden, "train")
    tokens, maps = method.encode(net, images), net.encode_second(images)
    logits = net.predict(net.pair_features(tokens, maps)[0])
    branches = [resize(branch, images.shape[2:]) for branch in logits]
    for name, (learner, teacher), (_, expected) in (
        ("CLIP's branch", branches, clip),
        ("DINOv2's branch", branches[::-1], second),
    ):
        loss = balanced(learner, teacher.argmax(1))
        golden.close(f"plus_train {name} on the other", loss, expected, rtol=1e-3)


def merged(golden: Golden, params: DecodeParams, enlarge: bool) -> Tensor:
    """Return the merged logits of the picture of the set, at the image's size or at the cells'."""
    method, net = build(golden, "plus")
    augmentation = decode_augmentation(params, net.backbone.strides[0])
    if not enlarge:
        augmentation = dataclasses.replace(augmentation, enlarged=None)
    with torch.inference_mode():
        forward = lambda images: method.decode(net, images)  # noqa: E731
        size = tuple(golden.case("val", "size"))
        (logits,) = multiscale(forward, views(golden, params), augmentation, size, CPU)
    return logits / (len(params.scales) * (2 if params.mirror else 1))


@pytest.mark.parametrize("single", [True, False])
def test_masks_of_a_picture_of_odd_size(golden: Golden, single: bool) -> None:
    key = {True: "one", False: "joined"}[single]
    expected = golden.arrays("weclip.npz")[f"plus_val_{key}"]
    params = decode_settings(golden, "weclip_plus", "_plus")
    if single:
        params = params.model_copy(update={"scales": (1.0,), "mirror": False})
    logits = merged(golden, params, enlarge=False)
    golden.close(f"plus logits, {key}", logits, expected, **CLOSE)
    prediction = merged(golden, params, enlarge=True).argmax(1)[0, ::2, ::2]
    name = "prediction_one" if single else "prediction"
    golden.same(f"plus {name}", prediction, golden.arrays("weclip.npz")[f"plus_val_{name}"], 0.995)


def test_labels_of_a_picture_of_odd_size(golden: Golden) -> None:
    expected = golden.arrays("weclip.npz")["plus_val_labels"]
    method, net = build(golden, "plus")
    case, params = golden.case("val"), decode_settings(golden, "weclip_plus", "_plus")
    (view,) = views(golden, params.model_copy(update={"scales": (1.0,)}))
    label = present(golden, [case["own"]])
    with torch.inference_mode():
        maps = method.cam_of(net, view, label)
        picture = resize(view, case["size"], align_corners=True)
        labels = label_maps(picture, maps, label, method.hyper_parameters.par_iterations)
    golden.same("plus labels of an image", labels[0, ::2, ::2], expected, 0.995)
