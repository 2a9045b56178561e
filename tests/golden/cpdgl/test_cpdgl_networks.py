"""Networks of CPDGL and ToCo: scores, maps, projections, CAMs over scales, and the memories."""

from typing import Any

import fill
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from family import adopted
from golden import FORWARD, Golden
from scenes import drawn, given, normalised, values
from torch import Tensor, nn

from wsss.methods.single_stage.network import (
    QUEUE_LAYOUT,
    TOCO_LAYOUT,
    LargeFOV,
    Projection,
    QueueNet,
    SummedDilations,
    class_token,
)
from wsss.storage import checkpoint


def seen_by(golden: Golden, net: Any, images: Tensor) -> dict[str, Tensor]:
    """Return what a network makes of an image, in the names and strides of the reference."""
    seen = net.encode(images)
    (scores, aux), (cam, cam_aux) = net.scores(seen), net.cams(seen)
    found = {"cls": scores, "aux": aux, "seg": net(images), "cam": cam, "cam_aux": cam_aux}
    step, coarse = (given(golden, "strides", name) for name in ("projection", "features"))
    found["proj"] = net.student_head(seen.token)[:, ::step]
    found["proj_t"] = net.teacher_head(seen.token)[:, ::step]
    found["token"], found["feat"] = seen.token, seen.features[:, ::coarse]
    found["auxfeat"] = seen.auxiliary.flatten(2).transpose(1, 2)[..., ::coarse]
    if isinstance(net, QueueNet):
        found["token_k"] = class_token(net.teacher, images)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cpdgl", "toco"])
def test_networks(golden: Golden, name: str) -> None:
    expected = golden.arrays(f"net_{name}.npz")
    method, net = adopted(golden, name)
    cases = zip(golden.case("net_sizes"), golden.case("net_seeds"), strict=True)
    with torch.inference_mode():
        for number, (size, seed) in enumerate(cases):
            images = normalised(fill.image(*size, seed))
            found = seen_by(golden, net, images)
            wanted = {key.removesuffix(str(number)): expected[key] for key in expected}
            for key in (key for key in found if f"{key}{number}" in expected):
                golden.close(f"{name} {key}, image {number}", found[key], wanted[key], **FORWARD)
        pictures = [fill.image(*golden.case("cam_size"), s) for s in golden.case("cam_seeds")]
        _cams(golden, name, method, net, normalised(*pictures))


def _cams(golden: Golden, name: str, method: Any, net: nn.Module, images: Tensor) -> None:
    expected, stride = golden.arrays(f"cam_{name}.npz"), golden.case("cam_stride")
    for kind, scales in given(golden, "scales", name).items():
        guide = method.guide(net, images, scales)
        for key, cams in (("cam", guide.last), ("aux", guide.auxiliary)):
            found = cams[..., :: 2 * stride, :: 2 * stride]
            golden.close(
                f"{name} {key}, scales {kind}", found, expected[f"{key}_{kind}"], **FORWARD
            )
        if f"cam_{kind}_dense" in expected:
            found = guide.last[:1, :, ::stride, ::stride]
            golden.close(
                f"{name} cam, {kind}, dense", found, expected[f"cam_{kind}_dense"], **FORWARD
            )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cpdgl", "toco"])
def test_networks_of_coco(golden: Golden, name: str) -> None:
    expected = golden.arrays(f"net_{name}_coco.npz")
    _, net = adopted(golden, name, "coco")
    (seed,) = golden.case("coco_seeds")
    with torch.inference_mode():
        found = seen_by(golden, net, normalised(fill.image(*golden.case("coco_size"), seed)))
    for key, wanted in expected.items():
        golden.close(f"{name} coco {key}", found[key], wanted, **FORWARD)


def filled(module: nn.Module, stem: str, layout: Any, prefix: str = "") -> nn.Module:
    """Fill a module by the published names that begin with `stem`."""
    state = module.state_dict()
    theirs = {f"{prefix}{key}": list(value.shape) for key, value in state.items()}
    named = {theirs_key: f"{stem}{theirs_key.removeprefix(prefix)}" for theirs_key in theirs}
    back = {"branches.0": "c0", "branches.1": "c1", "branches.2": "c2", "branches.3": "c3"}
    weights = {}
    for key, full in named.items():
        for ours, published in back.items():
            full = full.replace(ours, published)
        weights[key] = torch.from_numpy(fill.tensor(full, theirs[key]))
    checkpoint.fill(module, weights, stem)
    return module.eval()


