"""A run in words, for tables: its supervision, its networks and their initial weights.

Evaluations hold these words, so that a table needs neither the settings nor the method of a run.
"""

from __future__ import annotations

from wsss.runs.evaluation import Description
from wsss.runs.run import Run
from wsss.settings.networks import NetParams


def described(run: Run, what: str) -> Description:
    """Return the words about a run that stand beside its evaluation `what`."""
    cam_network = run.settings.networks.get(str(run.spec.cam_network))
    compared: NetParams = cam_network or run.settings.segmenter
    return Description(
        title=run.spec.title,
        supervision=supervision(run, what),
        networks=networks(run, what),
        backbone=compared.relative.split(".")[0],
        learns_masks=run.spec.learns_masks,
    )


def supervision(run: Run, what: str) -> str:
    """Return which labels of the training images the evaluation `what` depends on."""
    uses = not run.spec.learns_masks and run.settings.pseudo.saliency.use
    extra = ", saliency maps" if uses and what in ("pseudo", "segmentation") else ""
    return run.spec.supervision + extra


def networks(run: Run, what: str) -> str:
    """Return the backbones and initial weights of all networks that `what` depends on."""
    before = run.stages()[: run.stages().index(f"eval/{what}")]
    names: dict[str, list[str]] = {}  # by backbone and initial weights
    for stage in (stage for stage in run.trained if stage in before):
        network: NetParams = run.settings.networks.get(stage) or getattr(run.settings, stage)
        is_published = bool(getattr(network, "checkpoint", None))
        names.setdefault(_start(network, is_published), []).append(stage)
        auxiliary: NetParams | None = getattr(network, "auxiliary_cnn", None)
        if auxiliary:
            name = f"{stage}'s auxiliary CNN"
            names.setdefault(_start(auxiliary, is_published), []).append(name)
    if len(names) == 1:
        return next(iter(names))
    return "; ".join(f"{' + '.join(stages)}: {start}" for start, stages in names.items())


def _start(network: NetParams, is_published: bool) -> str:
    """Return the backbone and the initial weights of a network that may be published as a whole."""
    weights = "random" if network.weights == "none" else network.weights
    return f"{network.backbone}, {'published' if is_published else weights}"
