"""The stages of a run: their settings, their code, their files, their records.

The Snakefile, the command line and the results table all read this one description. A run lives
under `work/{dataset}/{method}/{protocol}/s{seed}/`; imports neither torch nor timm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from wsss.errors import ConfigError
from wsss.runs.fingerprint import fingerprint
from wsss.settings import Params, method_spec
from wsss.settings.resolve import DRAWN, RunSettings, resolve_settings

WORK = Path("work")
RESULTS = Path("results")
RUN_PATTERN = re.compile(r"(?:work/)?([^/]+)/([^/]+)/(published|common)/s(\d+)/?")

# stage -> module under wsss.stages whose code it runs. `classifier` stands for each network of a
# method's chain; the others are files of a run, named like their stage.
MODULES = {
    "data": "prepare",
    "weights": "weights",
    "classifier": "train",
    "cam": "cam",
    "boxes": "boxes",
    "decode": "decode",
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
SILENT_SETTINGS = (
    "workers",
    "save_seconds",
    "tensorboard",
)  # of a training: cannot change a result
# What is evaluated, in the order of the flow, and the archive that it is in.
SCORED_ARTIFACT = {
    "seed": "cam",
    "decode": "decode",
    "walk": "walk",
    "pseudo": "pseudo",
    "segmentation": "masks",
    "boxes": "boxes",
}
VALIDATED = ("decode", "segmentation")  # on validation images, whose labels are not known


def stage_kind(name: str) -> str:
    """Return what a stage or evaluation is, without the network that it is of: `cam-pc` is a cam."""
    return name.partition("-")[0]


def scored_artifact(what: str) -> str:
    """Return the stage that an evaluation scores: that of `seed-pc` is `cam-pc`."""
    own, dash, network = what.partition("-")
    return f"{SCORED_ARTIFACT[own]}{dash}{network}"


@dataclass(frozen=True)
class Run:
    """One dataset x method x protocol x seed, with its parameters."""

    params: Params
    dataset: str
    method: str
    protocol: str
    seed: int

    @classmethod
    def parse(cls, text: str, params: Params) -> Run:
        """Return the run named like `shapes/cam/common/s0`, with or without `work/` before it."""
        run = cls.named(text, params)
        method_spec.spec(run.method, params.methods_path)
        return run

    @classmethod
    def named(cls, text: str, params: Params) -> Run:
        """Return the run of a name, even if its method is not known here, so it cannot be made."""
        found = RUN_PATTERN.fullmatch(text)
        if not found:
            raise ConfigError(
                f"{text!r} is not a run. Write dataset/method/protocol/sSEED: shapes/cam/common/s0."
            )
        dataset, method, protocol, seed = found.groups()
        return cls(params, dataset, method, protocol, int(seed))

    def __str__(self) -> str:
        return f"{self.dataset}/{self.method}/{self.protocol}/s{self.seed}"

    @cached_property
    def settings(self) -> RunSettings:
        """The resolved settings of this run."""
        return resolve_settings(self.params, self.dataset, self.method, self.protocol)

    @cached_property
    def spec(self) -> method_spec.MethodSpec:
        """What the method's YAML says."""
        return method_spec.spec(self.method, self.params.methods_path)

    @property
    def folder(self) -> Path:
        """Where the files of this run are."""
        return WORK / self.dataset / self.method / self.protocol / f"s{self.seed}"

    def path(self, name: str) -> Path:
        """Return the path of a file of this run."""
        return self.folder / name

    @property
    def index(self) -> Path:
        """The index of the dataset, shared by its runs."""
        return WORK / self.dataset / "index.json"

    def after(self, network: str) -> tuple[str, ...]:
        """Return the networks that a network is trained after; published weights need none."""
        published = self.settings.networks[network].checkpoint
        return () if published else self.spec.networks[network].after

    @property
    def networks(self) -> list[str]:
        """The networks of this run in training order: the cam_network and all that it needs.

        Of those whose seeds are scored too, also the ones that a file is given for.
        """
        given = {
            name for name in self.spec.scored_networks if self.settings.networks[name].checkpoint
        }
        needed = {self.spec.cam_network, *given}
        for name in reversed(self.spec.networks):
            needed |= set(self.after(name)) if name in needed else set()
        return [name for name in self.spec.networks if name in needed]

    @property
    def cams(self) -> dict[str, str]:
        """The stages that make CAMs, and the network of each; `cam` is that of the cam_network."""
        found = {f"cam-{name}": name for name in self.spec.scored_networks if name in self.networks}
        return {**found, "cam": str(self.spec.cam_network)}

    @property
    def trained(self) -> list[str]:
        """The stages that train a network, in order."""
        computed = {name for name, network in self.spec.networks.items() if network.computed}
        training = {*self.spec.networks, "affinity", "segmenter"} - computed
        return [stage for stage in self.stages() if stage in training]

    @property
    def scored(self) -> list[str]:
        """What of this run is evaluated, in the order of the flow."""
        found = (stage.partition("/") for stage in self.stages())
        return [what for folder, _, what in found if folder == "eval"]

    def stages(self) -> list[str]:
        """Return the stages of this run in order; evaluations are `eval/<what>`."""
        if self.spec.localizes:
            return [*self.networks, "boxes", "eval/boxes"]
        if self.spec.learns_masks:
            return ["segmenter", "masks", "eval/segmentation"]
        first: list[str] = []
        for name in self.networks:
            own = [f"cam-{name}", f"eval/seed-{name}"] if f"cam-{name}" in self.cams else []
            first += [name, *own]
        middle = ["cam", "eval/seed"]
        if self.spec.decodes:
            middle += ["decode", "eval/decode"]
        if self.settings.pseudo.source == "walk":
            middle += ["confident", "affinity", "walk", "eval/walk"]
        last = ["pseudo", "eval/pseudo", "segmenter", "masks", "eval/segmentation"]
        return [*first, *middle, *last]

    def slice(self, stage: str) -> dict[str, Any]:
        """Return the settings that `stage` uses, and no others, as plain values."""
        return stage_slice(self.settings, stage)

    def code(self, stage: str) -> str:
        """Return the fingerprint of the code that `stage` runs."""
        if stage in self.spec.networks or stage_kind(stage) in ("cam", "boxes", "decode"):
            module = "train" if stage in self.spec.networks else MODULES[stage_kind(stage)]
            method = self.spec.module.removeprefix("wsss.")
            folders = method_spec.absolute(self.params.methods_path)
            return fingerprint(f"stages.{module}", method, folders=folders)
        return fingerprint(f"stages.{MODULES[stage.split('/')[0]]}")


