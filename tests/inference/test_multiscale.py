"""Multi-scale inference: batching, mirroring and sharding change nothing."""

import pytest
import torch
from strided_network import CPU, network
from torch import Tensor

from wsss.data.index import Index
from wsss.data.normalisation import Normalisation
from wsss.inference.multiscale import (
    ImageViews,
    inference,
    multiscale,
    plan_batches,
    shard_batches,
)
from wsss.inference.views import TestTimeAugmentation, cam_augmentation
from wsss.settings import CamParams

NORMALISE = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def mirrored_at(*sizes: tuple[int, int]) -> TestTimeAugmentation:
    """Return an augmentation with mirrored views and maps of these sizes."""
    rules = tuple(lambda _, size=size: size for size in sizes)
    return TestTimeAugmentation(mirror=True, map_sizes=rules)


def collect(index: Index, batch: int) -> dict[str, Tensor]:
    batches = plan_batches(index.training(), batch)
    augmentation = cam_augmentation(CamParams(batch=batch))
    collected = {}
    with torch.inference_mode():
        for entries, (maps,) in inference(network(), batches, augmentation, NORMALISE, CPU):
            collected |= dict(zip((entry.name for entry in entries), maps, strict=True))
    return collected


def test_images_one_by_one_and_in_batches_give_the_same_maps(squares: Index) -> None:
    alone, together = collect(squares, 1), collect(squares, 7)
    assert alone.keys() == together.keys() == {entry.name for entry in squares.training()}
    assert max((alone[name] - together[name]).abs().max() for name in alone) < 1e-5


def test_maps_of_a_mirrored_image_are_mirrored() -> None:
    images = torch.rand(1, 3, 32, 48)
    with torch.inference_mode():
        (straight,) = multiscale(network(), [images], mirrored_at((8, 12)), (32, 48), CPU)
        (mirrored,) = multiscale(network(), [images.flip(3)], mirrored_at((8, 12)), (32, 48), CPU)
    assert torch.allclose(straight.flip(3), mirrored, atol=1e-6)


def test_a_net_with_equal_maps_everywhere_gives_their_sum(squares: Index) -> None:
    augmentation = TestTimeAugmentation(
        (1.0, 0.5, 1.5, 0.77), True, map_sizes=(lambda _: (12, 16),)
    )
    views = ImageViews([squares.training()[:1]], NORMALISE, augmentation)[0]
    ones = lambda images: torch.ones(len(images), 2, 3, 5)  # noqa: E731
    (total,) = multiscale(ones, views, augmentation, squares.training()[0].size, CPU)
    assert torch.equal(total, torch.full((1, 2, 12, 16), 8.0))


def test_without_a_scale_there_is_nothing_to_merge() -> None:
    with pytest.raises(ValueError, match="at least one scale"):
        multiscale(network(), [], TestTimeAugmentation(()), (32, 48), CPU)


def test_shards_are_whole_batches_and_cover_everything(squares: Index) -> None:
    batches = plan_batches(squares.training(), 5)
    assert all(len({entry.size for entry in batch}) == 1 for batch in batches)
    for count in (1, 2, 3, 50):
        shards = [shard_batches(batches, (k, count)) for k in range(1, count + 1)]
        assert sorted(e.name for s in shards for b in s for e in b) == [
            e.name for e in squares.training()
        ]


def test_one_forward_pass_gives_maps_of_several_sizes() -> None:
    images, calls = [torch.rand(2, 3, 32, 48)], []
    net = network()
    counted = lambda batch: calls.append(0) or net(batch)  # noqa: E731
    sizes = ((8, 12), (32, 48))
    with torch.inference_mode():
        together = multiscale(counted, images, mirrored_at(*sizes), (32, 48), CPU)
        alone = [multiscale(net, images, mirrored_at(size), (32, 48), CPU)[0] for size in sizes]
    assert len(calls) == 1
    assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))
