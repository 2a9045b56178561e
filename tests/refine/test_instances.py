"""Instances: cells follow the field to a centre, objects part, small regions score nothing."""

import numpy as np

from wsss.refine.instances import centroids, clusters, detections, per_object


def towards(*centres: tuple[int, int], size: tuple[int, int] = (12, 20)) -> np.ndarray:
    """Return a field that points from each cell to the nearest of `centres`."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    steps = np.stack([np.stack([y - rows, x - columns]) for y, x in centres])
    nearest = (steps**2).sum(1).argmin(0)
    chosen = np.take_along_axis(steps, nearest[None, None], 0)[0]
    return (0.5 * chosen).astype(np.float32)


def test_every_cell_ends_at_its_centre() -> None:
    ends = centroids(towards((6, 10)))
    assert (ends[0] == 6).all()
    assert (ends[1] == 10).all()


def test_two_centres_make_two_objects() -> None:
    objects = clusters(towards((6, 3), (6, 16)))
    assert set(np.unique(objects)) == {0, 1}
    assert (objects[:, :9] == objects[0, 0]).all()
    assert (objects[:, 11:] == objects[0, 19]).all()


def test_classes_times_objects_are_the_channels() -> None:
    objects = np.array([[0, 1, 1]])
    maps = np.array([[[0.1, 0.2, 0.3]], [[0.4, 0.5, 0.6]]])
    found = per_object(maps, objects)
    assert np.allclose(found[:, 0], [[0.1, 0, 0], [0, 0.2, 0.3], [0.4, 0, 0], [0, 0.5, 0.6]])


def test_each_winning_region_is_an_instance_and_a_small_one_scores_nothing() -> None:
    scores = np.zeros((2, 20, 20), np.float32)
    scores[0, :8, :8], scores[1, 12:, 12:], scores[1, 0, 19] = 0.9, 0.7, 0.8
    found = detections(scores, [5], objects=2, threshold=0.25)
    assert [one.label for one in found] == [5, 5, 5]
    assert sorted(round(one.score, 3) for one in found) == [0.0, 0.7, 0.9]
    assert sum(one.mask.sum() for one in found) == 64 + 64 + 1


def test_nothing_above_the_threshold_is_no_instance() -> None:
    assert detections(np.full((1, 4, 4), 0.2, np.float32), [0], 1, 0.25) == []
