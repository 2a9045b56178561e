"""A run: its stages, and the settings, code and files of each stage.

The Snakefile, the command line and the tables read this one description. The files of a run are in
`work/{dataset}/{method}/{protocol}/s{seed}/`. Imports neither torch nor timm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any, Self

from wsss.errors import ConfigError
from wsss.runs.fingerprint import fingerprint
from wsss.settings import AffinityParams, ClassifierParams, Params, SegmenterParams, method_spec
from wsss.settings.base import CALIBRATED
from wsss.settings.imports import UNKNOWN, ImportParams
from wsss.settings.resolve import RunSettings, calibrates, check_dataset, resolve_settings
from wsss.settings.thresholds import Thresholds, published_thresholds

WORK = Path("work")
RUN_PATTERN = re.compile(r"(?:work/)?([^/]+)/([^/]+)/(published|common)/s(\d+)/?")

PlainSettings = dict[str, Any]  # settings as JSON values, the form that records and rules compare

# stage -> module under wsss.stages that runs it. `classifier` stands for every network of a method's
# chain; the other stages are named like their file in the run's folder.
MODULES = {
    "data": "prepare",
    "weights": "weights",
    "classifier": "train",
    "cam": "cam",
    "boxes": "boxes",
    "decode": "decode",
    "calibrate": "calibrate",
    "confident": "confident",
    "affinity": "affinity",
    "walk": "walk",
    "instances": "instances",
    "pseudo": "pseudo",
    "segmenter": "segmenter",
    "masks": "masks",
    "eval": "evaluate",
    "results": "table",
}
SILENT_SETTINGS = ("workers", "save_seconds", "tensorboard")  # of `train`: they change no result
WORDS = ("extra_knowledge",)  # of a network: said in tables, so evaluations alone depend on it
# evaluation -> the stage whose archive it scores, in the order of the pipeline.
SCORED_ARTIFACT = {
    "seed": "cam",
    "decode": "decode",
    "walk": "walk",
    "pseudo": "pseudo",
    "segmentation": "masks",
    "boxes": "boxes",
}
VALIDATED = ("decode", "segmentation")  # scored on validation images, whose labels are unknown


def stage_kind(name: str) -> str:
    """Return a stage or evaluation without its network: the kind of `cam-pc` is `cam`."""
    return name.partition("-")[0]


def scored_artifact(what: str) -> str:
    """Return the stage that an evaluation scores: `seed-pc` scores `cam-pc`."""
    kind, dash, network = what.partition("-")
    return f"{SCORED_ARTIFACT[kind]}{dash}{network}"


@dataclass(frozen=True)
class Run:
    """One dataset x method x protocol x seed, with the config it belongs to.

    root: the folder that holds `work/`; by default the one that the process works in.
    """

    params: Params
    dataset: str
    method: str
    protocol: str
    seed: int
    root: Path = Path()

    @classmethod
    def parse(cls, text: str, params: Params, root: Path = Path()) -> Self:
        """Return the run named like `shapes/cam/common/s0`, with or without `work/` before it."""
        run = cls.named(text, params, root)
        check_dataset(params, run.dataset)
        params.spec(run.method)
        return run

    @classmethod
    def named(cls, text: str, params: Params, root: Path = Path()) -> Self:
        """Return the run of a name, even if no such method exists: old results can still be shown."""
        match = RUN_PATTERN.fullmatch(text)
        if not match:
            raise ConfigError(
                f"{text!r} is not a run. Write dataset/method/protocol/sSEED with the protocol common or "
                "published, as in shapes/cam/common/s0."
            )
        dataset, method, protocol, seed = match.groups()
        return cls(params, dataset, method, protocol, int(seed), root)

    def __str__(self) -> str:
        return f"{self.dataset}/{self.method}/{self.protocol}/s{self.seed}"

    @cached_property
    def settings(self) -> RunSettings:
        """The resolved settings of this run."""
        return resolve_settings(self.params, self.dataset, self.method, self.protocol)

    @cached_property
    def spec(self) -> method_spec.MethodSpec:
        """The content of the method's YAML, or what an import says; a variant's is its base's."""
        return self.params.spec(self.method)

    @property
    def brought(self) -> ImportParams | None:
        """The files of another program that this run begins with; None for a method."""
        return self.params.imports.get(self.base)

    @property
    def base(self) -> str:
        """The method that a variant changes; for any other run its method."""
        return self.params.base(self.method)

    @property
    def title(self) -> str:
        """The name of the method, for people; a variant's name stands behind its base's."""
        return self.spec.title if self.base == self.method else f"{self.spec.title}: {self.method}"

    @property
    def work(self) -> Path:
        """The folder of all datasets, initial weights and runs."""
        return self.root / WORK

    @property
    def folder(self) -> Path:
        """The folder of this run."""
        return self.work / self.dataset / self.method / self.protocol / f"s{self.seed}"

    def path(self, name: str) -> Path:
        """Return the path of a file of the run: in its folder, or in its base's for a shared stage."""
        return self.owner(_stage_of(name)).folder / name

    @cached_property
    def shared(self) -> frozenset[str]:
        """The stages that a variant has in common with its base, whose files it uses.

        They are the first ones, as far as all their settings are equal. Each variant has scores of its own.
        """
        if self.base == self.method:
            return frozenset()
        pairs = zip(self.computed, self.base_run.computed, strict=False)
        equal = takewhile(self._is_equal_in_base, pairs)
        return frozenset(stage for stage, _ in equal)

    def _is_equal_in_base(self, pair: tuple[str, str]) -> bool:
        stage, of_base = pair
        return stage == of_base and self.slice(stage) == self.base_run.slice(stage)

    @cached_property
    def base_run(self) -> Run:
        """The run of the base with the same dataset, protocol and seed."""
        return Run(self.params, self.dataset, self.base, self.protocol, self.seed, self.root)

    def owner(self, stage: str) -> Run:
        """Return the run in whose folder the files of a stage are: this one, or its base's."""
        return self.base_run if stage in self.shared else self

    @property
    def results(self) -> Path:
        """The folder of tables, figures and exports."""
        return Path(self.params.results)

    @property
    def index(self) -> Path:
        """The index of the dataset; all its runs share it."""
        return self.work / self.dataset / "index.json"

    def after(self, network: str) -> tuple[str, ...]:
        """Return the networks that `network` is trained after; none if it takes published weights."""
        published = self.settings.networks[network].checkpoint
        return () if published else self.spec.networks[network].after

    @property
    def networks(self) -> list[str]:
        """The networks of this run in training order: the CAM network and all that it needs.

        Earlier networks whose seeds are scored are included if a checkpoint is given for them.
        """
        published = {
            name for name in self.spec.scored_networks if self.settings.networks[name].checkpoint
        }
        needed = {self.spec.cam_network, *published}
        for name in reversed(self.spec.networks):
            needed |= set(self.after(name)) if name in needed else set()
        return [name for name in self.spec.networks if name in needed]

    @property
    def cams(self) -> dict[str, str]:
        """The stages that compute CAMs, each with its network; `cam` uses the CAM network."""
        if self.brought:
            return {}
        scored = [name for name in self.spec.scored_networks if name in self.networks]
        return {**{f"cam-{name}": name for name in scored}, "cam": str(self.spec.cam_network)}

    @property
    def trained(self) -> list[str]:
        """The stages that train a network, in order."""
        computed = {name for name, network in self.spec.networks.items() if network.computed}
        training = {*self.spec.networks, "affinity", "segmenter"} - computed
        return [stage for stage in self.stages() if stage in training]

    @property
    def scored(self) -> list[str]:
        """The evaluations of this run, in the order of the pipeline."""
        return [s.removeprefix("eval/") for s in self.stages() if s.startswith("eval/")]

    @property
    def computed(self) -> list[str]:
        """The stages of this run in order, without the evaluations."""
        return [stage for stage in self.stages() if not stage.startswith("eval/")]

    def stages(self) -> list[str]:
        """Return the stages of this run in order; evaluations are `eval/<what>`."""
        if self.spec.localizes:
            return [*self.networks, "boxes", "eval/boxes"]
        segmented = ["segmenter", "masks", "eval/segmentation"]
        if self.spec.learns_masks:
            return segmented
        if self.spec.imported:
            return self._stages_after(self.spec.imported)
        first: list[str] = []
        for name in self.networks:
            first.append(name)
            if f"cam-{name}" in self.cams:
                first += [f"cam-{name}", *self._calibration(f"cam-{name}"), f"eval/seed-{name}"]
        decoded = ["decode", "eval/decode"] if self.spec.decodes else []
        labelled = [*self._walked(), "pseudo", "eval/pseudo"]
        return [*first, *self._seeds(), *decoded, *labelled, *segmented]

    def _stages_after(self, imported: tuple[str, ...]) -> list[str]:
        """Return the imported stages, their scores, and the stages that build on them."""
        stages = self._seeds() if "cam" in imported else []
        if "pseudo" not in imported and stages:
            stages += self._walked()
        if {"cam", "pseudo"} & set(imported):
            stages += ["pseudo", "eval/pseudo"]
        trained = [] if "masks" in imported else ["segmenter"]
        return [*stages, *trained, "masks", "eval/segmentation"]

    def _seeds(self) -> list[str]:
        """Return the stages of the CAMs and of their score."""
        return ["cam", *self._calibration("cam"), "eval/seed"]

    def _walked(self) -> list[str]:
        """Return the stages of the random walk; none if the CAMs become pseudo labels themselves."""
        if self.settings.pseudo.source != "walk":
            return []
        taught = ["confident"] if self.learns_affinity else []
        return [*taught, "affinity", "walk", *self._calibration("walk"), "eval/walk"]

    def _calibration(self, maps: str) -> list[str]:
        """Return the stage that calibrates the thresholds for `maps`; none if all are numbers."""
        return [f"calibrate-{maps}"] if maps in self._calibrated else []

    @cached_property
    def _calibrated(self) -> set[str]:
        """The archives of maps whose thresholds are calibrated."""
        seeds = (f"eval/seed{cams.removeprefix('cam')}" for cams in (*self.cams, "cam"))
        users = ("confident", "pseudo", "eval/walk", *seeds)
        return {maps for stage in users for maps in self.calibrated_maps(stage)}

    def calibrated_maps(self, stage: str) -> tuple[str, ...]:
        """Return the archives of maps whose calibrated thresholds `stage` uses: one or none.

        A score of pseudo labels or of the segmenter counts as using the ones behind them.
        """
        settings = self.settings
        if self.is_brought(stage):
            return ()
        if stage in ("eval/pseudo", "eval/segmentation"):
            published = stage == "eval/segmentation" and settings.segmenter.checkpoint
            if self.spec.learns_masks or self.spec.localizes or published:
                return ()
            if self.is_brought("pseudo") or self.is_brought(scored_artifact(stage[5:])):
                return ()
            return self.calibrated_maps("pseudo") or self.calibrated_maps("confident")
        maps, levels = "", tuple[object, ...]()
        if stage.startswith("eval/seed"):
            maps = scored_artifact(stage.removeprefix("eval/"))
            levels = (settings.evaluation.seed_threshold,)
        elif stage == "confident" and self.learns_affinity:
            labels = settings.affinity.confident
            maps, levels = "cam", (labels.foreground, labels.background)
        elif stage in ("pseudo", "eval/walk", "instances") and not self.walks_background:
            maps, levels = settings.pseudo.source, (settings.pseudo.threshold,)
        return (maps,) if CALIBRATED in levels else ()

    @property
    def published_thresholds(self) -> Thresholds:
        """The thresholds of the method's published settings."""
        return published_thresholds(self.spec)

    @property
    def learns_affinity(self) -> bool:
        """Whether an affinity network is trained, so affinity labels are made."""
        return self.settings.pseudo.source == "walk" and self.settings.affinity.is_trained

    @property
    def walks_background(self) -> bool:
        """Whether the maps that become pseudo labels bring their own background score (PSA)."""
        return walks_background(self.settings)

    def held_out(self, what: str) -> int:
        """Return how many training images with masks an evaluation leaves out, for calibration."""
        used = calibrates(self.settings, self.protocol) and stage_kind(what) not in VALIDATED
        return self.settings.calibration.images if used and what != "boxes" else 0

    def slice(self, stage: str) -> PlainSettings:
        """Return the settings that `stage` uses, and no others."""
        if self.brought and self.is_brought(stage):
            return self._import_slice(self.brought, stage)
        part = stage_slice(self.settings, stage)
        if stage_kind(stage) == "calibrate":
            part["published"] = asdict(self.published_thresholds)
        if stage.startswith("eval/") and (held_out := self.held_out(part["what"])):
            part["held_out"] = held_out
        if stage.startswith("eval/") and self.brought:
            part = self._without_unknown(part, self.brought)
        return part

    def is_brought(self, stage: str) -> bool:
        """Return whether the files of a stage are imported."""
        return stage in self.spec.imported

    def _import_slice(self, files: ImportParams, stage: str) -> PlainSettings:
        """Return the settings that the import of a stage depends on."""
        part = files.slice(stage)
        if part["kind"] == "logits":
            test = self.settings.segmenter.test
            part["crf"] = test.crf
        return part

    def _without_unknown(self, part: PlainSettings, files: ImportParams) -> PlainSettings:
        """Return the settings of an evaluation, without those that imported labels do not follow."""
        words = {"extra_knowledge": {**part.get("extra_knowledge", {}), "import": files.knowledge}}
        kind = stage_kind(part["what"])
        if not self.is_brought(SCORED_ARTIFACT[kind]) or kind == "seed":
            return {**part, **words}
        crf = {} if files.logits and kind == "segmentation" else {"crf": UNKNOWN}
        silent = {key: value for key, value in part.items() if key != "threshold"}
        return {**silent, **crf, **words}

    def code(self, stage: str) -> str:
        """Return the fingerprint of the code that `stage` runs."""
        if self.is_brought(stage):
            return fingerprint("stages.imports")
        if stage in self.spec.networks or stage_kind(stage) in ("cam", "boxes", "decode"):
            module = "train" if stage in self.spec.networks else MODULES[stage_kind(stage)]
            method = self.spec.module.removeprefix("wsss.")
            folders = method_spec.absolute(self.params.methods_path)
            return fingerprint(f"stages.{module}", method, folders=folders)
        return fingerprint(f"stages.{MODULES[stage_kind(stage.split('/')[0])]}")


