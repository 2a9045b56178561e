"""ExCEL: laws of its maps, what is frozen, its schedule, and a resumed training."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.methods.base import load_method
from wsss.methods.excel.method import Excel
from wsss.methods.excel.network import ExcelNet, similarity_maps
from wsss.settings import Params
from wsss.settings.resolve import resolve_settings

CLASSES = 4
PRESENT = torch.tensor([[1.0, 0, 1, 1], [0, 0, 0, 1]])


def build(protocol: str = "common", **changes: Any) -> tuple[Excel, ExcelNet]:
    """Return the method with changed hyper-parameters, and its network at toy size."""
    network = resolve_settings(Params(), "shapes", "excel", protocol).networks["classifier"]
    changed = network.hyper_parameters.model_copy(update=changes)
    params = network.model_copy(update={"hyper_parameters": changed, "backbone": "clip_toy"})
    method = load_method("excel")({"classifier": params}, CLASSES)
    assert isinstance(method, Excel)
    torch.manual_seed(0)
    return method, method.build("classifier")


def items() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {"image": torch.randn(2, 3, 48, 64), "label": PRESENT}


def losses(method: Excel, net: ExcelNet, step: int) -> dict[str, Tensor]:
    torch.manual_seed(2)  # dropout
    return method.losses("classifier", {"classifier": net}, items(), step)


def test_similarities_are_those_of_the_published_tensor_form() -> None:
    torch.manual_seed(0)
    dense = torch.randn(2, 13, 8)
    vectors = F.normalize(torch.randn(7, 8), dim=1)
    unit = dense / dense.norm(dim=1, keepdim=True)
    weights = (2 * unit[:, 0] @ vectors.T).softmax(1)
    weights = weights / weights.mean(1, keepdim=True)
    products = unit[:, :, None] * vectors * weights[:, None, :, None]  # (B, N, T, D)
    scores = (products - products.mean(2, keepdim=True)).sum(3)
    assert torch.allclose(scores.sum(2), torch.zeros(2, 13), atol=1e-5)
    low, high = scores.amin(1, keepdim=True), scores.amax(1, keepdim=True)
    expected = ((scores - low) / (high - low))[:, 1:, :4].transpose(1, 2).view(2, 4, 3, 4)
    maps = similarity_maps(dense, vectors[:4], vectors[4:], (3, 4))
    assert torch.allclose(maps, expected, atol=1e-5)


def test_feedback_sharpens_towards_like_cells() -> None:
    method, net = build()
    encoded, relations = method.related(net.eval(), items()["image"])
    assert torch.allclose(relations, relations.transpose(1, 2), atol=1e-5)
    assert (relations.diagonal(dim1=1, dim2=2)[..., None] >= relations - 1e-5).all()
    plain = net.second_path(encoded.outputs, encoded.calibrations, None)
    assert torch.equal(plain, encoded.second)
    zero = net.second_path(encoded.outputs, encoded.calibrations, torch.zeros(2, 48, 48))
    assert torch.allclose(zero, plain, atol=1e-5)
    assert not torch.allclose(net.dense(encoded, relations), net.dense(encoded, None))


def test_what_the_decoder_reads() -> None:
    _, net = build()
    _, aliased = build(aliased_features=True)
    encoded = net.encode_twice(items()["image"])
    assert net.decoder_inputs(encoded) is encoded.outputs
    first, second, third, fourth = aliased.decoder_inputs(encoded)  # two of four are calibrated
    assert first is encoded.outputs[0]
    assert second is encoded.second
    assert fourth is encoded.outputs[3]
    last: Any = net.backbone.blocks[3]
    assert torch.allclose(third + last.mlp(last.norm2(third)), fourth, atol=1e-5)


@pytest.mark.parametrize("protocol", ["common", "published"])
def test_guidance_begins_at_a_step(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, net = build(protocol)
    first = method.hyper_parameters.guided_from
    assert first == {"common": 200, "published": 14000}[protocol]
    guided: list[tuple[bool, bool]] = []
    attention, similarities = method.attention, method.similarities
    fed: list[bool] = []

    def maps(*arguments: Any) -> Tensor:
        fed.append(arguments[2] is not None)
        return similarities(*arguments)

    def weighed(*arguments: Any) -> Tensor:
        guided.append((fed[-1], arguments[2] is not None))
        return attention(*arguments)

    monkeypatch.setattr(method, "similarities", maps)
    monkeypatch.setattr(method, "attention", weighed)
    for step in (first - 1, first):
        losses(method, net, step)
    assert guided == [(False, False), (True, True)]


def test_only_the_decoder_learns_and_pairs_reach_the_features_alone() -> None:
    method, net = build()
    for step in (0, 1000):
        torch.stack(list(losses(method, net, step).values())).sum().backward()
    learned = {name.partition(".")[0] for name, p in net.named_parameters() if p.grad is not None}
    assert learned == {"fuse", "decoder"}
    net.zero_grad()
    losses(method, net, 1000)["pairs"].backward()
    assert net.decoder.predict.weight.grad is None


def test_maps_of_a_mirror_image_are_mirrored_where_attention_is_not_used() -> None:
    method, net = build(mirror_maps=True)
    images = items()["image"]
    once = method.cam_of(net.eval(), images, PRESENT)
    assert once.shape == (2, CLASSES, 6, 8)
    assert not once[PRESENT == 0].any()
    plain, _ = build(mirror_maps=False)
    assert not torch.allclose(plain.cam_of(net, images, PRESENT), once)
