"""WeCLIP: tokens, GradCAM, selection, spreading and labels of one batch, at toy size."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from frozen_clip import batch, build
from golden import Golden

from wsss.methods.frozen.labels import affinity, label_maps
from wsss.refine.attention import (
    boxes,
    least_class_attention,
    over_largest,
    sinkhorn,
    transferred,
)

CLOSE = {"atol": 1e-5}  # of the largest value
STRETCHED = {"atol": 1e-3}  # maps that hardly vary enlarge rounding
TAGS = ("weclip", "weclip_coco")


@pytest.mark.parametrize("tag", TAGS)
def test_features_and_logits(golden: Golden, tag: str) -> None:
    arrays = golden.arrays("weclip.npz")
    method, net = build(golden, tag)
    images, _ = batch(golden, tag)
    with torch.inference_mode():
        tokens = method.encode(net, images)
        _, features = net.features(tokens.blocks, tokens.grid)
        affinities = affinity(features)
        logits = method.decode(net, images)
    stacked = torch.stack(tokens.blocks, 1)[:, :, ::17, ::8]
    golden.close(f"{tag} tokens", stacked, arrays[f"{tag}_tokens"], **CLOSE)
    golden.close(f"{tag} features", features[:, ::16, ::2, ::2], arrays[f"{tag}_fused"], **CLOSE)
    golden.close(f"{tag} logits", logits[:, ::3, ::2, ::2], arrays[f"{tag}_logits"], **CLOSE)
    golden.close(f"{tag} affinity", affinities[:, ::9, ::9], arrays[f"{tag}_p"], **CLOSE)


@pytest.mark.parametrize("stage", ["early", "late"])
@pytest.mark.parametrize("tag", TAGS)
def test_maps_and_labels(golden: Golden, tag: str, stage: str) -> None:
    arrays, values = golden.arrays("weclip.npz"), golden.json("values.json")
    method, net = build(golden, tag)
    params, (images, labels) = method.hyper_parameters, batch(golden, tag)
    with torch.inference_mode():
        tokens = method.encode(net, images)
        cam = method.explained(net, tokens, labels)
        affinities = (
            affinity(net.features(tokens.blocks, tokens.grid)[0]) if stage == "late" else None
        )
        attention = method.attention(net, tokens, cam, affinities)
        transition = torch.linalg.matrix_power(sinkhorn(attention), 2)
        inside = boxes(cam.maps, params.box_threshold, params.box_cut)
        moved = transferred(cam.maps, attention, params.box_threshold, params.box_cut)
        stretched = F.interpolate(over_largest(moved), images.shape[2:], mode="bilinear")
        maps = method.spread_maps(net, tokens, labels, affinities)
        found = label_maps(images, maps, labels, params.par_iterations)
        blocks = net.patch_attention(tokens, cam.attention)[:, -params.selected_of :]
        chosen = least_class_attention(blocks)
    if stage == "late":
        golden.same(f"{tag} selected blocks", chosen, values[f"{tag}_selection_kept"])
        mass = blocks.double().sum((-2, -1))
        golden.close(f"{tag} patch mass", mass, values[f"{tag}_patch_mass"], **CLOSE)
    for number, present in enumerate(labels):
        own = present.nonzero()[:, 0]
        key = lambda name, number=number: arrays[f"{tag}_{stage}_{name}_{number}"]  # noqa: E731
        case = f"{tag} {stage} {{}}, image {number}".format
        counted = torch.cat([own, torch.arange(len(present), cam.probability.shape[1])])
        probability = cam.probability[number, counted]
        golden.close(case("probability"), probability, key("probability"), **CLOSE)
        golden.close(case("GradCAM"), cam.maps[number, own], key("maps"), **CLOSE)
        golden.same(case("boxes"), inside[number, own].to(torch.uint8), key("boxes"))
        thin = (number, slice(None, None, 6), slice(None, None, 6))
        golden.close(case("attention"), attention[thin], key("attention"), **CLOSE)
        golden.close(case("transition"), transition[thin], key("transition"), **CLOSE)
        golden.close(case("spread"), moved[number, own], key("refined"), **CLOSE)
        golden.close(
            case("stretched"), stretched[number, own, ::11, ::11], key("stretched"), **STRETCHED
        )
        golden.same(case("labels"), found[number, ::4, ::4], key("labels"), share=0.999)
        assert set(np.unique(found[number])) <= {0, *(own + 1).tolist()}