def _stage_of(name: str) -> str:
    """Return the stage that writes the file `name` of a run's folder."""
    folder, _, file = name.rpartition("/")
    if folder in ("", "eval"):
        stage = file.partition(".")[0]
        if stage.startswith("thresholds-"):
            return stage.replace("thresholds", "calibrate", 1)
        return f"eval/{stage}" if folder == "eval" else stage
    return folder  # a shard


def network_settings(
    settings: RunSettings, stage: str
) -> ClassifierParams | AffinityParams | SegmenterParams:
    """Return the settings of the network that the stage `stage` trains."""
    if stage in settings.networks:
        return settings.networks[stage]
    return settings.affinity if stage == "affinity" else settings.segmenter


def stage_slice(settings: RunSettings, stage: str) -> PlainSettings:
    """Return the part of `settings` that `stage` uses.

    Settings that cannot change a result are left out; the batch size of inference can, because sums
    are then added in another order.
    """
    if stage in settings.networks:
        return _without_silent(settings.networks[stage].model_dump(mode="json"))
    parts: dict[str, PlainSettings] = {
        "cam": settings.cam.model_dump(mode="json"),
        "boxes": settings.boxes.model_dump(mode="json"),
        "decode": settings.decode.model_dump(mode="json"),
        "calibrate": settings.calibration.model_dump(mode="json"),
        "confident": settings.affinity.confident.model_dump(mode="json"),
        "affinity": _affinity_slice(settings.affinity),
        "walk": settings.walk.model_dump(mode="json"),
        "instances": {
            **settings.walk.model_dump(mode="json"),
            "threshold": settings.pseudo.threshold,
        },
        "pseudo": settings.pseudo.model_dump(mode="json"),
        "segmenter": settings.segmenter.model_dump(mode="json", exclude={"test", "preset"}),
        "masks": settings.segmenter.test.model_dump(mode="json"),
    }
    if stage.startswith("eval/"):
        words = _words(settings)
        evaluation = _evaluation_slice(settings, stage.removeprefix("eval/"))
        return {**evaluation, "extra_knowledge": words} if words else evaluation
    return _without_silent(parts[stage_kind(stage)])


