"""Laws of scores and of the random walk, tried on whatever hypothesis draws."""

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from laws import law

from wsss.data.labelmap import IGNORE
from wsss.refine.affinity import offsets, windows
from wsss.refine.random_walk import cells, random_walk, transition, with_background
from wsss.scores.metrics import (
    ThresholdCurve,
    class_scores,
    confusion,
    erode,
    mean_average_precision,
    mean_iou,
    pixel_scores,
    seed,
    thresholds,
)

CLASSES = 4
SIDES = st.integers(1, 9)
SHAPES = st.tuples(SIDES, SIDES)
VALUES = st.sampled_from([*range(CLASSES), IGNORE])
NAMES = st.sampled_from("ABCD")
FLOATS = st.floats(0, 1, width=32)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Return a truth with ignored pixels and a prediction without, of one shape."""
    shape = draw(SHAPES)
    truth = draw(arrays.arrays(np.uint8, shape, elements=VALUES))
    return truth, draw(arrays.arrays(np.uint8, shape, elements=st.integers(0, CLASSES - 1)))


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a truth, class maps and their labels, of one shape."""
    shape, count = draw(SHAPES), draw(st.integers(0, CLASSES - 1))
    truth = draw(arrays.arrays(np.uint8, shape, elements=VALUES))
    maps = draw(arrays.arrays(np.float32, (count, *shape), elements=FLOATS))
    labels = draw(st.permutations(range(CLASSES - 1)))[:count]
    return truth, maps, np.array(labels, np.int16)


def same(first: np.ndarray, second: np.ndarray) -> bool:
    return bool(np.allclose(first, second, rtol=0, atol=1e-12, equal_nan=True))


@law(pairs(), st.integers(0, 9))
def test_confusions_of_parts_add_up_to_that_of_the_whole(
    drawn: tuple[np.ndarray, np.ndarray], row: int
) -> None:
    truth, given = drawn
    parts = [confusion(truth[p], given[p], CLASSES) for p in (slice(None, row), slice(row, None))]
    assert (parts[0] + parts[1] == confusion(truth, given, CLASSES)).all()
    assert parts[0].sum() + parts[1].sum() == (truth != IGNORE).sum()


@law(pairs(), st.permutations(range(CLASSES)))
def test_classes_by_other_numbers_have_the_same_scores(
    drawn: tuple[np.ndarray, np.ndarray], order: list[int]
) -> None:
    truth, given = drawn
    table = np.array([*order, *range(CLASSES, IGNORE), IGNORE], np.uint8)
    counts = confusion(truth, given, CLASSES)
    renamed = confusion(table[truth], table[given], CLASSES)
    assert (renamed[np.ix_(order, order)] == counts).all()
    assert all(same(mean_iou(renamed, c), mean_iou(counts, c)) for c in "ABC")


@law(pairs(), NAMES)
def test_scores_stay_within_their_bounds(
    drawn: tuple[np.ndarray, np.ndarray], convention: str
) -> None:
    counts = confusion(*drawn, CLASSES)
    found = class_scores(counts)
    values = [*map(np.nan_to_num, found.values()), *pixel_scores(counts).values()]
    assert all((v >= 0).all() and (v <= 1).all() for v in map(np.asarray, values))
    assert mean_iou(counts, "C") <= mean_iou(counts, convention) + 1e-12 <= 1 + 1e-9
    swapped = class_scores(counts.T)
    assert same(swapped["precision"], found["recall"])
    assert same(swapped["iou"], found["iou"])


@law(pairs())
def test_the_truth_itself_scores_one(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    truth = drawn[0]
    assume((truth != IGNORE).any())
    perfect = np.where(truth == IGNORE, 0, truth)
    assert mean_iou(confusion(truth, perfect, CLASSES)) == 1


@law(scored(), st.integers(1, 12))
def test_the_curve_equals_an_evaluation_at_each_threshold(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray], count: int
) -> None:
    truth, maps, labels = drawn
    levels = thresholds(count)
    curve = ThresholdCurve(CLASSES, levels)
    curve.add(truth, maps, labels)
    single = [confusion(truth, seed(maps, labels, level), CLASSES) for level in levels]
    assert (curve.matrices() == np.array(single)).all()


@law(scored(), FLOATS, FLOATS)
def test_a_higher_threshold_only_takes_foreground_away(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray], first: float, second: float
) -> None:
    _, maps, labels = drawn
    low, high = (seed(maps, labels, level) for level in sorted((first, second)))
    assert (high[high > 0] == low[high > 0]).all()


