"""Files that a plan needs and nobody has put in place: weights, published networks, data.

Imports neither torch nor timm: Snakemake imports this module before every job.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from wsss.runs.inputs import data_section, initial_weights, initial_weights_path, saliency_key
from wsss.runs.run import RUN_PATTERN, WORK, Run, network_settings, planned_runs
from wsss.runs.saliency import maps_of
from wsss.runs.sources import stages_before
from wsss.runs.texts import texts_of
from wsss.settings import Params, StampsParams
from wsss.settings.data import TEXTURES, saliency_folder
from wsss.settings.weight_files import weight_file
from wsss.storage.content import file_and_key

PAGE = "docs/weights.md has every file of weights."
OFFLINE = "WSSS_OFFLINE"
DOWNLOADS = Path("data/pretrained")  # where `wsss weights` keeps what it has fetched
ARTIFACT = re.compile(r"work/([^/]+/[^/]+/[^/]+/s\d+)/(.+?)(?:/\d+-of-\d+)?\.\w+")
NETWORKS = ("affinity", "segmenter")  # stages that train a network which is not of a method's chain


@dataclass(frozen=True)
class MissingFile:
    """A file or folder that the user has to provide.

    advice: how to get it. blocks: Snakemake can make no plan without it. users: the methods that need
    it, by protocol; empty for data, which all methods need.
    """

    path: str
    advice: str
    blocks: bool = False
    users: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        names = sorted({method for method, _ in self.users})
        protocols = {protocol for _, protocol in self.users}
        only = f" under {protocols.pop()}" if len(protocols) == 1 else ""
        who = f" ({', '.join(names)}{only})" if names else ""
        return f"{self.path}{who}: {self.advice}"


@dataclass(frozen=True)
class Plan:
    """The runs that are asked for with their stages, by name, and the datasets.

    selected: the settings select the runs, not names of files.
    """

    params: Params
    selected: bool
    runs: Mapping[str, Run]
    stages: Mapping[str, Collection[str]]
    datasets: Collection[str]

    @classmethod
    def of(cls, params: Params, targets: Iterable[str] = ()) -> Plan:
        """Return the plan of Snakemake's targets: names of rules and files; none means all runs."""
        runs: dict[str, Run] = {}
        stages: dict[str, set[str]] = {}
        datasets: set[str] = set()
        selected = False
        for target in targets or ("all",):
            match = ARTIFACT.fullmatch(target)
            if match and RUN_PATTERN.fullmatch(match[1]):
                run = Run.parse(match[1], params)
                runs[str(run)] = run
                stage = match[2].replace("thresholds-", "calibrate-")  # the stage that writes them
                stages.setdefault(str(run), set()).update(stages_before(run, stage), {stage})
            elif target.startswith(f"{WORK}/"):
                datasets |= {target.split("/")[1]} - {"pretrained"}
            else:
                selected = True
                for run in planned_runs(params):
                    runs[str(run)] = run
                    stages.setdefault(str(run), set()).update(run.stages())
        datasets |= {run.dataset for run in runs.values()}
        return cls(params, selected, runs, stages, datasets)

    def unfinished(self, run: Run) -> list[str]:
        """Return the stages of a run that are asked for and have no record yet."""
        stages = self.stages[str(run)]
        return [stage for stage in stages if not run.path(f"{stage}.json").is_file()]


def missing_files(plan: Plan) -> list[MissingFile]:
    """Return all files that are absent and that an unfinished stage of a plan needs, each once."""
    users: dict[MissingFile, dict[tuple[str, str], None]] = {}
    for dataset in sorted(plan.datasets):
        users |= {file: {} for file in _data(plan, dataset)}
    for run in plan.runs.values():
        for stage in plan.unfinished(run):
            shared = (*_texts(run, stage), *_saliency(run, stage))
            for file in (*_weights(run, stage), *_imported(run, stage), *shared):
                users.setdefault(file, {})[run.method, run.protocol] = None
    return [
        MissingFile(file.path, file.advice, file.blocks, tuple(methods))
        for file, methods in users.items()
    ]


