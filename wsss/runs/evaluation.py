"""The evaluation record: the scores of one stage of one run, with the protocol behind them.

The stages `evaluate` and `evaluate_boxes` write it; tables, figures and the gallery read it, also
from files of other people. Fields without a default must be in such a file. All scores are in
[0, 1].
"""

from __future__ import annotations

from pydantic import Field

from wsss.runs.calibration import calibration_of
from wsss.runs.record import RecordModel
from wsss.runs.run import Run


class Scoring(RecordModel):
    """The settings of one evaluation.

    threshold: background score; None if the maps bring their own background (PSA), or labels are
    scored. thresholds: number of points of the curve.
    """

    convention: str
    threshold: float | None = None
    thresholds: int = 0
    unlabelled: str | None = None
    erode_px: int = 0
    crf: str = "none"

    @classmethod
    def of(cls, run: Run, what: str) -> Scoring:
        """Return the settings of an evaluation of a run, with its calibrated threshold."""
        settings = run.slice(f"eval/{what}")
        chosen = calibration_of(run, f"eval/{what}")
        return cls.model_validate(
            {**settings, **({"threshold": chosen.threshold} if chosen else {})}
        )


class Protocol(RecordModel):
    """What a mask score was measured under; scores are comparable only under the same protocol.

    images: how many were scored. labels_used: the image-level labels of the scored images were
    given to the stage. convention: which classes are averaged. unlabelled: how a predicted 255
    counts. erode_px: side of the square that cuts every class before it is scored.
    """

    split: str
    images: int
    labels_used: bool
    crf: str
    convention: str
    threshold: float | None
    unlabelled: str | None = None
    erode_px: int = 0


class Description(RecordModel):
    """The run behind an evaluation in words, for tables made where its settings are absent.

    backbone: a published number is comparable only if it used the same backbone.
    """

    title: str
    supervision: str
    networks: str
    backbone: str
    learns_masks: bool


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
    highest mIoU, an oracle. early_stop: where MCTformer's sweep ends. confusion: pixels by true and
    predicted class, (classes, classes). missed: pixels of each true class that are in no class.
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
