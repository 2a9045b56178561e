"""Laws of label maps, crops and boxes: an image and its labels move together."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from laws import law

from wsss.data import labelmap
from wsss.data.labelmap import IGNORE
from wsss.data.normalisation import Normalisation
from wsss.randomness import rng
from wsss.scores.boxes import overlaps
from wsss.settings import AugmentParams
from wsss.storage.cam_archive import enlarge, grid
from wsss.training.augment import augment, content, resize_labels
from wsss.training.deit_augment import draw_crop, draw_erased

PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1.0)
SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.tuples(st.integers(1, 48), st.integers(1, 48))
LABELS = arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=20))
ORDERS = st.sampled_from(
    [("scale", "mirror", "colour", "crop"), ("colour", "scale", "crop", "mirror")]
)


@law(LABELS)
def test_a_label_map_comes_back_as_it_was(labels: np.ndarray) -> None:
    content = labelmap.encode(labels)
    assert (labelmap.decode(content, "x") == labels).all()
    assert labelmap.encode(labels) == content


@law(LABELS, st.integers(1, 254))
def test_a_label_map_fits_exactly_if_its_labels_are_known(labels: np.ndarray, most: int) -> None:
    odd = any(most < value < IGNORE for value in labels.ravel().tolist())
    assert len(list(labelmap.misfits(labels, labels.shape, most, "x"))) == odd
    turned = (labels.shape[0] + 1, labels.shape[1])
    assert len(list(labelmap.misfits(labels, turned, most, "x"))) == odd + 1


def numbered(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return an image whose pixels say where they are, from 1, and labels made from that."""
    rows, columns = np.mgrid[1 : size[0] + 1, 1 : size[1] + 1].astype(np.uint8)
    return np.stack([rows, columns, np.full_like(rows, 9)], -1), named(rows, columns)


def named(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    found: np.ndarray = ((rows.astype(int) * 5 + columns.astype(int) * 3) % 200).astype(np.uint8)
    return found


@law(SIZES, st.integers(1, 40), ORDERS, st.sampled_from(["random", "top_left"]), SEEDS)
def test_an_image_and_its_labels_move_together(
    size: tuple[int, int], crop: int, order: tuple[str, ...], place: str, seed: int
) -> None:
    params = AugmentParams(crop_px=crop, scale=(1.0, 1.0), jitter=0.0, order=order, place=place)  # type: ignore[arg-type]
    image, labels = numbered(size)
    cut, own, draws = augment(image, labels, params, PLAIN, np.random.default_rng(seed))
    assert own is not None
    inside = cut[2] > 0
    assert (own[inside] == named(cut[0], cut[1])[inside]).all()
    assert (own[~inside] == IGNORE).all()
    top, left, bottom, right = content(draws, params)
    box = np.zeros_like(inside)
    box[top:bottom, left:right] = True
    assert (box == inside).all()


@law(SIZES, st.integers(1, 40), st.floats(0.3, 3), st.sampled_from([1, 17, 200]), SEEDS)
def test_a_scaled_crop_holds_no_label_that_was_not_there(
    size: tuple[int, int], crop: int, scale: float, label: int, seed: int
) -> None:
    params = AugmentParams(crop_px=crop, scale=(scale, scale), jitter=0.3)
    image, labels = np.full((*size, 3), 200, np.uint8), np.full(size, label, np.uint8)
    cut, own, draws = augment(image, labels, params, PLAIN, np.random.default_rng(seed))
    assert own is not None
    top, left, bottom, right = content(draws, params)
    assert cut.shape == (3, crop, crop)
    assert (own[top:bottom, left:right] == label).all()
    assert (own == label).sum() == (bottom - top) * (right - left)


@law(SIZES, SIZES, st.sampled_from(["centre", "corner"]), SEEDS)
def test_resized_labels_are_of_the_same_classes(
    size: tuple[int, int], wanted: tuple[int, int], cell: str, seed: int
) -> None:
    labels = np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)
    found = resize_labels(labels, wanted, cell)
    assert found.shape == wanted
    assert set(found.ravel()) <= set(labels.ravel())
    assert (resize_labels(labels, size, cell) == labels).all()


@law(SIZES, st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted), SEEDS)
def test_a_drawn_crop_lies_in_the_image(
    size: tuple[int, int], area: list[float], seed: int
) -> None:
    top, left, height, width = draw_crop(size, (area[0], area[1]), np.random.default_rng(seed))
    assert 0 <= top < top + height <= size[0]
    assert 0 <= left < left + width <= size[1]


@law(st.integers(1, 400), SEEDS)
def test_what_is_erased_lies_in_the_crop(side: int, seed: int) -> None:
    box = draw_erased(side, np.random.default_rng(seed))
    if box is not None:
        assert 0 <= box[0] <= box[0] + box[2] <= side
        assert 0 <= box[1] <= box[1] + box[3] <= side


BOXES = st.tuples(*[st.integers(0, 30)] * 4).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)


@law(BOXES, BOXES, st.integers(0, 9), st.integers(0, 9))
def test_overlaps_are_shares_and_move_with_both_boxes(
    first: tuple[int, ...], second: tuple[int, ...], right: int, down: int
) -> None:
    found = overlaps(first, [second])  # type: ignore[arg-type]
    assert all(0 <= share <= 1 for values in found.values() for share in values)
    turned = overlaps(second, [first])  # type: ignore[arg-type]
    assert (found["iou"], found["truth"]) == (turned["iou"], turned["own"])
    moved = [(a + right, b + down, c + right, d + down) for a, b, c, d in (first, second)]
    assert overlaps(moved[0], moved[1:])["iou"] == found["iou"]
    assert overlaps(first, [first])["iou"] == 1  # type: ignore[arg-type]


@law(SIZES, st.integers(1, 8), SEEDS)
def test_an_enlarged_map_covers_the_image_within_the_range_of_its_cells(
    size: tuple[int, int], stride: int, seed: int
) -> None:
    maps = np.random.default_rng(seed).uniform(0, 1, (2, *grid(size, stride))).astype(np.float16)
    large = enlarge(maps, size, stride)
    assert large.shape == (2, *size)
    assert large.min() >= maps.min() - 1e-6
    assert large.max() <= maps.max() + 1e-6


@law(SEEDS, st.lists(st.one_of(st.text(), st.integers()), max_size=3))
def test_equal_seed_and_scope_give_equal_numbers(seed: int, scope: list[str | int]) -> None:
    first, again = (rng(seed, *scope).random(4) for _ in range(2))
    assert (first == again).all()
    assert (first != rng(seed + 1, *scope).random(4)).any()
