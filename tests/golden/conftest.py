"""The reference values of the method whose folder a test is in."""

from pathlib import Path

import pytest
from golden import CRF_DEVICES, Golden


@pytest.fixture
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Golden:
    """Return the reference values of the method."""
    return Golden(request.path.parent.name, tmp_path)


@pytest.fixture(params=CRF_DEVICES.items(), ids=["pydensecrf", "PyTorch"])
def crf_device(request: pytest.FixtureRequest, golden: Golden) -> str | None:
    """Return the device of the CRF; the comparisons of a test with PyTorch have it in their names."""
    golden.suffix, device = request.param
    return device  # type: ignore[no-any-return]