def _weights(run: Run, stage: str) -> Iterator[MissingFile]:
    """Yield the files that a stage starts from and that are absent: weights, masks of regions."""
    regions = run.settings.pseudo.regions if stage == "pseudo" else None
    if regions and not Path(regions).exists():
        yield MissingFile(regions, "Put the masks there, or correct pseudo.regions.", blocks=True)
    if stage not in (*run.spec.networks, *NETWORKS):
        return
    network = network_settings(run.settings, stage)
    source = network.checkpoint or getattr(network, "initial_file", None)
    named = file_and_key(source)[0] if source else None
    if named and not Path(named).exists():
        listed = weight_file(named)
        advice = listed.instruction if listed else "Put the file there, or correct the setting."
        yield MissingFile(named, advice, blocks=True)
    for name in () if named else initial_weights(run.settings, stage).values():
        yield from _initial(name)


def _imported(run: Run, stage: str) -> Iterator[MissingFile]:
    """Yield the files of another program that a stage reads, if they are absent."""
    if run.brought and run.is_brought(stage):
        path = run.brought.source(stage, run.seed)
        if not Path(path).exists():
            key = f"imports.{run.base}.{run.brought.key(stage)}"
            yield MissingFile(path, f"Put the files there, or correct {key}.", blocks=True)


def _texts(run: Run, stage: str) -> Iterator[MissingFile]:
    """Yield the vectors of words that a stage is given, if they are absent and cannot be made here."""
    for text in texts_of([run], [stage]):
        if not text.path.is_file() and find_spec("open_clip") is None:
            yield MissingFile(
                str(text.path),
                "Install the extra `text` (open_clip_torch), or bring the file and its record from a machine "
                f"where `wsss text {text.dataset}` has made it.",
            )


def _saliency(run: Run, stage: str) -> Iterator[MissingFile]:
    """Yield the maps of a network that a stage reads, if they are absent and cannot be made here."""
    for maps in maps_of([run], [stage]):
        if maps.path.is_file():
            continue
        if find_spec("onnxruntime") is None:
            yield MissingFile(
                str(maps.path),
                "Install the extra `onnx` (onnxruntime), or bring the archive and its record from a machine "
                f"where `wsss saliency {maps.dataset}` has made it.",
            )
        yield from _undownloaded(maps.network)


def _undownloaded(name: str) -> Iterator[MissingFile]:
    """Yield a listed file that has an address, if it is absent and downloads are forbidden."""
    listed = weight_file(name)
    if listed and listed.url and os.environ.get(OFFLINE) == "1":
        path = DOWNLOADS / Path(listed.url).name
        if not path.is_file():
            yield MissingFile(str(path), f"Fetch {listed.url} on a machine with a network.")


def _initial(name: str) -> Iterator[MissingFile]:
    """Yield the published file of initial weights that no command can fetch, if it is absent."""
    listed = weight_file(name)
    if listed is None or initial_weights_path(name).is_file():
        return
    if listed.file and not Path(listed.file).is_file():
        yield MissingFile(listed.file, listed.instruction)
    yield from _undownloaded(name)


def _data(plan: Plan, dataset: str) -> Iterator[MissingFile]:
    """Yield the folders and tables of a dataset that are absent and still read."""
    is_indexed = (WORK / dataset / "index.json").is_file()
    is_read = any(plan.unfinished(run) for run in plan.runs.values() if run.dataset == dataset)
    for file in _sources(plan.params, dataset):
        if not Path(file.path).exists() and (not is_indexed or (is_read and dataset != "stamps")):
            yield file


def _sources(params: Params, dataset: str) -> Iterator[MissingFile]:
    """Yield the folders and the table that a dataset is read from."""
    data = params.data
    if folder := saliency_folder(data_section(params, dataset)):
        yield MissingFile(folder, f"Correct {saliency_key(params, dataset)}.")
    section = data.csv.get(dataset)
    if section:
        yield MissingFile(section.table, f"Correct data.csv.{dataset}.table.", blocks=True)
        yield MissingFile(section.root, f"Correct data.csv.{dataset}.root.")
        return
    fetched = f"`wsss data fetch {dataset}`, or set data.{dataset}."
    yield from {
        "voc12": [
            MissingFile(data.voc12.root, f"{fetched}root."),
            *([MissingFile(data.voc12.sbd, f"{fetched}sbd.")] if data.voc12.sbd else []),
        ],
        "coco14": [MissingFile(data.coco14.root, f"{fetched}root.")],
        "cub": [MissingFile(data.cub.root, f"{fetched}root.")],
        "stamps": [*_photographs(data.stamps)],
    }.get(dataset, ())


