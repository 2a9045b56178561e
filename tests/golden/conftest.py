"""The reference values of the method whose folder a test is in."""

from pathlib import Path

import pytest
from golden import Golden


@pytest.fixture
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Golden:
    """Return the reference values of the method."""
    return Golden(request.path.parent.name, tmp_path)
