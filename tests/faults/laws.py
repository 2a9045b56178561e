"""Laws: properties that hold for whatever hypothesis draws, with a count of what was tried."""

import functools
import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings

EXAMPLES = 200 if os.environ.get("WSSS_ALL") == "1" else 30
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
tried = 0


def law(
    *strategies: Any, share: float = 1.0, **named: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Try a property on drawn cases, the same ones each time, and count them."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @settings(
            max_examples=round(EXAMPLES * share),
            derandomize=True,
            database=None,
            suppress_health_check=SLOW,
        )
        @given(*strategies, **named)
        @functools.wraps(function)
        def counted(*arguments: Any, **drawn: Any) -> None:
            global tried  # noqa: PLW0603  # one count for each process of tests
            tried += 1
            function(*arguments, **drawn)

        return counted

    return decorate
