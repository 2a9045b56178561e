"""WeCLIP+: two frozen backbones, losses of two branches, labels that its decoder weighs and replaces."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from made_frozen import CLASSES, PRESENT, items, losses

from wsss.data.labelmap import IGNORE
from wsss.data.resize import resize_to_multiple
from wsss.errors import ConfigError
from wsss.methods.base import load_method
from wsss.methods.weclip_plus.losses import dice, mutual, with_sure_predictions
from wsss.methods.weclip_plus.method import WeClipPlus
from wsss.methods.weclip_plus.network import PAIR_TABLE, Pair, PairNet, recoloured
from wsss.nets.backbone import ToyBackbone
from wsss.nets.clip_vit import CLIP_MEAN, CLIP_STD
from wsss.refine.attention import transferred
from wsss.runs.inputs import initial_weights
from wsss.settings import Params
from wsss.settings.networks import SecondBackboneParams
from wsss.settings.resolve import resolve_settings, validate_params
from wsss.storage.checkpoint import rename

ROOT = Path(__file__).parents[3]
MANIFEST = ROOT / "tests/golden/weclip/manifest_weclip_plus_vitb_dinos_voc.json"


def build(
    protocol: str = "common", second: str = "vit_toy", **changes: Any
) -> tuple[WeClipPlus, PairNet]:
    """Return the method with changed hyper-parameters, and its network at toy size."""
    settings = resolve_settings(Params(), "shapes", "weclip_plus", protocol)
    network = settings.networks["classifier"]
    update = {
        "hyper_parameters": network.hyper_parameters.model_copy(update=changes),
        "backbone": "clip_toy",
        "second_backbone": SecondBackboneParams(
            backbone=second, stride=14 if second.startswith("dinov2") else 8
        ),
    }
    method = load_method("weclip_plus")({"classifier": network.model_copy(update=update)}, CLASSES)
    assert isinstance(method, WeClipPlus)
    torch.manual_seed(0)
    return method, method.build("classifier")


def test_a_step_changes_the_decoder_alone_and_no_statistics_of_the_backbones() -> None:
    method, net = build()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.train()
    terms = losses(method, net, 0, items())
    assert set(terms) == {"decoder", "pairs", "mutual", "dice"}
    learned = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learned, 0.1)
    torch.stack(list(terms.values())).sum().backward()
    optimizer.step()
    after = net.state_dict()
    changed = {key.partition(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"fuse", "second_fuse", "decoder"}


def shapes(method: WeClipPlus) -> dict[str, torch.Size]:
    """Return the shapes of the network's tensors."""
    with torch.device("meta"):
        return {key: value.shape for key, value in method.build("classifier").state_dict().items()}


def learned(tensors: Mapping[str, torch.Size]) -> int:
    """Return the number of values outside of the frozen backbones and of the vectors of classes."""
    frozen = ("backbone.", "second_backbone.", "classes", "background")
    return sum(shape.numel() for key, shape in tensors.items() if not key.startswith(frozen))


def test_the_published_network_has_the_layers_of_the_authors() -> None:
    settings = resolve_settings(Params(), "voc12", "weclip_plus", "published")
    assert initial_weights(settings, "classifier") == {
        "backbone": "vit_base_patch16_clip_quickgelu_224.openai.clip",
        "second_backbone": "vit_small_patch14_dinov2.lvd142m.dinov2",
    }
    ours = shapes(WeClipPlus(settings.networks, 20))
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    dropped = ("encoder.", "par.", "dino_encoder.mask_token")
    state = {
        key: torch.empty(shape, device="meta")
        for key, shape in manifest.items()
        if not key.startswith(dropped)
    }
    authors = {key: value.shape for key, value in rename(state, PAIR_TABLE).items()}
    prepared = ("backbone.", "classes", "background")
    assert authors == {k: shape for k, shape in ours.items() if not k.startswith(prepared)}
    assert learned(ours) == 2_933_269


