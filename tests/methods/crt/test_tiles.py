"""Tiles: cut and merged they are the image again, at any size; half of a tile overlaps."""

import pytest
import torch

from wsss.methods.crt import tiles

SIDE = 8


@pytest.mark.parametrize("size", [(8, 8), (3, 8), (12, 20), (9, 16), (17, 5)])
@pytest.mark.parametrize("always", [False, True])
def test_tiles_merge_to_the_padded_image(size: tuple[int, int], always: bool) -> None:
    images = torch.randn(2, 3, *size)
    padded = tiles.pad(images, SIDE, always=always)
    assert torch.equal(padded[:, :, : size[0], : size[1]], images)
    found = tiles.merge(tiles.cut(padded, SIDE), (padded.shape[2], padded.shape[3]))
    assert torch.allclose(found, padded, atol=1e-6)


def test_sides_are_whole_tiles_and_grow_only_if_always() -> None:
    images = torch.zeros(1, 3, 8, 12)
    assert tiles.pad(images, SIDE).shape[2:] == (8, 12)
    assert tiles.pad(images, SIDE, always=True).shape[2:] == (12, 16)
    assert tiles.pad(torch.zeros(1, 3, 1, 9), SIDE).shape[2:] == (8, 12)


def test_a_cell_is_the_mean_over_its_tiles() -> None:
    maps = torch.arange(4.0).repeat_interleave(SIDE * SIDE).reshape(4, 1, SIDE, SIDE)
    found = tiles.merge(maps, (12, 12))[0, 0]
    corners = [found[0, 0], found[0, 11], found[11, 0], found[11, 11]]
    assert corners == [0, 1, 2, 3]
    assert found[6, 6] == 1.5
    assert found[0, 6] == 0.5


def test_the_second_image_has_its_own_tiles() -> None:
    images = torch.stack([torch.zeros(3, 12, 12), torch.ones(3, 12, 12)])
    found = tiles.merge(tiles.cut(images, SIDE), (12, 12))
    assert found[0].max() == 0
    assert found[1].min() == 1
