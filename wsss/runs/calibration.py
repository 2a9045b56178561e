"""The thresholds that the stage `calibrate` has chosen, and the settings of stages with them.

Imports neither torch nor timm.
"""

from __future__ import annotations

from pathlib import Path

from wsss.errors import MissingError
from wsss.runs.record import RecordModel, read_record
from wsss.runs.run import Run
from wsss.settings import AffinityLabelParams, PseudoParams
from wsss.settings.base import CALIBRATED, Calibrated


class Calibration(RecordModel):
    """The thresholds for the maps of one archive, background scores in [0, 1].

    threshold: of seeds, or of pseudo labels. foreground, background: of affinity labels. choice: `masks`,
    or `published` where hardly any training image has a mask. images: number of images whose masks have chosen.
    miou: the mIoU of these images at the threshold. curve: their mIoU at k / 100 for k = 0, 1, ...
    """

    threshold: float
    foreground: float
    background: float
    choice: str
    images: int
    miou: float | None = None
    curve: tuple[float, ...] = ()


def thresholds_path(run: Run, maps: str) -> Path:
    """Return the file with the calibrated thresholds for the archive `maps`: cam, cam-NETWORK or walk."""
    return run.path(f"thresholds-{maps}.json")


def read_calibration(run: Run, maps: str) -> Calibration:
    """Return the calibrated thresholds for an archive of maps; `MissingError` without the file."""
    path = thresholds_path(run, maps)
    if not path.is_file():
        raise MissingError(
            f"{path} is missing. Run `wsss calibrate {run} {maps}`, or set the threshold to a number."
        )
    return read_record(path, Calibration, "a file of calibrated thresholds")


def affinity_label_params(run: Run) -> AffinityLabelParams:
    """Return the settings of affinity labels with numbers for calibrated thresholds."""
    params = run.settings.affinity.confident
    if CALIBRATED not in (params.foreground, params.background):
        return params
    chosen = read_calibration(run, "cam")
    changes = {
        key: getattr(chosen, key)
        for key in ("foreground", "background")
        if getattr(params, key) == CALIBRATED
    }
    return params.model_copy(update=changes)


def pseudo_params(run: Run) -> PseudoParams:
    """Return the settings of pseudo labels with a number for a calibrated threshold.

    Maps that bring their own background use no threshold.
    """
    params = run.settings.pseudo
    if run.walks_background:
        return params.model_copy(update={"threshold": 0.0})
    return params.model_copy(update={"threshold": level(run, params.threshold, params.source)})


def seed_threshold(run: Run, maps: str = "cam") -> float:
    """Return the background score of the seeds of `maps`: cam or cam-NETWORK."""
    return level(run, run.settings.evaluation.seed_threshold, maps)


def level(run: Run, threshold: float | Calibrated, maps: str) -> float:
    """Return a threshold as a number; the one for `maps` if it is calibrated."""
    return read_calibration(run, maps).threshold if threshold == CALIBRATED else float(threshold)


def calibration_of(run: Run, stage: str) -> Calibration | None:
    """Return the calibrated thresholds that a stage uses; None if it uses none."""
    return next((read_calibration(run, maps) for maps in run.calibrated_maps(stage)), None)


def calibrated_files(run: Run, stage: str) -> list[Path]:
    """Return the files of thresholds that a stage reads."""
    return [thresholds_path(run, maps) for maps in run.calibrated_maps(stage)]
