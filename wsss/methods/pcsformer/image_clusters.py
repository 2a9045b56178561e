"""Clusters of the images of each class by their features (SC-CAM, PCSformer), the same each time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NONE = -1  # cluster of an image in a class that it does not have


def cluster_classes(
    features: NDArray[np.float32], present: NDArray[Any], count: int, seed: int, starts: int
) -> NDArray[np.int16]:
    """Return the cluster, from 0, of each image in each of its classes (N, C), NONE elsewhere.

    features: (N, D). present: 0 and 1 (N, C). count: clusters of a class, fewer if it has fewer
    images. starts: how often the clustering of a class is begun; the best one counts.
    """
    found = np.full(present.shape, NONE, np.int16)
    for number, own in enumerate(present.T):
        chosen = np.flatnonzero(own)
        if len(chosen):
            found[chosen, number] = k_means(features[chosen], count, seed, starts)
    return found


def k_means(features: NDArray[np.float32], count: int, seed: int, starts: int) -> NDArray[np.int32]:
    """Return the cluster of each row (N,), by scikit-learn's k-means++ on 64 bits and one thread.

    On 32 bits the numbers of clusters can differ, and with several threads the last digits of the
    centres do.
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415  # a second: only where clusters are made
    from threadpoolctl import threadpool_limits  # noqa: PLC0415  # comes with scikit-learn

    model = KMeans(min(count, len(features)), n_init=starts, random_state=seed, max_iter=300)
    with threadpool_limits(1):
        found: NDArray[np.int32] = model.fit(features.astype(np.float64)).labels_
    return found


def class_major(present: NDArray[Any]) -> NDArray[np.int64]:
    """Return all images in the order in which classes, one after the other, first name them.

    present: 0 and 1 (N, C). Images without a class come last.
    """
    has_any = present.any(1)
    first = np.where(has_any, present.argmax(1), present.shape[1])
    order: NDArray[np.int64] = np.argsort(first, kind="stable")
    return order