def _photographs(params: StampsParams) -> Iterator[MissingFile]:
    """Yield the folders that `stamps` is composed of."""
    advice = "apt-get install tuxpaint-stamps-default, or set data.stamps.root."
    yield MissingFile(params.root, advice)
    if params.backgrounds != TEXTURES:
        advice = f"apt-get install scratch, or set data.stamps.backgrounds: {TEXTURES}."
        yield MissingFile(params.backgrounds, advice)


def advice(plan: Plan, files: Sequence[MissingFile]) -> str:
    """Return a line for each missing file, and settings that leave out what needs the weights."""
    lines = [f"  {file}" for file in files]
    weights = [file for file in files if file.users]
    if weights:
        lines += [PAGE, *(_ways_out(plan, weights) if plan.selected else ())]
    if not files:
        return "No file is missing that the plan needs and no command fetches."
    count = "1 file is" if len(files) == 1 else f"{len(files)} files are"
    return "\n".join([f"{count} missing that the plan needs:", *lines])


def downloads(plan: Plan) -> str:
    """Return a line on the initial weights that a run of the plan will fetch."""
    names = {
        name
        for run in plan.runs.values()
        for stage in plan.unfinished(run)
        if stage in (*run.spec.networks, *NETWORKS)
        for name in initial_weights(run.settings, stage).values()
        if not initial_weights_path(name).is_file()
    }
    listed = {name: weight_file(name) for name in sorted(names)}
    fetched = [name for name, file in listed.items() if file is None or file.fetched]
    megabytes = sum((file.megabytes or 0) for file in listed.values() if file and file.fetched)
    if not fetched:
        return "No weights are left to be fetched."
    return f"A run fetches {len(fetched)} files of weights, {megabytes} MB: {', '.join(fetched)}."


def _ways_out(plan: Plan, files: Sequence[MissingFile]) -> Iterator[str]:
    """Yield lines of settings with which the plan needs none of `files`."""
    needing = {user for file in files for user in file.users}
    methods = list(dict.fromkeys(run.method for run in plan.runs.values()))
    remaining = [name for name in methods if name not in {method for method, _ in needing}]
    if remaining:
        yield "To do without them, put this into a file, and name it last after --configfile or --params:"
        yield f"  methods: [{', '.join(remaining)}]"
    if "common" not in {protocol for _, protocol in needing}:
        yield "or this:" if remaining else "To do without them, put this into such a file:"
        yield "  protocols: [common]"


def check_before_plan(workflow: Any, params: Params, error: type[Exception]) -> None:
    """Let a Snakemake workflow name all missing files before it builds its graph of jobs.

    It stops if Snakemake could not plan without them, and before a run that would fail for want of
    them. Otherwise, as in a dry run, it only says so. A Snakemake without `_build_dag` is left alone.

    error: the exception that Snakemake prints as one message.
    """
    build = getattr(workflow, "_build_dag", None)
    if build is None or not getattr(workflow, "is_main_process", True):
        return

    def build_if_complete() -> None:
        settings = workflow.dag_settings
        plan = Plan.of(params, settings.targets)
        files = missing_files(plan)
        if any(file.blocks for file in files) or (files and _runs_all(workflow)):
            raise error(advice(plan, files))
        if files:
            sys.stderr.write(f"{advice(plan, files)}\n")
        build()

    workflow._build_dag = build_if_complete


def _runs_all(workflow: Any) -> bool:
    """Return whether Snakemake will run every job of its plan, and not only show or touch files."""
    settings = workflow.dag_settings
    is_shown = workflow.executor_plugin is None or workflow.dryrun or workflow.touch
    return not (is_shown or settings.until or settings.omit_from)
