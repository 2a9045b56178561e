"""The vectors of a dataset's words: which networks are given them, and their file, which runs share.

Imports neither torch nor timm: Snakemake imports this module before every job.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, cast

from wsss.errors import ConfigError, MissingError
from wsss.runs.fingerprint import fingerprint
from wsss.runs.inputs import data_section
from wsss.runs.run import WORK, PlainSettings, Run
from wsss.settings.networks import TEXT_TOWERS, TextHyperParameters
from wsss.storage.files import sha256


@dataclass(frozen=True)
class Attributes:
    """Sentences on the classes of a dataset. centres: number of clusters of their vectors."""

    file: str
    checksum: str
    centres: int


@dataclass(frozen=True)
class TextVectors:
    """The words of a dataset, in sentences of some templates, for a text tower.

    tower: its name in open_clip. words: pairs of a class and its words. attributes: what is added to the
    words. work: the folder of all datasets.
    """

    kind: ClassVar[str] = "text"

    dataset: str
    tower: str
    templates: tuple[str, ...]
    words: tuple[tuple[str, str], ...]
    background_words: tuple[str, ...]
    attributes: Attributes | None = None
    work: Path = WORK

    @property
    def settings(self) -> PlainSettings:
        """The settings that the vectors depend on, for rules and records."""
        return {
            "tower": self.tower,
            "templates": list(self.templates),
            "words": dict(self.words),
            "background_words": list(self.background_words),
            **({"attributes": asdict(self.attributes)} if self.attributes else {}),
        }

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits for the settings."""
        text = json.dumps(self.settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """What tells the file from others of the dataset."""
        return self.digest

    @property
    def path(self) -> Path:
        """The file of the vectors."""
        return self.work / self.dataset / f"text-{self.digest}.safetensors"

    @property
    def record(self) -> Path:
        """The record of the file."""
        return self.path.with_suffix(".json")

    def code(self) -> str:
        """Return the fingerprint of the code that makes the file."""
        return text_code()


def text_vectors(run: Run, network: str) -> TextVectors | None:
    """Return the vectors that a network of a run is given; None if it is given no words.

    Raises:
        ConfigError: the network has no text tower.
    """
    spec = run.spec.networks.get(network)
    if spec is None or not (spec.given or spec.prepared):
        return None
    params = run.settings.networks[network]
    hyper_parameters = cast("TextHyperParameters", params.hyper_parameters)
    if getattr(hyper_parameters, "text", None) != "words":
        return None
    tower = TEXT_TOWERS.get(params.backbone)
    if tower is None:
        raise ConfigError(
            f"{run}: networks.{network}.hyper_parameters.text is words, but {params.backbone} knows no "
            f"words. Set it to mean_features, or the backbone to {' or '.join(TEXT_TOWERS)}."
        )
    section = data_section(run.params, run.dataset)
    words = tuple(sorted(section.words.items()))
    attributes = _attributes(params.hyper_parameters, f"{run}: networks.{network}")
    templates, background = hyper_parameters.templates, section.background_words
    return TextVectors(run.dataset, tower, templates, words, background, attributes, run.work)


def _attributes(hyper_parameters: object, where: str) -> Attributes | None:
    """Return the sentences that hyper-parameters name; None if they name none."""
    file = getattr(hyper_parameters, "attributes", "")
    if not file:
        return None
    if not Path(file).is_file():
        raise MissingError(
            f"{file} is missing. Put the sentences there, or correct {where}.hyper_parameters.attributes."
        )
    return Attributes(file, sha256(Path(file)), getattr(hyper_parameters, "attribute_centres", 1))


def texts_of(runs: Iterable[Run], stages: Collection[str] | None = None) -> list[TextVectors]:
    """Return the vectors that networks of runs are given, each once; stages: of these networks alone."""
    texts = (
        text_vectors(run, network)
        for run in runs
        for network in run.networks
        if stages is None or network in stages
    )
    return list(dict.fromkeys(text for text in texts if text))


def text_code() -> str:
    """Return the fingerprint of the code that makes vectors of words."""
    return fingerprint("stages.text")
