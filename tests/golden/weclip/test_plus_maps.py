"""WeCLIP+: both branches, weighed maps, selection, spreading and labels of one batch, at toy size."""

import pytest
import torch
import torch.nn.functional as F
from frozen_clip import batch
from frozen_pair import build
from golden import Golden

from wsss.methods.frozen.labels import label_maps
from wsss.refine.attention import boxes, least_class_attention, over_largest, sinkhorn, transferred

CLOSE = {"atol": 1e-5}  # of the largest value
STRETCHED = {"atol": 1e-3}  # maps that hardly vary enlarge rounding
TAGS = ("plus", "plus_coco", "plus14")


@pytest.mark.parametrize("tag", TAGS)
def test_features_and_logits_of_both_branches(golden: Golden, tag: str) -> None:
    arrays = golden.arrays("weclip.npz")
    expected = arrays[f"{tag}_dino"]
    method, net = build(golden, tag)
    images, _ = batch(golden, tag)
    with torch.inference_mode():
        tokens, second = method.encode(net, images), net.encode_second(images)
        cells = second.flatten(2).transpose(1, 2)
        _, fused = net.second_fuse([cells], second.shape[2:])
        _, features = net.pair_features(tokens, second)
        logits = net.predict(features)
        affinities, _ = method.guide(net, features)
        decoded = method.decode(net, images)
    golden.close(f"{tag} DINOv2 in the network", cells[:, ::5, ::4], expected, **CLOSE)
    golden.close(
        f"{tag} features", features.clip[:, ::16, ::2, ::2], arrays[f"{tag}_fused"], **CLOSE
    )
    golden.close(
        f"{tag} features of DINOv2", fused[:, ::16, ::2, ::2], arrays[f"{tag}_fused_dino"], **CLOSE
    )
    golden.close(f"{tag} logits", logits.clip[:, ::3, ::2, ::2], arrays[f"{tag}_logits"], **CLOSE)
    golden.close(
        f"{tag} logits of DINOv2",
        logits.second[:, ::3, ::2, ::2],
        arrays[f"{tag}_logits_dino"],
        **CLOSE,
    )
    golden.close(f"{tag} affinity", affinities[:, ::9, ::9], arrays[f"{tag}_p"], **CLOSE)
    assert torch.equal(decoded, logits.mean)


@pytest.mark.parametrize("tag", TAGS)
def test_weighed_maps_and_labels(golden: Golden, tag: str) -> None:
    arrays, values = golden.arrays("weclip.npz"), golden.json("values.json")
    _ = arrays[f"{tag}_p"]  # skipped if the set does not have the case
    method, net = build(golden, tag)
    params, (images, labels) = method.hyper_parameters, batch(golden, tag)
    with torch.inference_mode():
        tokens, second = method.encode(net, images), net.encode_second(images)
        cam = method.explained(net, tokens, labels)
        affinities, weights = method.guide(net, net.pair_features(tokens, second)[0])
        attention = method.attention(net, tokens, cam, affinities)
        transition = torch.linalg.matrix_power(sinkhorn(attention), 2)
        inside = boxes(cam.maps, params.box_threshold, params.box_cut)
        moved = transferred(cam.maps, attention, method.box_share, params.box_cut, weights)
        stretched = F.interpolate(over_largest(moved), images.shape[2:], mode="bilinear")
        maps = method.cam_of(net, images, labels)
        refined = label_maps(images, maps, labels, params.par_iterations)
        blocks = net.patch_attention(tokens, cam.attention)[:, -params.selected_of :]
        chosen = least_class_attention(blocks)
    golden.same(f"{tag} selected blocks", chosen, values[f"{tag}_selection_kept"])
    mass = blocks.double().sum((-2, -1))
    golden.close(f"{tag} patch mass", mass, values[f"{tag}_patch_mass"], **CLOSE)
    for number, own in enumerate(golden.case(tag, "own")):
        key = lambda name, number=number: arrays[f"{tag}_{name}_{number}"]  # noqa: E731
        case = f"{tag} {{}}, image {number}".format
        counted = [*own, *range(labels.shape[1], cam.probability.shape[1])]
        probability = cam.probability[number, counted]
        golden.close(case("probability"), probability, key("probability"), **CLOSE)
        golden.close(case("GradCAM"), cam.maps[number, own], key("maps"), **CLOSE)
        golden.same(case("boxes"), inside[number, own].to(torch.uint8), key("boxes"))
        thin = (number, slice(None, None, 6), slice(None, None, 6))
        golden.close(case("attention"), attention[thin], key("attention"), **CLOSE)
        golden.close(case("transition"), transition[thin], key("transition"), **CLOSE)
        golden.close(case("spread"), moved[number, own], key("refined"), **CLOSE)
        shown = stretched[number, own, ::11, ::11]
        golden.close(case("stretched"), shown, key("stretched"), **STRETCHED)
        golden.same(case("labels"), refined[number, ::4, ::4], key("labels"), share=0.999)
