"""Instance labels of IRNet from a field with two attractors."""

import numpy as np
import torch
import torch.nn.functional as F
from golden import Golden, unpack
from numpy.typing import NDArray

from wsss.refine.affinity import path_affinities
from wsss.refine.instances import centroids, clusters, detections, per_object
from wsss.refine.random_walk import random_walk, transition

Array = NDArray[np.float32]


def scene(height: int, width: int) -> tuple[Array, Array, Array]:
    """Return the displacement field, the class maps and the edges of the case."""
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    centres = np.array([(0.3 * height, 0.25 * width), (0.6 * height, 0.7 * width)])
    towards = centres[:, :, None, None] - np.stack([rows, columns])
    nearer = (towards**2).sum(1).argmin(0)
    field = 0.5 * np.clip(np.where(nearer == 0, towards[0], towards[1]), -6, 6)

    def blob(y: float, x: float, spread: float) -> NDArray[np.float64]:
        distance = (rows - y * height) ** 2 + (columns - x * width) ** 2
        return np.exp(-distance / (2 * (spread * height) ** 2))

    maps = np.stack([blob(0.3, 0.25, 0.25), 0.9 * blob(0.6, 0.7, 0.3) + 0.5 * blob(0.3, 0.3, 0.1)])
    edges = 0.8 * np.exp(-(((columns - 0.47 * width) / 2) ** 2)) + 0.05
    return field.astype(np.float32), maps.astype(np.float32), edges.astype(np.float32)


def test_irn_instances(golden: Golden) -> None:
    expected = golden.arrays("irn_net.npz")
    height, width, _ = golden.case("irn", "inst")
    field, maps, edges = scene(height, width)
    golden.same("irn centroids", centroids(field), expected["inst_centroids"], 0.995)
    objects = clusters(field)
    golden.same("irn clusters", objects, expected["inst_map"], 0.995)
    count = int(objects.max()) + 1
    golden.same("irn number of clusters", count, expected["inst_n"])
    pairs = ((step, a[0].numpy()) for step, a in path_affinities(torch.from_numpy(edges)[None], 5))
    step = transition(pairs, height, width, 10)
    walked = random_walk(per_object(maps, objects) * (1 - edges), step, 256)
    golden.close("irn instance walk", walked, expected["inst_rw"], absolute=2e-4)
    full = F.interpolate(torch.from_numpy(walked)[None], scale_factor=4, mode="bilinear")[0]
    full = full[:, : 4 * height - 2, : 4 * width - 1]
    found = detections((full / full.max()).float().numpy(), (3, 14), count, 0.25)
    golden.same("irn instance classes", [one.label for one in found], expected["inst_class"])
    scores = [one.score for one in found]
    golden.close("irn instance scores", scores, expected["inst_score"], absolute=2e-4)
    areas = [one.mask.sum() for one in found]
    golden.close("irn instance areas", areas, expected["inst_area"], rtol=5e-3)
    masks = np.stack([one.mask for one in found])
    wanted = unpack(expected["inst_mask_bits"], masks.shape)
    golden.same("irn instance masks", masks, wanted, 0.995)