@law(pairs(), st.sampled_from([1, 3, 7]))
def test_erosion_only_takes_away(drawn: tuple[np.ndarray, np.ndarray], side: int) -> None:
    labels = drawn[1]
    cut = erode(labels, side)
    assert ((cut == labels) | (cut == 0)).all()


@law(arrays.arrays(np.float32, (6, 3), elements=FLOATS), arrays.arrays(bool, (6, 3)))
def test_average_precision_is_a_share_and_follows_the_ranking(
    scores: np.ndarray, truth: np.ndarray
) -> None:
    value = mean_average_precision(scores, truth)
    assert 0 <= value <= 1
    assert mean_average_precision(truth.astype(float), truth) in (0.0, 1.0)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list, tuple[int, int], float]:
    """Return affinities of all pairs within a radius, the grid, and the exponent."""
    grid, radius = draw(st.tuples(st.integers(2, 7), st.integers(2, 7))), draw(st.integers(2, 3))
    found = []
    for offset in offsets(radius):
        here, _ = windows(*grid, offset)
        shape = np.zeros(grid)[here].shape
        found.append((offset, draw(arrays.arrays(np.float32, shape, elements=FLOATS))))
    return found, grid, draw(st.floats(1, 10))


MAPS = st.integers(0, 2**32 - 1)


def drawn_maps(number: int, grid: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(number).uniform(-1, 1, (2, *grid))


@law(graphs(), MAPS, st.integers(0, 40), share=0.5)
def test_a_walk_keeps_values_in_range_and_a_constant_where_it_is(
    graph: tuple[list, tuple[int, int], float], number: int, steps: int
) -> None:
    pairs, grid, beta = graph
    step, maps = transition(pairs, *grid, beta), drawn_maps(number, grid)
    walked = random_walk(maps, step, steps)
    assert walked.min() >= maps.min() - 1e-12
    assert walked.max() <= maps.max() + 1e-12
    constant = np.full((1, *grid), 0.3)
    assert np.allclose(random_walk(constant, step, steps), constant, rtol=0, atol=1e-12)


@law(graphs(), MAPS, st.integers(0, 40), share=0.5)
def test_a_walk_keeps_the_sum_that_cells_weigh_by_their_affinities(
    graph: tuple[list, tuple[int, int], float], number: int, steps: int
) -> None:
    pairs, grid, beta = graph
    weights = np.ones(grid)
    for offset, affinity in pairs:
        here, there = windows(*grid, offset)
        weights[here] += affinity.astype(np.float64) ** beta
        weights[there] += affinity.astype(np.float64) ** beta
    maps = drawn_maps(number, grid)
    walked = random_walk(maps, transition(pairs, *grid, beta), steps)
    before, after = ((each * weights).sum((1, 2)) for each in (maps, walked))
    assert np.allclose(before, after, rtol=0, atol=1e-9)


@law(graphs(), MAPS, MAPS, st.floats(-2, 2), share=0.5)
def test_a_walk_of_a_sum_is_the_sum_of_walks(
    graph: tuple[list, tuple[int, int], float], number: int, other: int, factor: float
) -> None:
    pairs, grid, beta = graph
    step = transition(pairs, *grid, beta)
    first, second = drawn_maps(number, grid), drawn_maps(other, grid)
    both = random_walk(first + factor * second, step, 8)
    apart = random_walk(first, step, 8) + factor * random_walk(second, step, 8)
    assert np.allclose(both, apart, rtol=0, atol=1e-9)


@law(SHAPES, st.integers(1, 4), MAPS)
def test_means_over_cells_keep_the_sum(shape: tuple[int, int], stride: int, number: int) -> None:
    maps = drawn_maps(number, shape).astype(np.float32)
    assert np.allclose(cells(maps, stride).sum() * stride**2, maps.sum(), rtol=0, atol=1e-3)


@law(scored(), st.sampled_from(["constant", "power"]), st.floats(0.1, 8))
def test_a_background_stands_in_front_and_in_range(
    drawn: tuple[np.ndarray, np.ndarray, np.ndarray], kind: str, value: float
) -> None:
    maps = drawn[1]
    assume(len(maps))
    found = with_background(maps, kind, min(value, 1) if kind == "constant" else value)  # type: ignore[arg-type]
    assert (found[1:] == maps).all()
    assert ((found[0] >= 0) & (found[0] <= 1)).all()