def _affinity_slice(params: AffinityParams) -> PlainSettings:
    """Return the settings of the affinity network; those of frozen features only where they are used."""
    unused = {"confident"} if params.kind == "frozen" else {"confident", "frozen"}
    return params.model_dump(mode="json", exclude=unused)


def _words(settings: RunSettings) -> dict[str, str]:
    """Return what the settings say about files of weights, by network."""
    stages = (*settings.networks, "affinity", "segmenter")
    words = {stage: network_settings(settings, stage).extra_knowledge for stage in stages}
    return {stage: text for stage, text in words.items() if text is not None}


def _evaluation_slice(settings: RunSettings, what: str) -> PlainSettings:
    if what == "boxes":
        return {"what": what}
    evaluation = settings.evaluation
    chosen: PlainSettings = {"what": what, "convention": evaluation.convention}
    fixed = None if walks_background(settings) else settings.pseudo.threshold
    if stage_kind(what) in ("seed", "walk"):
        level = fixed if what == "walk" else evaluation.seed_threshold
        chosen |= {"threshold": level, "thresholds": evaluation.thresholds}
        chosen["erode_px"] = evaluation.erode_px
    pseudo = settings.pseudo
    crfs = {"pseudo": f"PAR {pseudo.par}" if pseudo.par else pseudo.crf}
    crfs["decode"] = settings.decode.crf
    crfs["segmentation"] = settings.segmenter.test.crf
    if what in crfs:
        chosen["unlabelled"] = evaluation.unlabelled
        chosen["crf"] = crfs[what]
    if what == "pseudo":
        chosen["threshold"] = fixed
    return chosen


def walks_background(settings: RunSettings) -> bool:
    """Return whether a background score walks along with the maps, so no threshold is used."""
    return settings.pseudo.source == "walk" and settings.walk.background != "none"


def _without_silent(part: PlainSettings) -> PlainSettings:
    part = {key: value for key, value in part.items() if key not in WORDS}
    train = part.get("train")
    if isinstance(train, Mapping):
        return {**part, "train": {k: v for k, v in train.items() if k not in SILENT_SETTINGS}}
    return part


def planned_runs(params: Params) -> Iterator[Run]:
    """Yield every run that the config selects."""
    for dataset in params.datasets:
        for method in params.run_methods:
            for protocol in params.protocols:
                spec = params.spec(method)
                is_unpublished = protocol == "published" and not spec.published
                if is_unpublished or not params.runs_under(method, protocol):
                    continue
                for seed in params.seeds:
                    yield Run(params, dataset, method, protocol, seed)


def shard_path(run: Run, stage: str, shard: tuple[int, int]) -> Path:
    """Return the file of shard (k, n) of a stage."""
    return run.path(f"{stage}/{shard[0]}-of-{shard[1]}.zip")
