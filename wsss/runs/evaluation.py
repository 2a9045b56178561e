"""The evaluation record: the scores of one stage of one run, with the protocol behind them.

The stages `evaluate` and `evaluate_boxes` write it; tables, figures and the gallery read it, also
from files of other people. Fields without a default must be in such a file. All scores are in
[0, 1].
"""

from __future__ import annotations

from pydantic import Field

from wsss.runs.calibration import calibration_of
from wsss.runs.record import RecordModel
from wsss.runs.run import Run, scored_artifact, stage_kind
from wsss.settings.base import CALIBRATED


class Scoring(RecordModel):
    """The settings of one evaluation.

    threshold: background score; None if the maps bring their own background (PSA), or labels are
    scored. thresholds: number of points of the curve. threshold_choice, calibration_images: as in
    `Protocol`.
    """

    convention: str
    threshold: float | None = None
    thresholds: int = 0
    unlabelled: str | None = None
    erode_px: int = 0
    crf: str = "none"
    threshold_choice: str = "fixed"
    calibration_images: int = 0

    @classmethod
    def of(cls, run: Run, what: str) -> Scoring:
        """Return the settings of an evaluation of a run, with its calibrated threshold."""
        scoring = cls.model_validate({**run.slice(f"eval/{what}"), **_calibrated(run, what)})
        if run.spec.learns_masks or not has_threshold(run, what):
            return scoring.model_copy(update={"threshold_choice": "none"})
        if is_published_threshold(run, what):
            return scoring.model_copy(update={"threshold_choice": "published"})
        return scoring


def has_threshold(run: Run, what: str) -> bool:
    """Return whether a threshold of the settings is behind an evaluation; imported labels have none."""
    imported = run.spec.imported
    if what in ("pseudo", "segmentation"):
        return "pseudo" not in imported and scored_artifact(what) not in imported
    return True


def _calibrated(run: Run, what: str) -> dict[str, object]:
    """Return the choice of the thresholds behind an evaluation, and the one that it uses itself.

    Nothing if all are numbers of the settings.
    """
    chosen = calibration_of(run, f"eval/{what}")
    if chosen is None:
        return {}
    choice = "calibrated" if chosen.images else "published"
    changes = {"threshold_choice": choice, "calibration_images": chosen.images}
    has_own = run.slice(f"eval/{what}").get("threshold") == CALIBRATED
    return {**changes, **({"threshold": chosen.threshold} if has_own else {})}


def is_published_threshold(run: Run, what: str) -> bool:
    """Return whether the threshold behind an evaluation is the one of the paper.

    It may be in the labels of the decoder's training, or a background that walks along.
    """
    settings, published = run.settings, run.spec.published
    if run.protocol != "published":
        numbers = run.published_thresholds
        number = numbers.seed if is_seed(what) else numbers.pseudo
        level = settings.evaluation.seed_threshold if is_seed(what) else settings.pseudo.threshold
        return settings.calibration.by == "none" and level == number
    if is_seed(what):
        key, value = ("evaluation", "seed_threshold"), settings.evaluation.seed_threshold
    elif run.walks_background:
        key, value = ("walk", "background_value"), settings.walk.background_value
    else:
        key, value = ("pseudo", "threshold"), settings.pseudo.threshold
    return bool(published.get(key[0], {}).get(key[1]) == value)


def is_seed(what: str) -> bool:
    """Return whether an evaluation scores a seed, of the CAM network or of an earlier one."""
    return stage_kind(what) == "seed"


class Protocol(RecordModel):
    """What a mask score was measured under; scores are comparable only under the same protocol.

    images: how many were scored. labels_used: the image-level labels of the scored images were
    given to the stage. convention: which classes are averaged. unlabelled: how a predicted 255
    counts. erode_px: side of the square that cuts every class before it is scored.
    scales, mirror: the views of the CAM, or of the network that predicted the masks.
    threshold_choice: `fixed` by the settings; `published` by the paper; `calibrated` on the masks of
    `calibration_images` training images; `best on the scored images`; `none`: no stage has one.
    unscored: images of the split that have no mask. data: digest of names and masks of the scored
    images. Fields with a default are missing in old files.
    """

    split: str
    images: int
    labels_used: bool
    crf: str
    convention: str
    threshold: float | None
    unlabelled: str | None = None
    erode_px: int = 0
    scales: tuple[float, ...] = ()
    mirror: bool | None = None
    threshold_choice: str = "fixed"
    calibration_images: int = 0
    unscored: int = 0
    data: str = ""


