"""What every registered method promises."""

import typing

import pytest
import torch

from wsss.errors import ConfigError
from wsss.methods.base import Computed, Method, load_method
from wsss.runs.run import Run
from wsss.settings import Params, method_spec
from wsss.settings.resolve import resolve_settings

WITH_NETWORKS = [name for name in method_spec.methods() if method_spec.spec(name).networks]
CLASSES = 4
TRAINED = [
    name
    for name in WITH_NETWORKS
    if not any(network.given for network in method_spec.spec(name).networks.values())
]
LEARN_LABELS = [  # the others learn from labels of pixels that a network with fixed weights makes
    name
    for name in TRAINED
    if not any(network.prepared for network in method_spec.spec(name).networks.values())
]
SLOW_LEARNERS = ("cpdgl", "cpdgl_head", "cpdgl_logged", "pcsformer", "seco", "transcam")
LATE = 1_000_000  # a step by which every term of a loss counts


@pytest.fixture(params=WITH_NETWORKS)
def method(request: pytest.FixtureRequest) -> Method:
    settings = resolve_settings(Params(), "shapes", request.param, "common")
    return load_method(request.param)(settings.networks, CLASSES)


def described(method: Method) -> method_spec.MethodSpec:
    known = {name: method_spec.spec(name) for name in WITH_NETWORKS}
    return next(
        spec
        for name, spec in known.items()
        if type(method) is load_method(name) and set(spec.networks) == set(method.params)
    )


def cam_network(method: Method) -> torch.nn.Module:
    torch.manual_seed(0)
    return method.build(str(described(method).cam_network)).eval()


def networks(method: Method) -> dict[str, torch.nn.Module]:
    """Return all networks of a chain, the computed ones too."""
    nets: dict[str, torch.nn.Module] = {}
    for name, entry in described(method).networks.items():
        if entry.computed:
            with torch.inference_mode():
                found = method.compute(name, nets, lambda *_: iter([batch()]))
            nets[name] = Computed({key: tensor.clone() for key, tensor in found.items()})
        else:
            nets[name] = method.build(name)
    return nets


def batch(count: int = 3) -> dict[str, object]:
    torch.manual_seed(1)
    label = torch.zeros(count, CLASSES)
    label[:, 1] = label[0, 3] = 1
    return {
        "image": torch.randn(count, 3, 64, 64),
        "label": label,
        "name": [str(i) for i in range(count)],
        "number": torch.arange(count),
        "content": torch.tensor([[0, 0, 64, 64]]).expand(count, -1),
    }


def test_the_chain_has_a_localizer_and_no_circle() -> None:
    for name in WITH_NETWORKS:
        spec, known = method_spec.spec(name), set()
        assert spec.cam_network in spec.networks
        for network, entry in spec.networks.items():
            assert set(entry.after) <= known, f"{name}: {network} comes before what it needs"
            known.add(network)


@pytest.mark.parametrize("name", WITH_NETWORKS)
def test_the_code_declares_the_hyper_parameters_of_the_yaml(name: str) -> None:
    declared, networks = load_method(name).hyper_parameter_types, method_spec.spec(name).networks
    assert set(networks) <= set(declared)
    for network, entry in networks.items():
        hints = typing.get_type_hints(declared[network])
        assert hints == typing.get_type_hints(entry.model)
        assert set(hints) == set(entry.hyper_parameters)


def test_maps_are_not_negative_and_have_a_channel_per_class(method: Method) -> None:
    net = cam_network(method)
    with torch.inference_mode():
        maps = method.cam(net, torch.randn(2, 3, 64, 96))
    assert maps.shape[:2] == (2, CLASSES)
    assert maps.min() >= 0
    assert maps.max() > 0


@pytest.mark.parametrize("method", TRAINED, indirect=True)
def test_losses_are_finite_and_reach_every_weight(method: Method) -> None:
    nets = networks(method)
    for name in (name for name in nets if not described(method).networks[name].computed):
        for step in (0, LATE):
            torch.stack(list(method.losses(name, nets, batch(), step).values())).sum().backward()
        for key, weight in nets[name].named_parameters():
            if not weight.requires_grad:  # teachers, and what is in published files alone
                continue
            assert weight.grad is not None, f"{key} learns nothing"
            assert torch.isfinite(weight.grad).all()


@pytest.mark.parametrize("name", WITH_NETWORKS)
def test_a_method_decodes_if_it_says_so(name: str) -> None:
    networks = resolve_settings(Params(), "shapes", name, "common").networks
    method = load_method(name)(networks, CLASSES)
    net, images = cam_network(method), torch.randn(2, 3, 61, 83)
    if method_spec.spec(name).decodes:
        assert method.decode(net, images).shape[:2] == (2, 1 + CLASSES)
    else:
        with pytest.raises(ConfigError, match="no decoder of its own"):
            method.decode(net, images)


def test_evaluation_is_deterministic_and_images_do_not_mix(method: Method) -> None:
    net, images = cam_network(method), batch()["image"]
    with torch.inference_mode():
        first, second = method.cam(net, images), method.cam(net, images)
        alone = torch.cat([method.cam(net, image[None]) for image in images])
    assert torch.equal(first, second)
    assert torch.allclose(first, alone, atol=1e-4)


def test_odd_sizes_are_fine(method: Method) -> None:
    net = cam_network(method)
    with torch.inference_mode():
        assert torch.isfinite(method.cam(net, torch.randn(1, 3, 61, 83))).all()
        assert method.logits(net, torch.randn(1, 3, 61, 83)).shape == (1, CLASSES)


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW_LEARNERS else ())
        for name in LEARN_LABELS
    ],
    indirect=True,
)
def test_the_labels_of_a_few_images_can_be_learned_by_heart(method: Method) -> None:
    torch.manual_seed(0)
    name, items = next(iter(method.params)), batch()
    if described(method).localizes:  # an image has one class
        items["label"] = torch.eye(CLASSES)[[1, 3, 1]]
    net = method.build(name)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    losses = []
    for step in range(60):
        total = torch.stack(list(method.losses(name, {name: net}, items, step).values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert losses[-1] < 0.5 * losses[0]
    with torch.inference_mode():
        found = method.logits(net, items["image"])
    if described(method).localizes:
        assert torch.equal(found.argmax(1), items["label"].argmax(1))
    else:
        assert torch.equal(found > 0, items["label"] > 0)


def test_stages_of_a_run_follow_the_chain() -> None:
    run = Run(Params(), "shapes", "cam", "common", 0)
    assert run.stages()[:3] == ["classifier", "cam", "calibrate-cam"]
    assert Run(Params(), "shapes", "supervised", "common", 0).stages() == [
        "segmenter",
        "masks",
        "eval/segmentation",
    ]
