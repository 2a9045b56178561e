"""A run in words, for tables: its supervision, its networks, and what they have learned from.

Evaluations hold these words, so that a table needs neither the settings nor the method of a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from wsss.runs import chain, knowledge
from wsss.runs.evaluation import Description
from wsss.runs.inputs import data_section, initial_weights_path
from wsss.runs.knowledge import Knowledge
from wsss.runs.record import RecordModel, read_record
from wsss.runs.run import Run, network_settings
from wsss.settings.data import saliency_network
from wsss.settings.networks import ClassifierParams, NetParams
from wsss.storage.content import file_and_key

FURTHER_BACKBONES = {"auxiliary_cnn": "auxiliary CNN", "second_backbone": "second backbone"}


class WeightsRecord(RecordModel):
    """The record of fetched weights. source: their file, or their name in timm's hub."""

    source: str = ""


@dataclass(frozen=True)
class Start:
    """What a network begins with: its backbone, and weights in words."""

    backbone: str
    weights: str
    knowledge: Knowledge

    def __str__(self) -> str:
        return f"{self.backbone}, {self.weights}"


def described(run: Run, what: str) -> Description:
    """Return the words about a run that stand beside its evaluation `what`."""
    cam_network = run.settings.networks.get(str(run.spec.cam_network))
    compared: NetParams = cam_network or run.settings.segmenter
    records = chain.records_before(run, what)
    trained = [stage for stage in run.trained if stage in chain.stages_before(run, what)]
    sizes = [records.get(stage) for stage in trained]
    sizes += [None] if run.brought else []  # nobody knows the networks of another program
    learned = [start.knowledge for _, start in _starts(run, what)]
    learned = [*_brought(run), *learned]
    return Description(
        title=run.title,
        supervision=supervision(run, what),
        networks=networks(run, what),
        backbone=compared.relative.split(".")[0],
        learns_masks=run.spec.learns_masks,
        extra=extra_knowledge(run, what),
        pretraining=", ".join(dict.fromkeys(knowledge.data for knowledge in learned)),
        parameters=_sum([size.parameters if size else None for size in sizes]),
        images_seen=_sum([size.images_seen if size else None for size in sizes]),
        settings=chain.settings_before(run, what),
        made_with=chain.made_with(run, records),
    )


def supervision(run: Run, what: str) -> str:
    """Return which labels of the training images the evaluation `what` depends on."""
    return ", ".join([run.spec.supervision, *_maps_used(run, what)])


def _maps_used(run: Run, what: str) -> list[str]:
    """Return what pseudo labels are made from beside image labels, if `what` depends on them."""
    if run.spec.learns_masks or what not in ("pseudo", "segmentation"):
        return []
    params = run.settings.pseudo
    network = saliency_network(data_section(run.params, run.dataset))
    saliency = knowledge.SALIENCY_NETWORK if network else knowledge.SALIENCY
    uses = {saliency: params.saliency.use, knowledge.REGIONS: params.regions is not None}
    return [words for words, is_used in uses.items() if is_used]


def extra_knowledge(run: Run, what: str) -> str:
    """Return what `what` has learned from beyond image labels of the images and ImageNet-1k."""
    extra = [knowledge.TRUE_MASKS] if run.spec.learns_masks else []
    extra += [words for learned in _brought(run) for words in learned.extra]
    extra += [words for _, start in _starts(run, what) for words in start.knowledge.extra]
    if any(_has_sentences(run, stage) for stage, _ in _starts(run, what)):
        extra.append(knowledge.SENTENCES)
    extra += _maps_used(run, what)
    return knowledge.in_words(extra)


def _has_sentences(run: Run, stage: str) -> bool:
    """Return whether the network of a stage is given sentences on the classes beside their words."""
    network = run.settings.networks.get(stage)
    return bool(network and getattr(network.hyper_parameters, "attributes", ""))


def networks(run: Run, what: str) -> str:
    """Return the backbones and initial weights of all networks that `what` depends on."""
    names: dict[str, list[str]] = {}  # by backbone and initial weights
    for stage, start in _starts(run, what):
        names.setdefault(str(start), []).append(stage)
    if run.brought:
        names = {"imported": list(run.spec.imported), **names}
    if len(names) == 1 and not run.brought:
        return next(iter(names))
    return "; ".join(f"{' + '.join(stages)}: {start}" for start, stages in names.items())


def _brought(run: Run) -> list[Knowledge]:
    """Return what imported files have learned from, as the user says; nothing for a method."""
    return [knowledge.stated(run.brought.knowledge)] if run.brought else []


def _starts(run: Run, what: str) -> Iterator[tuple[str, Start]]:
    """Yield the name of every network that `what` depends on, with what it begins with."""
    before = chain.stages_before(run, what)
    for stage in (stage for stage in run.trained if stage in before):
        network = network_settings(run.settings, stage)
        start = _start(network, network.checkpoint, network.extra_knowledge)
        yield stage, start
        further = network.further_backbones if isinstance(network, ClassifierParams) else {}
        for attribute, other in further.items():
            whole = start if network.checkpoint else _start(other, None, None)
            name = f"{stage}'s {FURTHER_BACKBONES[attribute]}"
            yield name, Start(other.backbone, whole.weights, whole.knowledge)


def _start(network: NetParams, checkpoint: str | None, words: str | None) -> Start:
    """Return what a network begins with; checkpoint: the file of the whole network, if published."""
    file = checkpoint or getattr(network, "initial_file", None)
    if file:
        learned = knowledge.of_file(file_and_key(file)[0], words)
        name = file.rpartition("/")[2]
        origin = f"{'published' if checkpoint else 'from'} {name} ({learned.data})"
        return Start(network.backbone, origin, learned)
    if network.initial is None:
        return Start(network.backbone, knowledge.RANDOM.data, knowledge.RANDOM)
    learned = knowledge.of_initial(network.initial, _source(network.initial))
    return Start(network.backbone, learned.data, learned)


def _source(name: str) -> str:
    """Return where initial weights were fetched; empty if their record is absent."""
    path = initial_weights_path(name).with_suffix(".json")
    return read_record(path, WeightsRecord).source if path.is_file() else ""


def _sum(values: Sequence[int | None]) -> int | None:
    """Return the sum; None if one of the values is None."""
    numbers = [value for value in values if value is not None]
    return sum(numbers) if len(numbers) == len(values) else None
