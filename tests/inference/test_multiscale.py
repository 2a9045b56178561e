"""Multi-scale inference: batching, mirroring and sharding change nothing."""

import pytest
import torch
from strided_network import CPU, network
from torch import Tensor, nn

from wsss.data.index import Entry, Index
from wsss.data.normalisation import Normalisation
from wsss.errors import DeviceMemoryError
from wsss.inference.multiscale import (
    Forward,
    ImageViews,
    inference,
    multiscale,
    plan_batches,
    shard_batches,
)
from wsss.inference.views import TestTimeAugmentation, cam_augmentation
from wsss.settings import CamParams
from wsss.settings.cams import Resize

NORMALISE = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def mirrored_at(*sizes: tuple[int, int]) -> TestTimeAugmentation:
    """Return an augmentation with mirrored views and maps of these sizes."""
    rules = tuple(lambda _, size=size: size for size in sizes)
    return TestTimeAugmentation(mirror=True, map_sizes=rules)


def collect(
    index: Index,
    batch: int,
    net: Forward | None = None,
    params: CamParams = CamParams(),  # noqa: B008  # frozen
    workers: int = 0,
) -> dict[str, Tensor]:
    batches = plan_batches(index.training(), batch)
    augmentation, forward = cam_augmentation(params), net or network()
    collected = {}
    with torch.inference_mode():
        results = inference(forward, batches, augmentation, NORMALISE, CPU, workers)
        for entries, (maps,) in results:
            collected |= dict(zip((entry.name for entry in entries), maps, strict=True))
    return collected


class SmallMemory(nn.Module):
    """A network on a device whose memory holds a number of pixels, as CUDA reports it."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self._net, self._pixels = network(), pixels
        self.failed = 0

    def forward(self, images: Tensor) -> Tensor:
        """Return the maps of images (B, 3, h, w) unless they are too many."""
        if images[:, 0].numel() > self._pixels:
            self.failed += 1
            raise torch.OutOfMemoryError("CUDA out of memory.")
        maps: Tensor = self._net(images)
        return maps


def test_images_one_by_one_and_in_batches_give_the_same_maps(squares: Index) -> None:
    alone, together = collect(squares, 1), collect(squares, 7)
    assert alone.keys() == together.keys() == {entry.name for entry in squares.training()}
    assert max((alone[name] - together[name]).abs().max() for name in alone) < 1e-5


def test_an_exhausted_memory_halves_the_batch_and_changes_no_map(squares: Index) -> None:
    largest = max(cam_augmentation(CamParams()).pixels(e.size) for e in squares.training())
    memory = SmallMemory(2 * largest)
    expected, maps = collect(squares, 8), collect(squares, 8, memory)
    assert max((expected[name] - maps[name]).abs().max() for name in expected) <= 1e-6
    assert memory.failed == 2  # 8 images, then 4; later batches begin with 2


def test_a_memory_too_small_for_one_image_is_an_error_of_one_line(squares: Index) -> None:
    with pytest.raises(
        DeviceMemoryError, match=r"too little free memory for one image of \d+ x \d+"
    ):
        collect(squares, 8, SmallMemory(100))


def test_batches_are_cut_by_the_pixels_of_their_largest_forward_pass() -> None:
    entries = [
        Entry(str(n), "", None, (), "train", (100, 100 + 300 * (n % 2)), "") for n in range(20)
    ]
    augmentation = TestTimeAugmentation((1.0, 2.0), mirror=True)
    assert augmentation.pixels((100, 100)) == 200 * 200 * 2
    sizes = [
        (len(batch), batch[0].size[1])
        for batch in plan_batches(entries, 8, augmentation, megapixels=0.32)
    ]
    assert sizes == [(4, 100), (4, 100), (2, 100), *[(1, 400)] * 10]
    assert [len(batch) for batch in plan_batches(entries, 8)] == [8, 2, 8, 2]


@pytest.mark.parametrize("resize", ["picture", "picture_gpu", "bicubic"])
def test_processes_that_load_images_change_no_map(squares: Index, resize: Resize) -> None:
    params = CamParams(resize=resize)
    alone, helped = collect(squares, 7, params=params), collect(squares, 7, None, params, 2)
    assert all(torch.equal(maps, helped[name]) for name, maps in alone.items())


def test_images_that_the_device_resizes_have_the_maps_of_pillows(squares: Index) -> None:
    pillow, device = (
        collect(squares, 7),
        collect(squares, 7, params=CamParams(resize="picture_gpu")),
    )
    assert all(torch.equal(maps, device[name]) for name, maps in pillow.items())


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
