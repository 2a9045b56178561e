"""Background thresholds that are chosen for each run, and the numbers that stand in for them.

A threshold whose value is `calibrated` is chosen by the stage `calibrate` under the protocol `common`.
Where that cannot be, the method's published number takes its place, or IRNet's.
"""

from __future__ import annotations

from dataclasses import dataclass

from wsss.settings import RunSections
from wsss.settings.base import CALIBRATED, RawSettings, merge
from wsss.settings.layers import Layer, get, merged
from wsss.settings.method_spec import MethodSpec


@dataclass(frozen=True)
class Thresholds:
    """Background scores in [0, 1]: of seeds, of sure foreground and background, of pseudo labels."""

    seed: float
    foreground: float
    background: float
    pseudo: float


# Ahn, Cho and Kwak (CVPR 2019), published code: cam_eval_thres, conf_fg_thres, conf_bg_thres,
# sem_seg_bg_thres.
IRNET = Thresholds(seed=0.15, foreground=0.30, background=0.05, pseudo=0.25)
ABOVE = IRNET.foreground - IRNET.seed
BELOW = IRNET.seed - IRNET.background


def sure_levels(seed: float) -> tuple[float, float]:
    """Return the scores of sure foreground and background around the threshold `seed` in [0, 1].

    Their distances from it are IRNet's, but never lead out of (0, 1): at most half of the way to 1,
    and two thirds of the way to 0.
    """
    foreground, background = min(seed + ABOVE, (1 + seed) / 2), max(seed - BELOW, seed / 3)
    return round(foreground, 6), round(background, 6)


def published_thresholds(spec: MethodSpec) -> Thresholds:
    """Return the thresholds of a method's published settings.

    A method without affinity labels of this kind gets those around its own threshold of seeds, and
    IRNet's numbers replace others that it lacks.
    """
    published = merged([Layer("published", spec.published)])

    def number(default: float, *path: str) -> float:
        value = get(published, path)
        return float(value) if isinstance(value, int | float) else default

    seed = number(IRNET.seed, "evaluation", "seed_threshold")
    foreground, background = sure_levels(seed)
    labels = ("affinity", "confident")
    if get(published, (*labels, "unary")) == "labels":
        foreground = number(foreground, *labels, "foreground")
        background = number(background, *labels, "background")
    return Thresholds(seed, foreground, background, number(IRNET.pseudo, "pseudo", "threshold"))


def with_numbers(sections: RunSections, numbers: Thresholds) -> RawSettings:
    """Return changes that give every threshold of `sections` that is `calibrated` its number."""
    plain, changes = sections.model_dump(), RawSettings()
    for section, path, number in (
        ("evaluation", ("seed_threshold",), numbers.seed),
        ("affinity", ("confident", "foreground"), numbers.foreground),
        ("affinity", ("confident", "background"), numbers.background),
        ("pseudo", ("threshold",), numbers.pseudo),
    ):
        if get(plain, (section, *path)) == CALIBRATED:
            inner: object = number
            for key in reversed(path):
                inner = {key: inner}
            changes = merge(changes, {section: inner})
    return changes
