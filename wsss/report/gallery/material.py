"""The pictures and scores of runs for the gallery, and the stages that are still missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from wsss.data.index import Entry, Index, load_index
from wsss.errors import ConfigError, MissingError
from wsss.report.figures.panels import Labels, read_labels
from wsss.report.tables.rows import Score, read, stage_title
from wsss.runs import staleness
from wsss.runs.calibration import seed_threshold
from wsss.runs.evaluation import Scoring
from wsss.runs.run import VALIDATED, Run, scored_artifact
from wsss.scores.bootstrap import read_images
from wsss.scores.metrics import Counts, class_scores, erode, mean_iou, seed
from wsss.scores.mistakes import mistakes
from wsss.storage.archive import Reader
from wsss.storage.cam_archive import Cam, CamReader

# The columns of the gallery between the image and the truth, in the order of the flow. All but the
# CAM are scored.
STAGES = {
    "cam": "CAM",
    "seed": "seed",
    "pseudo": "pseudo label",
    "decode": "own decoder",
    "segmentation": "prediction",
}
SPLITS = ("train", "val")  # the splits with scored images; `aug` has none
DIGITS = 4  # decimals of the score of one image


def split_of(what: str) -> str:
    """Return the split whose images have a column."""
    return "val" if what in VALIDATED else "train"


def titles(runs: Sequence[Run]) -> list[str]:
    """Return the runs of a dataset in words: the method, with protocol and seed if they differ."""
    has_protocols = len({run.protocol for run in runs}) > 1
    has_seeds = len({run.seed for run in runs}) > 1
    names = []
    for run in runs:
        words = [run.title]
        words += [run.protocol] * has_protocols + [f"seed {run.seed}"] * has_seeds
        names.append(", ".join(words))
    return names


@dataclass(frozen=True)
class Material:
    """A run, its index, and its finished stages; title: the run in words."""

    run: Run
    title: str
    index: Index
    finished: frozenset[str]

    @classmethod
    def of(cls, run: Run, title: str, index: Index) -> Material:
        """Return the material of a run; an error if it can fill no column."""
        if run.spec.localizes:
            raise ConfigError(
                f"{run} makes boxes, not masks, so there is nothing to lay over its images. Its panels "
                f"are in {run.results}/figures."
            )
        material = cls(run, title, index, frozenset(staleness.present(run)))
        if not material.columns:
            raise MissingError(
                f"{run.folder} has nothing to show yet. Run `snakemake --cores 1 "
                f"{run.path(_first(run))}`."
            )
        return material

    @property
    def columns(self) -> list[str]:
        """The columns that the finished stages of this run can fill."""
        return [what for what in STAGES if artifact_of(what) in self.finished]

    @property
    def notes(self) -> list[str]:
        """A sentence for each stage or score that is missing, with the command that makes it."""
        columns = {artifact_of(what): what for what in reversed(STAGES)}
        missing = [
            f"No {STAGES[what]} of {self.title}: run snakemake --cores 1 "
            f"{self.run.path(artifact)}.zip."
            for artifact, what in columns.items()
            if artifact in self.run.stages() and artifact not in self.finished
        ]
        return missing[::-1] + [
            f"No scores of the {stage_title(what)} of {self.title}: run snakemake --cores 1 "
            f"{self.run.path(f'eval/{what}')}.json."
            for what in self.run.scored
            if f"eval/{what}" not in self.finished
        ]

    @cached_property
    def scores(self) -> dict[str, Score]:
        """The evaluations of this run, in the order of the flow."""
        return {
            what: read(self.run.path(f"eval/{what}.json"), self.run.params)
            for what in self.run.scored
            if f"eval/{what}" in self.finished
        }

    def file(self, what: str) -> Path:
        """Return the file that fills a column."""
        return self.run.path(f"{artifact_of(what)}.zip")

    @cached_property
    def threshold(self) -> float:
        """The background threshold of the seed."""
        return seed_threshold(self.run)

    def cam(self, entry: Entry) -> Cam:
        """Return the CAM of a training image."""
        return self._cams[entry.name]

    def labels(self, what: str, entry: Entry) -> Labels:
        """Return the labels (H, W) of an image in a scored column, exactly as they are scored."""
        if what != "seed":
            return read_labels(self._archives[what], entry)
        scoring, cam = self.run.settings.evaluation, self.cam(entry)
        labels = seed(cam.full(), cam.labels, self.threshold)
        return erode(labels, scoring.erode_px) if scoring.erode_px else labels

    def score(self, what: str, entry: Entry) -> dict[str, object]:
        """Return the IoU of one image: the mean over its classes, and of every class by number.

        The classes are those in the truth or in the prediction. Empty without an evaluation.
        """
        if what not in self._confusions or entry.name not in self._places[entry.split]:
            return {}
        classes = len(self.index.classes) + 1
        row = self._confusions[what][[self._places[entry.split][entry.name]]].toarray()
        counts: Counts = row.reshape(classes, classes + 1)
        if not counts.any():
            return {}
        ious = class_scores(counts)["iou"]
        defined = np.flatnonzero(~np.isnan(ious)).tolist()
        by_class = {label: round(float(ious[label]), DIGITS) for label in defined}
        return {"iou": round(float(mean_iou(counts)), DIGITS), "classes": by_class}

    def mistakes(self, what: str, truth: Labels, labels: Labels) -> Counts:
        """Return the number of scored pixels of one image, and of wrong ones by kind."""
        unlabelled = Scoring.of(self.run, what).unlabelled
        return mistakes(truth, labels, self.run.params.report.boundary_px, unlabelled)

    @cached_property
    def _cams(self) -> CamReader:
        return CamReader(self.run.path("cam.zip"))

    @cached_property
    def _archives(self) -> Mapping[str, Reader]:
        return {what: Reader(self.file(what)) for what in self.columns}

    @cached_property
    def _places(self) -> dict[str, dict[str, int]]:
        """The place of every scored image among the scored images of its split."""
        held_out = {"train": self.run.held_out("seed")}
        scored = {split: self.index.scored(split, held_out.get(split, 0)) for split in SPLITS}
        return {s: {e.name: k for k, e in enumerate(entries)} for s, entries in scored.items()}

    @cached_property
    def _confusions(self) -> dict[str, csr_array]:
        classes = len(self.index.classes) + 1
        return {
            what: read_images(
                self.run.path(f"eval/{what}.csv"), list(self._places[split_of(what)]), classes
            )
            for what in self.scores
            if what in STAGES
        }


def artifact_of(what: str) -> str:
    """Return the artifact whose file fills a column."""
    return "cam" if what == "cam" else scored_artifact(what)


def of_one_dataset(runs: Sequence[Run]) -> list[Material]:
    """Return the material of runs on one dataset; a run that is named twice counts once.

    Raises:
        ConfigError: the runs are of several datasets.
        MissingError: a run has nothing to show.
        StaleError: a finished stage of a run is out of date.
    """
    unique = list({str(run): run for run in runs}.values())
    if len({run.dataset for run in unique}) > 1:
        raise ConfigError(
            f"{unique[0]} and {unique[-1]} have no images in common. Show each dataset by itself."
        )
    staleness.verify(*unique, partly=True)
    index = load_index(unique[0].index)
    named = zip(unique, titles(unique), strict=True)
    return [Material.of(run, title, index) for run, title in named]


def _first(run: Run) -> str:
    """Return the first file of a run that a gallery can show."""
    return next(f"{artifact_of(what)}.zip" for what in STAGES if artifact_of(what) in run.stages())
