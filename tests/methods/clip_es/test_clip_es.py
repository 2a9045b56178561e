"""CLIP-ES: laws of its maps, and vectors that are the mean features of each class."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.data.images import load_truth
from wsss.data.index import Index
from wsss.data.workers import Batch, label_vector
from wsss.inference.trained import normalisation
from wsss.methods.base import load_method
from wsss.methods.clip_es.method import ClipES
from wsss.methods.clip_es.network import ClipNet
from wsss.settings import Params
from wsss.settings.resolve import resolve_settings
from wsss.training.batches import Squares

CLASSES = 4
CLOSE = {"rtol": 0.0, "atol": 1e-4}  # of maps in [0, 1], whose small maxima enlarge rounding


def build(classes: int = CLASSES, seed: int = 0) -> tuple[ClipES, ClipNet]:
    torch.manual_seed(seed)
    settings = resolve_settings(Params(), "shapes", "clip_es", "common")
    method = load_method("clip_es")(settings.networks, classes)
    assert isinstance(method, ClipES)
    return method, method.build("clip").eval().requires_grad_(False)


def images(count: int = 2) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(count, 3, 48, 64)


PRESENT = torch.tensor([[1.0, 0, 1, 1], [0, 0, 0, 1]])


@pytest.mark.parametrize("inference", [True, False])
def test_absent_classes_have_no_map_and_the_others_compete(inference: bool) -> None:
    method, net = build()
    with torch.inference_mode(inference):
        maps = method.cam_of(net, images(), PRESENT)
        explained = method.explained(net, images(), PRESENT)
    assert maps.shape == (2, CLASSES, 6, 8)
    assert not maps[PRESENT == 0].any()
    assert maps.min() >= 0
    assert maps.max() <= 1
    assert torch.allclose(explained.probability.sum(1), torch.ones(2))
    assert not explained.probability[:, :CLASSES][PRESENT == 0].any()
    alone = method.cam_of(net, images(), torch.eye(CLASSES)[[3, 3]])
    assert not torch.allclose(alone[0, 3], maps[0, 3], **CLOSE)  # without its rivals
    assert torch.allclose(alone[1, 3], maps[1, 3], **CLOSE)


def test_images_of_a_batch_do_not_mix() -> None:
    method, net = build()
    together = method.cam_of(net, images(), PRESENT)
    alone = [method.cam_of(net, images()[[i]], PRESENT[[i]]) for i in range(2)]
    assert torch.allclose(torch.cat(alone), together, **CLOSE)
    assert not method.cam_of(net, images(), torch.zeros(2, CLASSES)).any()  # images without a class


def test_the_order_of_backgrounds_changes_nothing() -> None:
    method, net = build()
    net.background = F.normalize(torch.randn(5, net.background.shape[1]), dim=1)
    maps = method.cam_of(net, images(), PRESENT)
    net.background = net.background.flip(0)
    assert torch.allclose(method.cam_of(net, images(), PRESENT), maps, **CLOSE)


@pytest.mark.parametrize("seed", range(3))
def test_mean_features_find_the_classes(squares: Index, seed: int) -> None:
    method, net = build(len(squares.classes), seed)
    entries = squares.training()
    whole = Squares(squares, entries, normalisation(net), 0)

    def source(side: int, batch: int) -> Iterator[Batch]:
        return whole.in_order(side, batch)

    method.give("clip", net, None, source)
    right = []
    for entry in entries:
        (batch,) = Squares(squares, [entry], normalisation(net), 0).in_order(48, 1)
        maps = method.cam_of(net, batch["image"], label_vector(squares, entry)[None])
        maps = F.interpolate(maps, entry.size, mode="bilinear")[0]
        truth = torch.from_numpy(load_truth(entry, len(squares.classes)).astype(int))
        for label in squares.numbers(entry.labels):
            is_object = truth == label + 1
            right.append(maps[label][is_object].mean() > maps[label][~is_object].mean())
    assert torch.stack(right).float().mean() > 0.9
