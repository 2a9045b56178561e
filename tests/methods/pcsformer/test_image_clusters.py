"""Clusters of the images of each class."""

import numpy as np

from wsss.methods.pcsformer.image_clusters import NONE, class_major, cluster_classes

RNG = np.random.default_rng(0)


def test_images_that_look_alike_are_in_one_cluster_of_each_of_their_classes() -> None:
    kinds = RNG.integers(0, 3, 60)
    features = (10 * np.eye(4)[kinds] + RNG.normal(size=(60, 4)) * 0.1).astype(np.float32)
    present = RNG.integers(0, 2, (60, 2))
    found = cluster_classes(features, present, 3, seed=0, starts=3)
    assert ((found == NONE) == (present == 0)).all()
    for number in range(2):
        own = present[:, number] == 1
        pairs = set(zip(found[own, number].tolist(), kinds[own].tolist(), strict=True))
        assert len(pairs) == 3


def test_the_same_seed_gives_the_same_clusters() -> None:
    features = RNG.normal(size=(80, 16)).astype(np.float32)
    present = np.ones((80, 1), np.uint8)
    first = cluster_classes(features, present, 5, seed=1, starts=1)
    assert (first == cluster_classes(features, present, 5, seed=1, starts=1)).all()
    assert (first != cluster_classes(features, present, 5, seed=2, starts=1)).any()


def test_a_class_with_few_images_has_fewer_clusters_and_one_without_any_none() -> None:
    present = np.zeros((10, 2), np.uint8)
    present[[2, 7], 0] = 1
    found = cluster_classes(RNG.normal(size=(10, 3)).astype(np.float32), present, 4, 0, 1)
    assert sorted(found[[2, 7], 0].tolist()) == [0, 1]
    assert (found[:, 1] == NONE).all()


def test_images_are_ordered_by_the_first_of_their_classes() -> None:
    present = np.array([[0, 1], [0, 0], [1, 1], [1, 0]])
    assert class_major(present).tolist() == [2, 3, 0, 1]