def stage_slice(settings: RunSettings, stage: str) -> dict[str, Any]:
    """Return the part of `settings` that `stage` uses, as plain values.

    What cannot change a result is left out. (Batches of inference can: sums take another order.)
    """
    if stage in settings.networks:
        return _plain(settings.networks[stage].model_dump(mode="json"))
    parts: dict[str, Any] = {
        "cam": settings.cam.model_dump(mode="json"),
        "boxes": settings.boxes.model_dump(mode="json"),
        "decode": settings.decode.model_dump(mode="json"),
        "confident": settings.affinity.confident.model_dump(mode="json"),
        "affinity": settings.affinity.model_dump(mode="json", exclude={"confident"}),
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
        return _evaluation_slice(settings, stage.removeprefix("eval/"))
    return _plain(parts[stage_kind(stage)])


def _evaluation_slice(settings: RunSettings, what: str) -> dict[str, Any]:
    if what == "boxes":
        return {"what": what}
    evaluation = settings.evaluation
    chosen: dict[str, Any] = {"what": what, "convention": evaluation.convention}
    own = settings.pseudo.source == "walk" and settings.walk.background != "none"
    fixed = None if own else settings.pseudo.threshold
    if stage_kind(what) in ("seed", "walk"):
        level = fixed if what == "walk" else evaluation.seed_threshold
        chosen |= {"threshold": level, "thresholds": evaluation.thresholds}
        chosen["erode_px"] = evaluation.erode_px
    crfs = {"pseudo": settings.pseudo.crf, "decode": settings.decode.crf}
    crfs["segmentation"] = settings.segmenter.test.crf
    if what in crfs:
        chosen["unlabelled"] = evaluation.unlabelled
        chosen["crf"] = crfs[what]
    if what == "pseudo":
        chosen["threshold"] = fixed
    return chosen


def _plain(part: dict[str, Any]) -> dict[str, Any]:
    train = part.get("train")
    if isinstance(train, Mapping):
        return {**part, "train": {k: v for k, v in train.items() if k not in SILENT_SETTINGS}}
    return part


def data_slice(params: Params, dataset: str) -> dict[str, Any]:
    """Return the settings that the index (and the drawing) of `dataset` depend on."""
    own = params.data.csv.get(dataset) or getattr(params.data, dataset)
    return dict(own.model_dump(mode="json"))


def data_reader(dataset: str) -> str:
    """Return the module under wsss.datasets that makes `dataset`."""
    modules = {
        "voc12": "voc",
        "coco14": "coco",
        "cub": "cub",
        **{name: f"drawn.{name}" for name in DRAWN},
    }
    return modules.get(dataset, "user_table")


def data_archive(params: Params, dataset: str) -> Path | None:
    """Return the archive that is made with a dataset: drawn pictures, or masks from annotations."""
    if dataset in DRAWN:
        return WORK / dataset / "images.zip"
    converted = dataset == "coco14" or (dataset == "voc12" and params.data.voc12.sbd)
    return WORK / dataset / "masks.zip" if converted else None


def data_files(params: Params, dataset: str) -> list[Path]:
    """Return the files that stand for a dataset: its index and the archive made with it."""
    archive = data_archive(params, dataset)
    return [WORK / dataset / "index.json", *([archive] if archive else [])]


def data_code(dataset: str) -> str:
    """Return the fingerprint of the code that makes `dataset`."""
    return fingerprint("stages.prepare", f"datasets.{data_reader(dataset)}")


def planned_runs(params: Params) -> Iterator[Run]:
    """Yield every run that the parameters select."""
    for dataset in params.datasets:
        for method in params.methods:
            for protocol in params.protocols:
                spec = method_spec.spec(method, params.methods_path)
                if protocol == "published" and not spec.published:
                    continue
                for seed in params.seeds:
                    yield Run(params, dataset, method, protocol, seed)


def initial_weights(settings: RunSettings, stage: str) -> dict[str, str]:
    """Return the names of the initial weights that a training stage needs, by backbone."""
    part: Any = settings.networks.get(stage) or getattr(settings, stage)
    found: dict[str, str | None] = {"backbone": part.initial}
    auxiliary_cnn = getattr(part, "auxiliary_cnn", None)
    if auxiliary_cnn and not part.checkpoint:
        found["auxiliary_cnn"] = auxiliary_cnn.initial
    return {attribute: name for attribute, name in found.items() if name}


def initial_weights_path(name: str) -> Path:
    """Return where converted initial weights are kept."""
    return WORK / "pretrained" / f"{name}.safetensors"


def weights_code() -> str:
    """Return the fingerprint of the code that fetches initial weights."""
    return fingerprint("stages.weights", "nets.weights")


def shard_path(run: Run, stage: str, shard: tuple[int, int]) -> Path:
    """Return where shard (k, n) of a stage is written."""
    return run.path(f"{stage}/{shard[0]}-of-{shard[1]}.zip")
