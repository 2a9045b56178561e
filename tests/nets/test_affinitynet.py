"""AffinityNet: channels for each feature."""

import pytest
import torch

from wsss.errors import ConfigError
from wsss.nets.affinitynet import AffinityNet


def test_each_feature_can_keep_its_own_number_of_channels() -> None:
    one, own = AffinityNet("toy", 4, 8), AffinityNet("toy", 4, (4, 8, 16))
    images = torch.randn(1, 3, 32, 40)
    assert one(images).shape == (1, 24, 8, 10)
    assert own(images).shape == (1, 28, 8, 10)


def test_numbers_of_channels_must_fit_the_backbone() -> None:
    with pytest.raises(ConfigError, match="affinity.channels has 2 numbers, but toy has 3"):
        AffinityNet("toy", 4, (4, 8))
