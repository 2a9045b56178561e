"""A run in words, for tables: what it has learned from, and with which networks.

Evaluations keep these words, so that a table can be made of them where neither the parameters nor
the method of the run are known.
"""

from __future__ import annotations

from typing import Any

from wsss.runs.run import Run


def described(run: Run, what: str) -> dict[str, Any]:
    """Return what a row of a table says of the run behind an evaluation.

    backbone: of the network that a published number must share.
    """
    cam_network = run.settings.networks.get(str(run.spec.cam_network))
    part: Any = cam_network or run.settings.segmenter
    return {
        "title": run.spec.title,
        "supervision": supervision(run, what),
        "networks": networks(run, what),
        "backbone": part.relative.split(".")[0],
        "learns_masks": run.spec.learns_masks,
    }


def supervision(run: Run, what: str) -> str:
    """Return what is known of the training images that `what` depends on."""
    uses = not run.spec.learns_masks and run.settings.pseudo.saliency.use
    extra = ", saliency maps" if uses and what in ("pseudo", "segmentation") else ""
    return run.spec.supervision + extra


def networks(run: Run, what: str) -> str:
    """Return the backbones and initial weights of all networks that `what` depends on."""
    before = run.stages()[: run.stages().index(f"eval/{what}")]
    starts: dict[str, list[str]] = {}
    for stage in (stage for stage in run.trained if stage in before):
        part: Any = run.settings.networks.get(stage) or getattr(run.settings, stage)
        for own in filter(None, (part, getattr(part, "auxiliary_cnn", None))):
            weights = "random" if own.weights == "none" else own.weights
            weights = "published" if getattr(part, "checkpoint", None) else weights
            name = stage if own is part else f"{stage}'s auxiliary CNN"
            starts.setdefault(f"{own.backbone}, {weights}", []).append(name)
    if len(starts) == 1:
        return next(iter(starts))
    return "; ".join(f"{' + '.join(stages)}: {start}" for start, stages in starts.items())