def test_large_networks_are_those_of_the_page() -> None:
    page = (ROOT / "docs/methods/weclip_plus.md").read_text(encoding="utf-8")
    block = next(part for part in page.split("```")[1::2] if "large.yaml" in part)
    params = validate_params(yaml.safe_load(block.removeprefix("yaml")))
    settings = resolve_settings(params, "voc12", "weclip_plus", "published")
    assert list(initial_weights(settings, "classifier").values()) == [
        "vit_large_patch14_clip_quickgelu_224.openai.clip",
        "vit_large_patch14_dinov2.lvd142m.dinov2",
    ]
    assert learned(shapes(WeClipPlus(settings.networks, 20))) == 4_742_165


def test_masks_are_the_mean_of_both_branches() -> None:
    method, net = build()
    images = items()["image"]
    tokens, second = method.encode(net, images), net.encode_second(images)
    branches = net.eval().predict(net.pair_features(tokens, second)[0])
    assert torch.equal(method.decode(net, images), branches.mean)
    assert not torch.allclose(branches.clip, branches.second)
    same = Pair(branches.clip, branches.clip)
    assert torch.equal(same.mean, branches.clip)


def test_the_second_backbone_gets_whole_patches_in_its_own_colours() -> None:
    _, net = build(second="dinov2_vits14")
    images = items()["image"]
    assert net.encode_second(images).shape == (2, 384, 3, 4)
    assert resize_to_multiple(images, 14).shape == (2, 3, 42, 56)
    assert resize_to_multiple(images, 16) is images
    second = ToyBackbone()
    assert (net.backbone.mean, net.backbone.std) == (CLIP_MEAN, CLIP_STD)
    colours = torch.rand(1, 3, 4, 4)
    clip, imagenet = (
        (colours - torch.tensor(part.mean)[:, None, None]) / torch.tensor(part.std)[:, None, None]
        for part in (net.backbone, second)
    )
    assert torch.allclose(recoloured(clip, net.backbone, second), imagenet, atol=1e-5)
    assert recoloured(clip, net.backbone, net.backbone) is clip


def test_without_a_second_backbone_the_message_names_the_setting() -> None:
    method, _ = build()
    params = method.params["classifier"].model_copy(update={"second_backbone": None})
    with pytest.raises(ConfigError, match="classifier.second_backbone: .* is missing"):
        WeClipPlus({"classifier": params}, CLASSES).build("classifier")


def test_probabilities_weigh_maps_inside_or_outside_of_boxes() -> None:
    maps, attention = torch.rand(1, 2, 3, 4), torch.rand(1, 12, 12)
    maps[:, 1] = 0
    weights = torch.rand(1, 2, 3, 4)
    free = transferred(maps, attention, None, weights=weights)
    assert torch.allclose(free, transferred(maps * weights, attention, None))
    assert not free[:, 1].any()
    # Boxes are those of the maps, not of the weighed ones.
    boxed = transferred(maps, attention, 0.9, weights=torch.full_like(weights, 0.25))
    assert torch.allclose(boxed, transferred(maps, attention, 0.9) / 4)


@pytest.mark.parametrize("boxes", [False, True])
def test_the_decoder_weighs_the_maps_of_an_image(boxes: bool) -> None:
    method, net = build(boxes=boxes)
    assert method.box_share == (0.4 if boxes else None)
    images = items()["image"]
    before = method.cam_of(net.eval(), images, PRESENT)
    assert not before[1, :3].any()
    with torch.no_grad():
        net.decoder.predict.weight[1] += torch.randn_like(net.decoder.predict.weight[1])
    assert not torch.allclose(method.cam_of(net, images, PRESENT)[0, 0], before[0, 0], atol=1e-3)


