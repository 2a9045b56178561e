"""WeCLIP: three steps of training, and masks and labels of a picture of odd size, at toy size."""

import dataclasses
from typing import Any

import pytest
import torch
from frozen_clip import (
    batch,
    build,
    decode_settings,
    optimizer_settings,
    present,
    thinned,
    views,
)
from golden import Golden
from torch import Tensor

from wsss.inference.multiscale import multiscale
from wsss.inference.views import decode_augmentation
from wsss.machine.runtime import Runtime
from wsss.methods.frozen.labels import label_maps, windowed_pairs
from wsss.methods.weclip.method import WeClip
from wsss.nets.deeplab import resize
from wsss.settings import DecodeParams
from wsss.training.optimizer import parts

CPU = Runtime(torch.device("cpu"), torch.float32)
CLOSE = {"atol": 1e-5}  # of the largest value
TRAINED = {"atol": 1e-3}
GRADIENTS = {
    "fuse": "fuse.merge.weight",
    "first": "fuse.layers.0.0.weight",
    "out": "decoder.blocks.0.attn.proj.weight",
    "predict": "decoder.predict.weight",
}


def recorded(method: WeClip, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Return the list that the labels of each step will be in."""
    made, compute = [], method.labels

    def labels(*arguments: Any) -> Tensor:
        made.append(compute(*arguments))
        return made[-1]

    monkeypatch.setattr(method, "labels", labels)
    return made


def test_three_steps_of_training(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays, values = golden.arrays("weclip.npz"), golden.json("values.json")["weclip_train"]
    method, net = build(golden, "weclip_train")
    images, label = batch(golden, "train")
    items, params = {"image": images, "label": label}, optimizer_settings(golden)
    (part,), made = parts(net, params), recorded(method, monkeypatch)
    grid = (images.shape[2] // 16, images.shape[3] // 16)
    for step in range(golden.case("train", "steps")):
        name, expected = f"weclip_train {{}}, step {step}".format, values[step]
        terms = dict((term[0], term[1:]) for term in expected["terms"])
        part.set_rate(step, golden.case("train", "max"))
        (group,) = part.optimizer.param_groups
        golden.close(name("rate"), [group["lr"]], [expected["rate"][3]], rtol=1e-9)
        found = method.losses("classifier", {"classifier": net}, items, step)
        golden.close(name("decoder"), found["decoder"], terms["segmentation"][0], rtol=1e-3)
        pairs_loss = found["pairs"] / method.hyper_parameters.pairs_weight
        golden.close(name("pairs"), pairs_loss, terms["affinity"][0], rtol=1e-3)
        labels = made[step]
        pairs = windowed_pairs(labels, grid, method.hyper_parameters.window)
        golden.same(
            name("labels"), labels[:, ::7, ::7], arrays[f"weclip_train_{step}_labels"], 0.995
        )
        counts = [int((pairs == kind).sum()) for kind in (1, 0)]
        golden.same(name("pair counts"), counts, terms["affinity"][1:])
        part.optimizer.zero_grad()
        torch.stack(list(found.values())).sum().backward()
        weights = dict(net.named_parameters())
        norm = torch.stack([p.grad.norm() for p in weights.values() if p.grad is not None]).norm()
        golden.close(name("norm of gradients"), norm, expected["gradient"], rtol=1e-3)
        for key, weight in GRADIENTS.items():
            gradient = thinned(weights[weight].grad)
            golden.close(
                name(f"gradient {key}"),
                gradient,
                arrays[f"weclip_train_{step}_grad_{key}"],
                **TRAINED,
            )
        assert not any(p.grad is not None for p in net.backbone.parameters())
        part.optimizer.step()
        updated = net.decoder.predict.weight[::3, ::16, 0, 0]
        golden.close(name("updated"), updated, arrays[f"weclip_train_{step}_predict"], atol=2e-6)


def merged(golden: Golden, params: DecodeParams, enlarge: bool) -> Tensor:
    """Return the merged logits of the picture of the set, at the image's size or at the cells'."""
    method, net = build(golden, "weclip")
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
    arrays, params = golden.arrays("weclip.npz"), decode_settings(golden)
    key = {True: "one", False: "joined"}[single]
    if single:
        params = params.model_copy(update={"scales": (1.0,), "mirror": False})
    logits = merged(golden, params, enlarge=False)
    golden.close(f"weclip logits, {key}", logits, arrays[f"weclip_val_{key}"], **CLOSE)
    prediction = merged(golden, params, enlarge=True).argmax(1)[0, ::2, ::2]
    name = "prediction_one" if single else "prediction"
    golden.same(f"weclip {name}", prediction, arrays[f"weclip_val_{name}"], 0.995)


def test_labels_of_a_picture_of_odd_size(golden: Golden) -> None:
    method, net = build(golden, "weclip")
    case, params = golden.case("val"), decode_settings(golden)
    (view,) = views(golden, params.model_copy(update={"scales": (1.0,)}))
    label = present(golden, [case["own"]])
    with torch.inference_mode():
        maps = method.cam_of(net, view, label)
        picture = resize(view, case["size"], align_corners=True)
        labels = label_maps(picture, maps, label, method.hyper_parameters.par_iterations)
    expected = golden.arrays("weclip.npz")["weclip_val_labels"]
    golden.same("weclip labels of an image", labels[0, ::2, ::2], expected, 0.995)