class Description(RecordModel):
    """The run behind an evaluation in words, for tables made where its settings are absent.

    backbone: a published number is comparable only if it used the same backbone. extra: what the row
    has learned from beyond image labels and ImageNet-1k. pretraining: data of the initial weights.
    parameters, images_seen: sums over all networks of the row. settings: of all its stages, without
    the seed. made_with: versions, devices and precisions. Fields with a default are missing in old
    files.
    """

    title: str
    supervision: str
    networks: str
    backbone: str
    learns_masks: bool
    extra: str = ""
    pretraining: str = ""
    parameters: int | None = None
    images_seen: int | None = None
    settings: dict[str, object] = Field(default_factory=dict)
    made_with: dict[str, tuple[str, ...]] = Field(default_factory=dict)


class ThresholdScore(RecordModel):
    """The mIoU at one background threshold."""

    threshold: float
    miou: float


class Curve(RecordModel):
    """The mIoU at every threshold, in the order of the thresholds."""

    thresholds: tuple[float, ...]
    miou: tuple[float, ...]


class UnerodedScores(RecordModel):
    """The scores of the same maps without erosion."""

    miou: float
    best: ThresholdScore | None
    curve: Curve | None


class CrfFreeScores(RecordModel):
    """The scores of the same labels before the CRF."""

    miou: float


class ClassScores(RecordModel):
    """The scores of one class; None where a score is undefined."""

    name: str
    iou: float | None
    precision: float | None
    recall: float | None
    false_positive: float | None = None
    false_negative: float | None = None


class ContextActivation(RecordModel):
    """The mean CAM score of a class on its constant context, and on its objects."""

    name: str
    context: float
    object: float


class Measured(RecordModel):
    """One line of a phenomenon: the class or the size, and its measures."""

    name: str

    def measures(self) -> dict[str, float | None]:
        """Return every measure by its name; None where it is undefined."""
        return self.model_dump(exclude={"name"})


class SizeScores(Measured):
    """Means over the objects of one size."""

    objects: int
    recall: float | None
    iou: float | None


class PartRecall(Measured):
    """The share of a class's telling part, and of the rest of its objects, with the right class."""

    part: float | None
    rest: float | None


class ContextShare(Measured):
    """The share of a class's constant context, and of its objects, that is given the class."""

    context: float | None
    object: float | None


class PhenomenonScores(RecordModel):
    """The phenomena of one evaluation; a phenomenon that cannot be measured is left out."""

    sizes: tuple[SizeScores, ...] = ()
    parts: tuple[PartRecall, ...] = ()
    contexts: tuple[ContextShare, ...] = ()

    def by_name(self) -> dict[str, tuple[Measured, ...]]:
        """Return the lines of every phenomenon by its name."""
        return {"sizes": self.sizes, "parts": self.parts, "contexts": self.contexts}


class MaskScores(RecordModel):
    """The scores of a stage that yields masks or class maps.

    coverage: share of the pixels that are predicted, so not 255. best: at the threshold with the
    highest mIoU, an oracle. early_stop: where MCTformer's sweep ends. before_crf: scores of the same
    labels before the CRF, if there is one. confusion: pixels by true and predicted class, (classes, classes). missed: pixels of each true class that are in no class.
    """

    miou: float
    coverage: float
    miou_by_convention: dict[str, float] = Field(default_factory=dict)
    pixel_accuracy: float | None = None
    mean_accuracy: float | None = None
    frequency_iou: float | None = None
    classes: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...] = ()
    missed: tuple[int, ...] = ()
    best: ThresholdScore | None
    early_stop: ThresholdScore | None = None
    curve: Curve | None
    uneroded: UnerodedScores | None = None
    before_crf: CrfFreeScores | None = None


class Evaluation(MaskScores):
    """The scores of one stage of one run, with their protocol and a description of the run."""

    run: str
    what: str
    protocol: Protocol
    described: Description
    phenomena: PhenomenonScores = PhenomenonScores()
    context: tuple[ContextActivation, ...] = ()

    def content(self) -> dict[str, object]:
        """Return what the file holds: the run and the protocol first, fields that were set alone."""
        return _content(self)


class BoxProtocol(RecordModel):
    """What box scores were measured under; threshold: share of a map's range."""

    split: str
    images: int
    threshold: float


class BoxEvaluation(RecordModel):
    """The shares of the images that meet each localization criterion, and the kinds of answers.

    outcomes: number of images by outcome.
    """

    run: str
    what: str = "boxes"
    protocol: BoxProtocol
    top1: float
    top5: float
    gt_known: float
    top1_class: float
    top5_class: float
    outcomes: dict[str, int]
    described: Description

    def content(self) -> dict[str, object]:
        """Return what the file holds."""
        return _content(self)


def _content(evaluation: Evaluation | BoxEvaluation) -> dict[str, object]:
    fields = evaluation.model_dump(exclude_unset=True)
    first = {key: fields.pop(key) for key in ("run", "what", "protocol")}
    return {**first, **fields}