def test_dice_counts_absent_classes_and_leaves_unknown_pixels_out() -> None:
    labels = torch.tensor([[[0, 0, 2], [2, 3, 0]]])
    logits = 50.0 * F.one_hot(labels, CLASSES + 1).permute(0, 3, 1, 2)
    assert dice(logits, labels).item() == pytest.approx(1 - 3 / (CLASSES + 1), abs=1e-6)
    unsure = torch.randn(1, CLASSES + 1, 2, 3, requires_grad=True)
    partly = labels.clone()
    partly[0, 1] = IGNORE
    assert dice(unsure, partly).item() == pytest.approx(
        dice(unsure[:, :, :1], labels[:, :1]).item()
    )
    (gradient,) = torch.autograd.grad(dice(unsure, partly), unsure)
    assert not gradient[0, :, 1].any()


def test_branches_learn_from_each_other_through_predictions_alone() -> None:
    torch.manual_seed(0)
    logits = Pair(*(torch.randn(2, CLASSES + 1, 4, 5, requires_grad=True) for _ in range(2)))
    labels = torch.zeros(2, 4, 5, dtype=torch.long)
    labels[:, 0] = IGNORE
    total = mutual(logits, labels)
    (gradient,) = torch.autograd.grad(total, logits.second)
    alone = Pair(logits.clip.detach(), logits.second)
    (without_clip,) = torch.autograd.grad(mutual(alone, labels), logits.second)
    assert torch.equal(gradient, without_clip)
    assert not gradient[:, :, 0].any()
    assert gradient[:, :, 1:].any()


def test_sure_predictions_replace_known_labels() -> None:
    logits = torch.zeros(1, 3, 1, 4)
    logits[0, 2, 0, :3] = torch.tensor([9.0, 1.0, 9.0])
    labels = torch.tensor([[[1, 1, IGNORE, 0]]])
    assert with_sure_predictions(labels, logits, 0.75).tolist() == [[[2, 1, IGNORE, 0]]]


@pytest.mark.parametrize("first", [3, 18001])
def test_own_labels_begin_at_a_step(first: int) -> None:
    method, net = build("published", own_labels_above=0.0, refine_px=4)
    if first == 3:
        method, net = build(own_labels_from=3, own_labels_above=0.0)
    assert method.hyper_parameters.own_labels_from == first
    logits, labels = torch.randn(2, CLASSES + 1, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long)
    assert torch.equal(method.targets(labels, logits, first - 1), labels)
    assert torch.equal(method.targets(labels, logits, first), logits.argmax(1))


@pytest.mark.parametrize("step", [0, 1000])
def test_images_without_a_class_are_background(step: int) -> None:
    method, net = build(dropout=0.0, own_labels_above=1.0)
    batch = items(torch.zeros(2, CLASSES))
    terms = losses(method, net, step, batch)
    logits = F.interpolate(method.decode(net, batch["image"]), (48, 64), mode="bilinear")
    mean = F.cross_entropy(logits, torch.zeros(2, 48, 64, dtype=torch.long))
    assert terms["decoder"].item() == pytest.approx(mean.item() / 2, rel=1e-4)
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad.isfinite().all() for p in net.decoder.parameters() if p.grad is not None)


@pytest.mark.parametrize("padded", [False, True])
def test_padding_has_no_gradient_unless_it_is_labelled(padded: bool) -> None:
    method, _ = build(label_padding=padded)
    torch.manual_seed(0)
    logits = Pair(*(torch.randn(2, CLASSES + 1, 6, 8, requires_grad=True) for _ in range(2)))
    labels = torch.ones(2, 6, 8, dtype=torch.long)
    if not padded:
        labels[:, :2] = IGNORE
    total = torch.stack(list(method.pixel_terms(logits, labels, 1000).values())).sum()
    for gradient in torch.autograd.grad(total, list(logits)):
        assert bool(gradient[:, :, :2].any()) == padded
        assert gradient[:, :, 2:].any()


def test_the_block_that_maps_start_from_is_a_setting() -> None:
    images = items()["image"]
    maps = []
    for start in (-1, -2):
        method, net = build(cam_from=start)
        tokens = method.encode(net, images)
        maps.append(method.explained(net, tokens, PRESENT).maps)
    assert not torch.allclose(*maps, atol=1e-2)
