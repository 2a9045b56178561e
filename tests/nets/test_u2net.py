"""Images before U²-Netp and its scores behind it."""

import numpy as np

from wsss.data.images import IMAGENET
from wsss.nets.u2net import SIDE_PX, network_input, saliency_map


def test_images_are_divided_by_their_largest_value_and_normalised() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[..., 0] = 50  # the largest value, so it becomes 1
    image[..., 1] = 25
    square = network_input(image)
    assert square.shape == (1, 3, SIDE_PX, SIDE_PX)
    expected = (np.array([1.0, 0.5, 0.0]) - np.array(IMAGENET[0])) / np.array(IMAGENET[1])
    assert np.allclose(square[0, :, 7, 9], expected, atol=1e-6)
    black = network_input(np.zeros_like(image))
    assert np.allclose(black[0, :, 0, 0], -np.array(IMAGENET[0]) / np.array(IMAGENET[1]), atol=1e-6)


def test_scores_become_grey_values_of_the_images_size() -> None:
    scores = np.full((SIDE_PX, SIDE_PX), 0.2, np.float32)
    scores[:, SIDE_PX // 2 :] = 0.7
    saliency = saliency_map(scores, (30, 90))
    assert saliency.shape == (30, 90)
    assert saliency.dtype == np.uint8
    assert (saliency[:, :40] == 0).all()
    assert (saliency[:, 50:] == 255).all()
    assert not saliency_map(np.full_like(scores, 0.4), (30, 90)).any()  # nothing stands out
