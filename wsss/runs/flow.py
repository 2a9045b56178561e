"""What the rules ask of the plan: runs from wildcards, their settings, code, inputs and targets.

Imports neither torch nor timm: Snakemake reads this before every job.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from wsss.errors import ConfigError
from wsss.runs import resources
from wsss.runs.fingerprint import fingerprint
from wsss.runs.run import (
    RESULTS,
    SCORED_ARTIFACT,
    WORK,
    Run,
    data_archive,
    data_code,
    data_files,
    data_slice,
    initial_weights,
    initial_weights_path,
    planned_runs,
    scored_artifact,
    weights_code,
)
from wsss.runs.staleness import stale
from wsss.settings import method_spec
from wsss.settings.resolve import BUILT_IN, read_yaml, validate_params
from wsss.storage.files import write_text

PARAMS_FOLDER = Path(".snakemake/wsss")
TABLES = (
    "table.csv",
    "table.md",
    "table.tex",
    "metrics.json",
    "classes.csv",
    "classes.md",
    "classes.tex",
    "phenomena.csv",
    "summary.md",
    "summary.tex",
    "provenance.json",
    "curves.csv",
    "loss.csv",
)
FIGURES = {  # name -> category in the report
    **dict.fromkeys(("curves", "classes", "losses"), "Results"),
    **dict.fromkeys(("parts", "contexts", "sizes"), "Phenomena"),
}


class Wildcards(Protocol):
    """The wildcards of a job; each rule has those that its paths name."""

    dataset: str
    method: str
    protocol: str
    seed: str
    network: str
    what: str
    cams: str
    weights: str


Function = Callable[[Wildcards], Any]


class Flow:
    """The plan of one merged configuration, in the words of the rules."""

    def __init__(self, raw: Mapping[str, Any], files: Sequence[str] = ()) -> None:
        """Validate a merged configuration; `ConfigError` with every problem at once.

        files: what it was read from, by a reader that takes the last of two equal keys.
        """
        for file in files:
            read_yaml(Path(file))
        self.params = validate_params(raw, "the configuration")
        self.runs = list(planned_runs(self.params))
        if not self.runs:
            raise ConfigError(
                "The parameters select no run: no method in `methods` has a published protocol."
            )

    def environment(self) -> dict[str, str]:
        """Return what every job finds in its environment: the settings, this Python, fixed hashes."""
        return {
            "WSSS_PARAMS": str(self.save_params()),
            "PATH": _first(str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)),
            "PYTHONHASHSEED": "0",
            # glibc keeps the memory of freed tensors; to fetch it anew costs networks half their time.
            "MALLOC_MMAP_MAX_": "0",
            "MALLOC_TRIM_THRESHOLD_": str(2**32),
            "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait leave the core to other jobs
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # cuBLAS is deterministic with it
        }

    def save_params(self) -> Path:
        """Write the configuration once, under a name made from its content, for the jobs to read."""
        text = json.dumps(self.params.model_dump(mode="json"), indent=1) + "\n"
        path = PARAMS_FOLDER / f"params-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
        if not path.is_file():
            write_text(path, text)
        return path

    def constraints(self) -> dict[str, str]:
        """Return the pattern of each wildcard."""
        folders = self.params.methods_path
        methods = method_spec.methods(folders)
        specs = [method_spec.spec(method, folders) for method in methods]
        networks = {name for spec in specs for name in spec.networks}
        earlier = sorted({name for spec in specs for name in spec.scored_networks})
        return {
            "dataset": "|".join(self._datasets()),
            "method": "|".join(methods),
            "protocol": "published|common",
            "seed": r"\d+",
            "network": "|".join(sorted(networks)),
            "what": "|".join([*SCORED_ARTIFACT, *(f"seed-{name}" for name in earlier)]),
            "cams": "|".join(["cam", *(f"cam-{name}" for name in earlier)]),
            "weights": "[^/]+",
        }

    def _datasets(self) -> tuple[str, ...]:
        return (*BUILT_IN, *self.params.data.csv)

    def made_with(self, archive: str | None) -> str:
        """Return the pattern of the datasets that are made with an archive of this name, or none."""
        found = [
            dataset
            for dataset in self._datasets()
            if getattr(data_archive(self.params, dataset), "name", None) == archive
        ]
        return "|".join(found) or "(?!)"

    def run(self, wildcards: Wildcards) -> Run:
        """Return the run that a job belongs to."""
        found = wildcards
        return Run(self.params, found.dataset, found.method, found.protocol, int(found.seed))

    def name(self, wildcards: Wildcards) -> str:
        """Return the run of a job as the command line wants it."""
        return str(self.run(wildcards))

    def settings(self, stage: str) -> Function:
        """Return the function that gives a job of `stage` its settings; `{network}` is filled in."""
        return lambda wildcards: self.run(wildcards).slice(_filled(stage, wildcards))

    def code(self, stage: str) -> Function:
        """Return the function that gives a job of `stage` the fingerprint of its code."""
        return lambda wildcards: self.run(wildcards).code(_filled(stage, wildcards))

    def memory(self, stage: str | None, megabytes: int) -> Callable[[Wildcards, int], int]:
        """Return the function that gives a job its memory in MB, more at each attempt.

        stage: the training whose network the job runs; None for the one that makes CAMs.
        """

        def mem_mb(wildcards: Wildcards, attempt: int) -> int:
            name = _filled(stage, wildcards) if stage else None
            return resources.memory(self.run(wildcards), name, megabytes)(attempt)

        return mem_mb

    def check_arrays(self, arrays: str | None, jobs: int | None) -> None:
        """Stop where job arrays would hang; arrays: the executor's setting, jobs: its limit."""
        resources.check_arrays(self.runs, self.params.shards, arrays, jobs)

    def data_settings(self, wildcards: Wildcards) -> dict[str, Any]:
        """Return the settings that a dataset is made with."""
        return data_slice(self.params, wildcards.dataset)

    def data_code(self, wildcards: Wildcards) -> str:
        """Return the fingerprint of the code that makes a dataset."""
        return data_code(wildcards.dataset)

    def table(self, wildcards: Wildcards) -> list[str]:
        """Return the user's table of a dataset, if it is read from one."""
        own = self.params.data.csv.get(wildcards.dataset)
        return [own.table] if own else []

    def data(self, wildcards: Wildcards) -> list[str]:
        """Return the index of a job's dataset, and the archive made with it."""
        return self._data_files(wildcards.dataset)

    def _data_files(self, dataset: str) -> list[str]:
        return [path.as_posix() for path in data_files(self.params, dataset)]

    def weights(self, stage: str) -> Function:
        """Return the function that names the initial weights of a training, if it has some."""

        def path(wildcards: Wildcards) -> list[str]:
            names = initial_weights(self.run(wildcards).settings, _filled(stage, wildcards))
            return [initial_weights_path(name).as_posix() for name in names.values()]

        return path

    def initial_file(self, stage: str) -> Function:
        """Return the function that names the user's file that a training begins with, if any."""

        def path(wildcards: Wildcards) -> list[str]:
            name = getattr(self.run(wildcards).settings, stage).initial_file
            return [name] if name else []

        return path

    def before(self, wildcards: Wildcards) -> list[str]:
        """Return the networks of the chain that a network is trained after, and published weights."""
        run = self.run(wildcards)
        taken = run.settings.networks[wildcards.network].checkpoint
        return [
            *([taken] if taken else []),
            *(run.path(f"{name}.safetensors").as_posix() for name in run.after(wildcards.network)),
        ]

    def cam_network(self, wildcards: Wildcards) -> str:
        """Return the network whose CAMs are used."""
        run = self.run(wildcards)
        return run.path(f"{run.spec.cam_network}.safetensors").as_posix()

    def viewer(self, wildcards: Wildcards) -> str:
        """Return the network that CAMs are of."""
        return self.run(wildcards).cams[wildcards.cams]

    def viewer_file(self, wildcards: Wildcards) -> str:
        """Return the file of that network."""
        return self.run(wildcards).path(f"{self.viewer(wildcards)}.safetensors").as_posix()

    def maps(self, wildcards: Wildcards) -> list[str]:
        """Return the maps that become pseudo labels, and the CAMs whose attention has to agree."""
        run = self.run(wildcards)
        params = run.settings.pseudo
        sources = _unique([params.source, *(["cam"] if params.saliency.use else [])])
        return [run.path(f"{source}.zip").as_posix() for source in sources]

    def labels(self, wildcards: Wildcards) -> list[str]:
        """Return what the segmenter learns from, if not from true masks."""
        run = self.run(wildcards)
        return [] if run.spec.learns_masks else [run.path("pseudo.zip").as_posix()]

    def scored(self, wildcards: Wildcards) -> str:
        """Return the artifact that an evaluation scores."""
        return self.run(wildcards).path(f"{scored_artifact(wildcards.what)}.zip").as_posix()

    def finished(self, wildcards: Wildcards) -> list[str]:
        """Return every evaluation of a dataset, method and protocol."""
        wanted = (wildcards.dataset, wildcards.method, wildcards.protocol)
        runs = [run for run in self.runs if (run.dataset, run.method, run.protocol) == wanted]
        return [
            run.path(f"{s}.json").as_posix()
            for run in runs
            for s in run.stages()
            if s.startswith("eval/")
        ]

    def weights_code(self, wildcards: Wildcards) -> str:
        """Return the fingerprint of the code that fetches initial weights."""
        return weights_code()

    def results_code(self) -> str:
        """Return the fingerprint of the code behind the tables and figures."""
        return fingerprint("stages.table")

    def results_inputs(self) -> list[str]:
        """Return what tables, figures and panels are made from: records, logs, labels, pictures."""
        data = [name for dataset in self.params.datasets for name in self._data_files(dataset)]
        made = [f"{WORK}/{dataset}/data.json" for dataset in self.params.datasets]
        return _unique(
            [
                "wsss/report/tables/published.yaml",
                *data,
                *made,
                *(name for run in self.runs for name in self._kept(run)),
            ]
        )

    def _kept(self, run: Run) -> Iterable[str]:
        names = {name for stage in run.stages() for name in (f"{stage}.json",)}
        shown = {
            "cam": "cam.zip",
            "pseudo": "pseudo.zip",
            "masks": "masks.zip",
            "boxes": "boxes.zip",
        }
        scored = [f"eval/{what}" for what in run.scored]
        names |= {f"{stage}.csv" for stage in (*run.trained, *scored)}
        names |= {archive for stage, archive in shown.items() if stage in run.stages()}
        yield from (run.path(name).as_posix() for name in sorted(names))
        for stage in run.trained:
            for name in initial_weights(run.settings, stage).values():
                yield initial_weights_path(name).with_suffix(".json").as_posix()

    def basis(self, workflow: Any) -> Function:
        """Return the function that asks for all that the results are made from.

        Snakemake does not remake the missing inputs of a file that is there, unless a target asks
        for them. What it knows of finished files is in its own notes, which a clone may lack, so
        records that do not match the configuration are made again too.

        workflow: Snakemake's; its graph of jobs exists when the function is called.
        """

        def files(wildcards: Wildcards) -> list[str]:
            outdated = {path.as_posix() for run in self.runs for path in stale(run)}
            workflow.dag.forcefiles.update(outdated)
            return self.results_inputs()

        return files

    def localization(self) -> list[str]:
        """Return the tables of the methods that localize, if there are such."""
        names = ("localization.csv", "localization.md")
        wanted = any(run.spec.localizes for run in self.runs)
        return [f"{RESULTS}/{name}" for name in names if wanted]

    def panels(self) -> list[tuple[str, dict[str, str]]]:
        """Return the path of every qualitative panel and its labels in the report."""
        found = []
        for run in self.runs:
            stem = f"{RESULTS}/figures/panels-{run.dataset}-{run.method}-{run.protocol}-s{run.seed}"
            labels = {
                "dataset": run.dataset,
                "method": run.method,
                "protocol": run.protocol,
                "seed": str(run.seed),
            }
            if "cam" in run.stages():
                found.append((f"{stem}.png", {**labels, "images": "training"}))
            found.append((f"{stem}-val.png", {**labels, "images": "validation"}))
        return found


def _filled(stage: str, wildcards: Wildcards) -> str:
    """Return the name of a stage with the job's network or evaluation in it."""
    return stage.format_map(
        {key: getattr(wildcards, key, "") for key in ("network", "what", "cams")}
    )


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _first(folder: str, path: str) -> str:
    """Return a search path that begins with `folder`."""
    return os.pathsep.join(
        [folder, *(other for other in path.split(os.pathsep) if other != folder)]
    )
