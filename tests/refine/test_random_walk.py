"""Laws of the random walk and of the pairs it goes along."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from wsss.refine.affinity import (
    affinity_loss,
    displacement_loss,
    from_thresholds,
    gaussian_affinities,
    inner_radius,
    offsets,
    pair_affinities,
    path_affinities,
    paths,
    reduce_labels,
    windows,
)
from wsss.refine.random_walk import (
    cells,
    random_walk,
    random_walks,
    transition,
    transition_rows,
    with_background,
)
from wsss.settings import AffinityParams, WalkParams
from wsss.stages.walk import neighbours, neighbours_of_images, spread_cam, spread_cams
from wsss.storage.cam_archive import Cam

SIZE = (9, 12)


def random_affinities(radius: int = 4, seed: int = 0) -> list[tuple[tuple[int, int], np.ndarray]]:
    generator = np.random.default_rng(seed)
    found = []
    for offset in offsets(radius):
        here, _ = windows(*SIZE, offset)
        found.append((offset, generator.random(np.zeros(SIZE)[here].shape)))
    return found


def dense(affinities: list[tuple[tuple[int, int], np.ndarray]], beta: float) -> np.ndarray:
    """Return the published form: a dense matrix whose columns sum to one."""
    height, width = SIZE
    matrix = np.eye(height * width)
    for (dy, dx), values in affinities:
        here, _ = windows(height, width, (dy, dx))
        for row, column in np.argwhere(np.ones(values.shape)):
            y, x = row + (here[0].start or 0), column + here[1].start
            first, second = y * width + x, (y + dy) * width + x + dx
            matrix[first, second] = matrix[second, first] = values[row, column] ** beta
    return matrix / matrix.sum(0, keepdims=True)


def test_radius_five_has_the_34_published_offsets() -> None:
    found = offsets(5)
    assert len(found) == 34
    assert found[:5] == [(0, 1), (0, 2), (0, 3), (0, 4), (1, -4)]
    assert len({(-dy, -dx) for dy, dx in found} | set(found)) == 68


def test_the_sparse_walk_equals_powers_of_the_dense_matrix() -> None:
    affinities, steps = random_affinities(), 64
    maps = np.random.default_rng(1).random((3, *SIZE))
    sparse = random_walk(maps, transition(affinities, *SIZE, beta=3.0), steps)
    power = np.linalg.matrix_power(dense(affinities, 3.0), steps)
    expected = (maps.reshape(3, -1) @ power).reshape(maps.shape)
    assert np.abs(sparse - expected).max() < 1e-12


def test_without_affinities_nothing_moves() -> None:
    maps = np.random.default_rng(1).random((2, *SIZE))
    none = [(offset, np.zeros_like(values)) for offset, values in random_affinities()]
    assert np.array_equal(random_walk(maps, transition(none, *SIZE, beta=8.0), 256), maps)


@pytest.mark.parametrize("steps", [1, 16])
def test_a_constant_map_stays_and_values_stay_in_range(steps: int) -> None:
    step = transition(random_affinities(), *SIZE, beta=8.0)
    constant = random_walk(np.full((1, *SIZE), 0.4), step, steps)
    assert np.allclose(constant, 0.4, rtol=0, atol=1e-12)
    maps = np.random.default_rng(2).random((2, *SIZE))
    walked = random_walk(maps, step, steps)
    assert walked.min() >= maps.min()
    assert walked.max() <= maps.max()


def test_the_walk_commutes_with_a_mirror() -> None:
    def mirrored() -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        for (dy, dx), values in random_affinities():
            if dy == 0:  # the pair is met from its other end
                yield (dy, dx), values[:, ::-1]
            else:
                yield (dy, -dx), values[:, ::-1]

    maps = np.random.default_rng(3).random((1, *SIZE))
    straight = random_walk(maps, transition(random_affinities(), *SIZE, beta=2.0), 8)
    flipped = random_walk(maps[:, :, ::-1], transition(mirrored(), *SIZE, beta=2.0), 8)
    assert np.allclose(straight[:, :, ::-1], flipped, atol=1e-12)


def test_affinity_is_one_for_equal_features_and_falls_with_distance() -> None:
    features = torch.zeros(1, 4, 6, 6)
    features[:, :, :, 3:] = 2.0
    for (_, dx), values in pair_affinities(features, 3):
        assert all(v in (1.0, pytest.approx(np.exp(-2.0))) for v in values.unique().tolist())
        if dx == 0:
            assert values.min() == 1


def test_frozen_affinity_is_the_cosine_in_units() -> None:
    angles = torch.tensor([0.0, 0.0, 0.5, 2.0])
    features = torch.stack([angles.cos(), angles.sin()]).reshape(1, 2, 1, 4) / 0.25**0.5
    pairs = dict(gaussian_affinities(features, 3))
    expected = [math.exp(-(1 - math.cos(angle)) / 0.25) for angle in (0.0, 0.5, 1.5)]
    assert pairs[0, 1][0, 0].tolist() == pytest.approx(expected, rel=1e-5)
    assert pairs[0, 2][0, 0, 0].item() == pytest.approx(expected[1], rel=1e-5)


@pytest.mark.parametrize("margin", [0, 3])
def test_affinities_with_a_gradient_are_those_without_and_have_the_gradient_of_autograd(
    margin: int,
) -> None:
    torch.manual_seed(0)
    features = torch.rand(2, 3, 9, 8, dtype=torch.float64, requires_grad=True)
    plain = [values for _, values in pair_affinities(features.detach(), 4, margin)]
    ours = [values for _, values in pair_affinities(features, 4, margin)]
    assert all(torch.equal(a, b) for a, b in zip(plain, ours, strict=True))
    weights = [torch.rand_like(values) for values in ours]
    (found,) = torch.autograd.grad(
        sum((w * v).sum() for w, v in zip(weights, ours, strict=True)), features
    )
    again = features.detach().clone().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for weight, offset in zip(weights, offsets(4), strict=True):
        (a, b), (c, d) = windows(9, 8, offset, margin)
        distance = (again[:, :, a, b] - again[:, :, c, d]).abs().mean(1)
        total = total + (weight * (-distance).exp()).sum()
    (expected,) = torch.autograd.grad(total, again)
    assert torch.allclose(found, expected, atol=1e-14)


def test_the_loss_by_offsets_equals_the_loss_over_all_pairs() -> None:
    torch.manual_seed(0)
    features = torch.rand(2, 3, 7, 8)
    labels = torch.randint(0, 3, (2, 7, 8))
    labels[0, :2] = 255
    sums = {"background": [], "foreground": [], "unlike": []}
    for b in range(2):
        for y in range(7):
            for x in range(8):
                for dy, dx in offsets(3):
                    if not (0 <= y + dy < 7 and 0 <= x + dx < 8):
                        continue
                    first, second = labels[b, y, x], labels[b, y + dy, x + dx]
                    if 255 in (first, second):
                        continue
                    distance = (features[b, :, y, x] - features[b, :, y + dy, x + dx]).abs().mean()
                    alike = torch.exp(-distance)
                    kind = "unlike" if first != second else "foreground" if first else "background"
                    value = 1 + 1e-5 - alike if kind == "unlike" else alike + 1e-5
                    sums[kind].append(-torch.log(value))
    expected = {
        k: w * torch.stack(sums[k]).mean() for k, w in zip(sums, (0.25, 0.25, 0.5), strict=True)
    }
    found = affinity_loss(pair_affinities(features, 3), labels)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-5)


def test_a_crop_that_is_wholly_unknown_teaches_nothing_and_has_finite_gradients() -> None:
    features = torch.rand(1, 3, 6, 6, requires_grad=True)
    total = torch.stack(
        list(affinity_loss(pair_affinities(features, 3), torch.full((1, 6, 6), 255)).values())
    ).sum()
    total.backward()
    assert total.item() == 0
    assert features.grad is not None
    assert features.grad.abs().max() == 0


def test_confident_labels_follow_the_three_rules() -> None:
    generous = np.array([[2, 0, 0, 1]])  # 1 and 2 stand for classes 4 and 7
    meagre = np.array([[2, 0, 1, 0]])
    assert from_thresholds(generous, meagre, [4, 7]).tolist() == [[8, 0, 255, 5]]


def test_labels_are_reduced_at_the_middle_of_cells() -> None:
    labels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert reduce_labels(labels, (2, 2)).tolist() == [[18, 22], [50, 54]]


def stacked(margin: int, radius: int = 4) -> list[tuple[tuple[int, int], torch.Tensor]]:
    """Return the affinities of three images: 0 and 1 among them, and too small to count."""
    generator = torch.Generator().manual_seed(margin)
    pairs = []
    for offset in offsets(radius):
        here, _ = windows(*SIZE, offset, margin)
        values = torch.rand(3, *np.zeros(SIZE)[here].shape, generator=generator)
        pairs.append((offset, values.mul(1.4).sub(0.2).clamp(0, 1)))
        pairs[-1][1][0] *= 1e-12
    return pairs


def gathered(pairs: list[tuple[tuple[int, int], np.ndarray]], beta: float, margin: int) -> Any:
    """Return the matrix of one image, put together pair by pair."""
    grid = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE)
    matrix = scipy.sparse.lil_array((grid.size, grid.size))
    matrix.setdiag(1.0)
    for offset, affinity in pairs:
        here, there = windows(*SIZE, offset, margin)
        for first, second, value in zip(
            grid[here].flat, grid[there].flat, affinity.astype(np.float64).flat, strict=True
        ):
            if value**beta > 1e-30:
                matrix[first, second] = matrix[second, first] = value**beta
    matrix = matrix.tocsr()
    return scipy.sparse.diags_array(1 / matrix.sum(1)) @ matrix


@pytest.mark.parametrize("margin", [0, 3])
def test_the_matrix_equals_the_one_put_together_pair_by_pair(margin: int) -> None:
    pairs, cells_per_image = stacked(margin), SIZE[0] * SIZE[1]
    rows = transition_rows(pairs, *SIZE, 3.0, margin)
    size = 3 * cells_per_image
    together = scipy.sparse.csr_array(
        (rows.values.numpy(), rows.columns.numpy(), rows.starts.numpy()), shape=(size, size)
    )
    assert together.has_sorted_indices
    for image in range(3):
        one_image = [(offset, values[image].numpy()) for offset, values in pairs]
        expected = gathered(one_image, 3.0, margin)
        step = transition(one_image, *SIZE, 3.0, margin)
        block = slice(image * cells_per_image, (image + 1) * cells_per_image)
        assert step.nnz == expected.nnz == together[block].nnz
        for matrix in (step, together[block, block]):
            assert abs(matrix - expected).max() < 1e-10


def test_images_that_walk_together_in_torch_walk_as_in_scipy() -> None:
    pairs = stacked(0)
    generator = np.random.default_rng(2)
    maps = [generator.random((count, *SIZE)) for count in (4, 1, 2)]
    together = random_walks(maps, transition_rows(pairs, *SIZE, 2.0), 32)
    for image, (part, walked) in enumerate(zip(maps, together, strict=True)):
        step = transition([(at, values[image]) for at, values in pairs], *SIZE, 2.0)
        assert np.abs(random_walk(part, step, 32) - walked).max() < 1e-10


def test_without_offsets_and_on_one_column_the_walk_stays_in_its_cells() -> None:
    maps = np.random.default_rng(3).random((2, 5, 1))
    assert np.array_equal(random_walk(maps, transition([], 5, 1, 2.0), 8), maps)
    below = [((1, 0), np.ones((4, 1))), ((0, 1), np.ones((5, 0))), ((1, -1), np.ones((4, 0)))]
    walked = random_walk(maps, transition(below, 5, 1, 2.0), 1)
    assert np.allclose(walked[:, 0, 0], maps[:, :2, 0].mean(1), rtol=0, atol=1e-15)


def test_cams_that_walk_together_are_those_that_walk_alone() -> None:
    params = WalkParams(normalise="image", background="constant", background_value=0.4)
    generator = np.random.default_rng(4)
    cams = [
        Cam(np.arange(count), generator.random((count, 5, 6), np.float32), (40, 48), 8)
        for count in (2, 0, 1)
    ]
    features = torch.rand(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    near = neighbours_of_images(features, 8, AffinityParams(stride=8), params)
    together = spread_cams(cams, near, params, device="cpu:0")
    for cam, output, walked in zip(cams, features, together, strict=True):
        alone = spread_cam(cam, neighbours(output, 8, AffinityParams(stride=8), params), params)
        assert np.abs(alone.cam.astype(float) - walked.cam).max(initial=0) < 1e-3  # of float16
        assert (alone.background is None) == (walked.background is None)


def test_the_published_margin_leaves_ten_cells_without_any_pair() -> None:
    for size in ((36, 63), (47, 63), (56, 56)):
        met = np.zeros(size, bool)
        for offset in offsets(5):
            for window in windows(*size, offset, margin=4):
                met[window] = True
        assert (~met).sum() == 10
        assert sum(np.zeros(size)[windows(*size, o, 4)[0]].size for o in offsets(5)) == 34 * (
            size[0] - 4
        ) * (size[1] - 8)


def test_the_radius_shrinks_on_small_grids_only() -> None:
    assert [inner_radius(20, side, 5) for side in (30, 11, 10, 8, 5)] == [5, 5, 4, 3, 2]


def test_an_edge_between_two_cells_parts_them_and_one_beside_does_not() -> None:
    edges = torch.zeros(1, 7, 9)
    edges[0, :, 4] = 0.75
    for (dy, dx), found in path_affinities(edges, 5):
        (rows, columns), _ = windows(7, 9, (dy, dx))
        lines = dict(paths(5))[(dy, dx)]
        for y in range(rows.start, rows.stop):
            for x in range(columns.start, columns.stop):
                crossed = any(x + step == 4 for _, step in lines)
                assert found[0, y - rows.start, x - columns.start] == (0.25 if crossed else 1.0)


@pytest.mark.parametrize("damp", [True, False])
def test_a_boundary_that_fills_an_object_erases_it_only_where_maps_are_damped(damp: bool) -> None:
    edges = torch.zeros(1, 8, 8)
    edges[0, 2:6, 2:6] = 1.0
    maps = np.zeros((1, 8, 8), np.float32)
    maps[0, 2:6, 2:6] = 1.0
    cam = Cam(np.array([0], np.int16), maps.astype(np.float16), (32, 32), 4)
    params = WalkParams(damp=damp, radius=5)
    near = neighbours(edges, 4, AffinityParams(kind="irn"), params)
    walked = spread_cam(cam, near, params).cam[0]
    assert (walked.max() > 0.99) != damp
    assert (walked[2:6, 2:6].min() > walked[0].max()) != damp


def test_a_field_that_points_to_one_centre_has_no_displacement_loss() -> None:
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(9.0), indexing="ij")
    towards_centre = torch.stack([4 - rows, 4 - columns])[None]
    labels = torch.full((1, 8, 9), 3)
    terms = displacement_loss(towards_centre, labels, 4)
    assert terms["moves"] == terms["rests"] == 0
    still = displacement_loss(torch.zeros(1, 2, 8, 9), labels, 4)
    assert still["moves"] > 0.2
    assert displacement_loss(towards_centre, labels * 0, 4)["rests"] > 0.2


def test_background_joins_the_walk_as_a_constant_or_as_a_power() -> None:
    maps = np.array([[[0.2, 0.6]], [[0.5, 0.1]]], np.float32)
    assert np.allclose(with_background(maps, "constant", 0.4)[0], [[0.4, 0.4]])
    assert np.allclose(with_background(maps, "power", 2)[0], [[0.25, 0.16]])
    assert np.array_equal(with_background(maps, "power", 2)[1:], maps)


def test_cells_average_and_what_lies_outside_counts_as_zero() -> None:
    found = cells(np.ones((1, 3, 5), np.float32), 2)
    assert np.allclose(found, [[[1, 1, 0.5], [0.5, 0.5, 0.25]]])