def test_heads(golden: Golden) -> None:
    heads, basic = golden.arrays("heads_cpdgl.npz"), golden.arrays("toco_basic.npz")
    channels, step = given(golden, "memory", "width"), given(golden, "strides", "projection")
    batch, classes, *grid = heads["aspp"].shape
    tokens = drawn(golden, "tokens", (len(heads["dino_head"]), channels), 27.7)
    maps = drawn(golden, "feat", (batch, channels, *grid), 20)
    with torch.inference_mode():
        head = filled(Projection(channels, 2048, channels, 0), "proj_head.", QUEUE_LAYOUT)
        golden.close("cpdgl projection", head(tokens)[:, ::step], heads["dino_head"], **FORWARD)
        decoder = filled(
            SummedDilations([channels], classes, (6, 12, 18, 24)), "decoder.", QUEUE_LAYOUT
        )
        golden.close("cpdgl decoder", decoder(maps), heads["aspp"], **FORWARD)
        head = filled(Projection(channels, 2048, 256, 1024), "proj_head.", TOCO_LAYOUT)
        golden.close("toco projection", head(tokens)[:, ::step], basic["ctc_head"], **FORWARD)
        decoder = filled(LargeFOV(channels, classes, 5, 512), "decoder.", TOCO_LAYOUT)
        golden.close("toco decoder", decoder(maps), basic["largefov"], **FORWARD)


class Memory(QueueNet):
    """The memories alone, without an encoder."""

    def __init__(self, prototypes: Tensor, queue: Tensor) -> None:
        nn.Module.__init__(self)
        self.register_buffer("prototypes", prototypes.clone())
        self.register_buffer("queue", queue.clone())
        self.register_buffer("queue_tags", torch.zeros(len(queue), 1))
        self.register_buffer("queue_next", torch.zeros(1, dtype=torch.long))


def test_prototypes(golden: Golden) -> None:
    expected, case = golden.arrays("memory.npz"), given(golden, "memory")
    width, momentum = case["width"], case["momentum"]
    stride = given(golden, "strides", "prototypes")
    start = drawn(golden, "prototypes", (case["classes"], width), 27.7)
    classes = torch.tensor(golden.case("proto_labels"))
    memory = Memory(start, torch.zeros(1, width))
    for number, name in enumerate(("class_tokens", "class_tokens2"), 1):
        tokens = drawn(golden, name, (len(classes), width), 27.7)
        memory.learn_prototypes(tokens, classes, momentum)
        found = memory.prototypes[:, ::stride]
        golden.close(
            f"prototypes after {number}", found, expected[f"proto_after{number}"], **FORWARD
        )
    memory = Memory(start, torch.zeros(1, width))
    memory.learn_prototypes(torch.ones(len(classes), width), torch.ones_like(classes), momentum)
    found = memory.prototypes[:, ::stride]
    golden.close("prototypes, gather of ones", found, expected["proto_published"], **FORWARD)


def test_queue(golden: Golden) -> None:
    expected, case = golden.arrays("memory.npz"), given(golden, "memory")
    wanted = values(golden)
    length, width = case["queue"], case["width"]
    count = len(expected["queue_identity_labels"])
    queue = F.normalize(drawn(golden, "queue", (length, width), 27.7), dim=0)
    down, right = given(golden, "strides", "queue")
    some = queue[::down, ::right]
    golden.close("queue at first", some, expected["queue_init_sub"], **FORWARD)
    norm = queue.norm(dim=1).mean()
    golden.close("queue at first, norms", norm, expected["queue_init_row_norm_mean"], **FORWARD)
    keys = drawn(golden, "keys", (count, width))
    tags = torch.arange(count) * case["tag_step"] % case["tags"] - 1
    down, right = given(golden, "strides", "enqueued")
    start = golden.case("queue_ptr")
    for kind, rows, own in (
        ("identity", keys, tags),
        ("published", torch.ones_like(keys), torch.ones_like(tags)),
    ):
        memory = Memory(torch.zeros(1, width), queue)
        memory.queue_next.fill_(start)
        memory.enqueue(rows, own)
        written = memory.queue[np.arange(start, start + count)]
        some = written[::down, ::right]
        golden.close(f"queue {kind}", some, expected[f"queue_{kind}_rows"], **FORWARD)
        found = memory.queue_tags[start : start + count, 0]
        golden.same(f"queue {kind}, tags", found, expected[f"queue_{kind}_labels"])
        golden.same(f"queue {kind}, next", memory.queue_next[0], wanted[f"queue_{kind}_ptr"])
