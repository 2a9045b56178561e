"""Weakly supervised semantic segmentation, one pipeline for many published methods.

The public names load with the module that defines them, when they are first used: `import wsss` is
cheap and imports no torch. docs/api.md describes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsss.api.model import Model, load
    from wsss.api.pictures import heat, overlay
    from wsss.api.refinement import Affinities, affinities, cells, crf, enlarge, random_walk
    from wsss.api.results import ClassMaps, RunResults, open_run, table
    from wsss.api.scoring import Curve, class_iou, confusion, mean_iou, seed, threshold_curve
    from wsss.errors import WsssError
else:

    def __getattr__(name: str) -> object:
        """Return a public name, from the module that defines it."""
        from importlib import import_module  # noqa: PLC0415

        for module, names in _MODULES.items():
            if name in names:
                return getattr(import_module(f"wsss.{module}"), name)
        raise AttributeError(f"module 'wsss' has no attribute {name!r}")


__version__ = "0.2.0"
__all__ = [
    "Affinities",
    "ClassMaps",
    "Curve",
    "Model",
    "RunResults",
    "WsssError",
    "affinities",
    "cells",
    "class_iou",
    "confusion",
    "crf",
    "enlarge",
    "heat",
    "load",
    "mean_iou",
    "open_run",
    "overlay",
    "random_walk",
    "seed",
    "table",
    "threshold_curve",
]

# The public names by the module that defines them.
_MODULES = {
    "api.model": ("Model", "load"),
    "api.pictures": ("heat", "overlay"),
    "api.refinement": ("Affinities", "affinities", "cells", "crf", "enlarge", "random_walk"),
    "api.results": ("ClassMaps", "RunResults", "open_run", "table"),
    "api.scoring": ("Curve", "class_iou", "confusion", "mean_iou", "seed", "threshold_curve"),
    "errors": ("WsssError",),
}


def __dir__() -> list[str]:
    """Return the public names, and those that the package has already loaded."""
    return sorted({*globals(), *__all__})
