"""Reproducible clusters of the images of each class by their features (SC-CAM, PCSformer)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NONE = -1  # cluster of an image in an absent class


def cluster_classes(
    features: NDArray[np.float32], present: NDArray[np.uint8], count: int, seed: int, starts: int
) -> NDArray[np.int16]:
    """Return the cluster, from 0, of each image in each of its classes (N, C), NONE elsewhere.

    features: (N, D). present: 0 and 1 (N, C). count: clusters of a class, fewer if it has fewer
    images. starts: number of clusterings of which the best is taken.
    """
    clusters = np.full(present.shape, NONE, np.int16)
    for number, presence in enumerate(present.T):
        images = np.flatnonzero(presence)
        if len(images):
            clusters[images, number] = k_means(features[images], count, seed, starts)
    return clusters


def k_means(features: NDArray[np.float32], count: int, seed: int, starts: int) -> NDArray[np.int32]:
    """Return the cluster of each row (N,), by scikit-learn's k-means++ in float64 on one thread.

    In float32 the numbering of clusters can differ; with several threads the last digits of the centres
    differ.
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415  # takes a second, and few methods need it
    from threadpoolctl import threadpool_limits  # noqa: PLC0415  # comes with scikit-learn

    model = KMeans(min(count, len(features)), n_init=starts, random_state=seed, max_iter=300)
    with threadpool_limits(1):
        clusters: NDArray[np.int32] = model.fit(features.astype(np.float64)).labels_
    return clusters


def class_major(present: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the indices of all images (N,), sorted by their first class; without a class comes last.

    present: 0 and 1 (N, C).
    """
    has_any = present.any(1)
    first = np.where(has_any, present.argmax(1), present.shape[1])
    order: NDArray[np.int64] = np.argsort(first, kind="stable")
    return order
