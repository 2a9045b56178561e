"""The functions that the rules call: from wildcards to runs, settings, code, inputs and targets.

Imports neither torch nor timm: Snakemake imports this module before every job.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from wsss.errors import ConfigError
from wsss.runs import resources
from wsss.runs.acceptance import accepted_texts, noted_code
from wsss.runs.calibration import calibrated_files
from wsss.runs.containers import binds
from wsss.runs.fingerprint import fingerprint
from wsss.runs.imported_files import changed_files
from wsss.runs.inputs import (
    data_archive,
    data_code,
    data_slice,
    initial_weights,
    initial_weights_path,
    manifest_path,
    stage_data,
    weights_code,
)
from wsss.runs.outputs import results_inputs
from wsss.runs.run import SCORED_ARTIFACT, WORK, PlainSettings, Run, planned_runs, scored_artifact
from wsss.runs.saliency import SaliencyMaps, images_read, maps_of
from wsss.runs.staleness import stale
from wsss.runs.texts import text_code, text_vectors, texts_of
from wsss.settings import history, method_spec
from wsss.settings.data import SALIENCY_NETWORKS
from wsss.settings.layers import Layer
from wsss.settings.resolve import BUILT_IN, expanded, layers_text, read_layers, validate_layers
from wsss.storage.content import file_and_key
from wsss.storage.files import write_text

PARAMS_FOLDER = Path(".snakemake/wsss")


class Wildcards(Protocol):
    """The wildcards of a job; a job has only those in the paths of its rule."""

    dataset: str
    method: str
    protocol: str
    seed: str
    network: str
    what: str
    cams: str
    maps: str
    weights: str
    text: str
    saliency: str


Paths = Callable[[Wildcards], list[str]]


class Flow:
    """The plan of one merged configuration, in the words of the rules."""

    def __init__(self, config: Mapping[str, Any], files: Sequence[str | Path] = ()) -> None:
        """Merge and validate the configuration; `ConfigError` with every problem at once.

        config: what `--config` of Snakemake sets. files: parameter files, each laid over the ones
        before.
        """
        present = Path.cwd()
        paths = [Path(file) for file in files]
        self._layers = read_layers(
            [path.relative_to(present) if path.is_relative_to(present) else path for path in paths]
        )
        if config:
            self._layers += expanded(Layer("--config of Snakemake", config))
        self.params = validate_layers(self._layers, "the configuration")
        self.runs = list(planned_runs(self.params))
        self._run = functools.cache(functools.partial(Run, self.params))
        if not self.runs:
            raise ConfigError(
                "The parameters select no run: no method in `methods` has a published protocol."
            )

    def replaced(self) -> str | None:
        """Return a line on settings of the configuration that a method's own replace, if there are any.

        Those are the settings that give way in a run of the protocol `common`, or in every run. (A
        paper's own settings are what the protocol `published` is for.)
        """
        combinations = list(
            dict.fromkeys((run.dataset, run.method, run.protocol) for run in self.runs)
        )
        replaced = list(history.replaced(self._layers, self.params, combinations))
        count = Counter(setting.key for setting in replaced)
        lost = [
            setting
            for setting in replaced
            if setting.combination[2] == "common" or count[setting.key] == len(combinations)
        ]
        options = f" --params {self.save_params()}"
        return history.sentence(lost, self.runs[0].seed, options) if lost else None

    def environment(self) -> dict[str, str]:
        """Return the environment variables of every job: the settings, this Python, fixed hashes."""
        return {
            **binds(self.params),
            "WSSS_PARAMS": str(self.save_params()),
            "PATH": _first(str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)),
            "PYTHONHASHSEED": "0",
            # Let glibc keep the memory of freed tensors; allocating it anew doubles the time of networks.
            "MALLOC_MMAP_MAX_": "0",
            "MALLOC_TRIM_THRESHOLD_": str(2**32),
            "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads leave the core to other jobs
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # cuBLAS is deterministic with it
        }

    def save_params(self) -> Path:
        """Write the layers once, under a name made from their content, for the jobs to read."""
        text = layers_text(self._layers)
        path = PARAMS_FOLDER / f"params-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
        if not path.is_file():
            write_text(path, text)
        return path

    def constraints(self) -> dict[str, str]:
        """Return the pattern of each wildcard."""
        folders = self.params.methods_path
        methods = (*method_spec.methods(folders), *self.params.imports)
        specs = [self.params.spec(method) for method in methods]
        networks = {name for spec in specs for name in spec.networks}
        earlier = sorted({name for spec in specs for name in spec.scored_networks})
        return {
            "dataset": "|".join(self._datasets()),
            "method": "|".join(map(re.escape, (*methods, *self.params.all_variants))),
            "protocol": "published|common",
            "seed": r"\d+",
            "network": "|".join(sorted(networks)),
            "what": "|".join([*SCORED_ARTIFACT, *(f"seed-{name}" for name in earlier)]),
            "cams": "|".join(["cam", *(f"cam-{name}" for name in earlier)]),
            "maps": "|".join(["cam", *(f"cam-{name}" for name in earlier), "walk"]),
            "weights": "[^/]+",
            "text": "[0-9a-f]{12}",
            "saliency": "|".join(SALIENCY_NETWORKS),
        }

    def importing(self, stage: str) -> str:
        """Return the pattern of the methods whose files of a stage are imported."""
        return "|".join(map(re.escape, self._importing(stage))) or "(?!)"

    def computing(self, stage: str) -> str:
        """Return the pattern of the methods that compute a stage."""
        imported = set(self._importing(stage))
        folders = self.params.methods_path
        methods = (*method_spec.methods(folders), *self.params.imports, *self.params.all_variants)
        return "|".join(re.escape(name) for name in methods if name not in imported) or "(?!)"

    def _importing(self, stage: str) -> list[str]:
        imports = self.params.imports
        names = [name for name in imports if stage in self.params.spec(name).imported]
        return names + [v for v in self.params.all_variants if self.params.base(v) in names]

    def imported(self, stage: str, workflow: object) -> Paths:
        """Return the function that names the data of a stage whose files are imported.

        Imported files are no inputs, for there may be thousands; if they have changed since, Snakemake is
        told to import them again.
        """
        data = self.data(stage)

        def paths(wildcards: Wildcards) -> list[str]:
            run = self.run(wildcards)
            if changed_files(run, stage):
                _force(workflow, [run.path(f"{stage}.json")])
            return data(wildcards)

        return paths

    def _datasets(self) -> tuple[str, ...]:
        return (*BUILT_IN, *self.params.data.csv)

    def made_with(self, archive: str | None) -> str:
        """Return the pattern of the datasets with an archive of this name (None: without one)."""
        datasets = [
            dataset
            for dataset in self._datasets()
            if getattr(data_archive(self.params, dataset), "name", None) == archive
        ]
        return "|".join(datasets) or "(?!)"

    def run(self, wildcards: Wildcards) -> Run:
        """Return the run that a job belongs to."""
        job = wildcards
        return self._run(job.dataset, job.method, job.protocol, int(job.seed))

    def name(self, wildcards: Wildcards) -> str:
        """Return the name of a job's run, as the command line takes it."""
        return str(self.run(wildcards))

    def settings(self, stage: str) -> Callable[[Wildcards], PlainSettings]:
        """Return the function that gives a job its settings; `stage` may contain wildcards."""
        return lambda wildcards: self.run(wildcards).slice(_filled(stage, wildcards))

    def code(self, stage: str) -> Callable[[Wildcards], str]:
        """Return the function that gives a job of `stage` the fingerprint of its code."""

        def code(wildcards: Wildcards) -> str:
            run, name = self.run(wildcards), _filled(stage, wildcards)
            return noted_code(run.path(f"{name}.json"), run.code(name))

        return code

    def memory(self, stage: str | None, megabytes: int) -> Callable[[Wildcards, int], int]:
        """Return the function that gives a job its memory in MB, more at each attempt.

        stage: the stage that trains the network of the job; None means the CAM network.
        """

        def mem_mb(wildcards: Wildcards, attempt: int) -> int:
            name = _filled(stage, wildcards) if stage else None
            return resources.memory(self.run(wildcards), name, megabytes)(attempt)

        return mem_mb

    def crf_gpus(self, stage: str) -> Callable[[Wildcards], int]:
        """Return the function that gives a job of labels the number of GPUs that its CRF runs on."""
        return lambda wildcards: resources.crf_gpus(self.run(wildcards), stage)

    def check_arrays(self, arrays: str | None, jobs: int | None) -> None:
        """Stop if job arrays would hang. arrays, jobs: the options --slurm-array-jobs and --jobs."""
        resources.check_arrays(self.runs, self.params.shards, arrays, jobs)

    def data_settings(self, wildcards: Wildcards) -> PlainSettings:
        """Return the settings that a dataset depends on."""
        return data_slice(self.params, wildcards.dataset)

    def data_code(self, wildcards: Wildcards) -> str:
        """Return the fingerprint of the code that prepares a dataset."""
        dataset = wildcards.dataset
        return noted_code(WORK / dataset / "data.json", data_code(dataset))

    def data(self, stage: str) -> Paths:
        """Return the function that names the files of its dataset that a stage reads."""

        def paths(wildcards: Wildcards) -> list[str]:
            run = self.run(wildcards)
            return [path.as_posix() for path in stage_data(run, _filled(stage, wildcards))]

        return paths

    def weights(self, stage: str) -> Paths:
        """Return the function that names the files of initial weights that a training needs."""

        def path(wildcards: Wildcards) -> list[str]:
            names = initial_weights(self.run(wildcards).settings, _filled(stage, wildcards))
            return [initial_weights_path(name).as_posix() for name in names.values()]

        return path

    def text(self, wildcards: Wildcards) -> list[str]:
        """Return the file of the vectors that a network is given for the words of its dataset."""
        vectors = text_vectors(self.run(wildcards), wildcards.network)
        return [vectors.path.as_posix()] if vectors else []

    def text_settings(self, wildcards: Wildcards) -> PlainSettings:
        """Return the settings that a file of vectors of words depends on; none if no run needs it."""
        return next(
            (
                text.settings
                for text in texts_of(self.runs)
                if (text.dataset, text.digest) == (wildcards.dataset, wildcards.text)
            ),
            {},
        )

    def text_code(self, wildcards: Wildcards) -> str:
        """Return the fingerprint of the code that makes vectors of words."""
        path = WORK / wildcards.dataset / f"text-{wildcards.text}.json"
        return noted_code(path, text_code())

    def saliency(self, wildcards: Wildcards) -> list[str]:
        """Return the saliency maps of a network that pseudo labels are made with, if there are any."""
        return [maps.path.as_posix() for maps in maps_of([self.run(wildcards)], ["pseudo"])]

    def saliency_images(self, wildcards: Wildcards) -> list[str]:
        """Return the files that the saliency maps of a dataset are made from."""
        return [path.as_posix() for path in images_read(self.params, wildcards.dataset)]

    def saliency_code(self, wildcards: Wildcards) -> str:
        """Return the fingerprint of the code that makes saliency maps."""
        maps = SaliencyMaps(wildcards.dataset, wildcards.saliency)
        return noted_code(maps.record, maps.code())

    def initial_file(self, stage: str) -> Paths:
        """Return the function that names the file of weights that affinity or segmenter starts from.

        The file has initial weights, or published weights that are taken instead of training.
        """

        def path(wildcards: Wildcards) -> list[str]:
            params = getattr(self.run(wildcards).settings, stage)
            name = params.checkpoint or params.initial_file
            return [file_and_key(name)[0]] if name else []

        return path

    def before(self, wildcards: Wildcards) -> list[str]:
        """Return the networks that must be trained before a network, or its published weights."""
        run = self.run(wildcards)
        checkpoint = run.settings.networks[wildcards.network].checkpoint
        return [
            *([file_and_key(checkpoint)[0]] if checkpoint else []),
            *(run.path(f"{name}.safetensors").as_posix() for name in run.after(wildcards.network)),
        ]

    def file(self, name: str) -> Callable[[Wildcards], str]:
        """Return the function that names a file of a job's run, as `Run.path`; `name` may contain wildcards."""
        return lambda job: self.run(job).path(_filled(name, job)).as_posix()

    def cam_network(self, wildcards: Wildcards) -> str:
        """Return the file of the network whose CAMs are refined."""
        run = self.run(wildcards)
        return run.path(f"{run.spec.cam_network}.safetensors").as_posix()

    def cam_source(self, wildcards: Wildcards) -> str:
        """Return the name of the network that a stage of CAMs uses."""
        return self.run(wildcards).cams[wildcards.cams]

    def cam_source_file(self, wildcards: Wildcards) -> str:
        """Return the file of the network that a stage of CAMs uses."""
        return self.run(wildcards).path(f"{self.cam_source(wildcards)}.safetensors").as_posix()

    def thresholds(self, stage: str) -> Paths:
        """Return the function that names the files of calibrated thresholds that a stage reads."""

        def paths(wildcards: Wildcards) -> list[str]:
            files = calibrated_files(self.run(wildcards), _filled(stage, wildcards))
            return [path.as_posix() for path in files]

        return paths

    def maps(self, wildcards: Wildcards) -> list[str]:
        """Return the maps that become pseudo labels and, if saliency is used, the CAMs."""
        run = self.run(wildcards)
        params = run.settings.pseudo
        sources = dict.fromkeys([params.source, *(["cam"] if params.saliency.use else [])])
        return [run.path(f"{source}.zip").as_posix() for source in sources]

    def regions(self, wildcards: Wildcards) -> list[str]:
        """Return the masks of regions that pseudo labels are snapped to, if there are any."""
        regions = self.run(wildcards).settings.pseudo.regions
        return [regions] if regions else []

    def affinity_labels(self, wildcards: Wildcards) -> list[str]:
        """Return what the affinity network learns from; one that is not trained needs nothing."""
        run = self.run(wildcards)
        return [run.path("confident.zip").as_posix()] if run.learns_affinity else []

    def labels(self, wildcards: Wildcards) -> list[str]:
        """Return the pseudo labels that the segmenter learns from.

        True masks are in the data, and published weights need no labels.
        """
        run = self.run(wildcards)
        unused = run.spec.learns_masks or run.settings.segmenter.checkpoint
        return [] if unused else [run.path("pseudo.zip").as_posix()]

    def scored(self, wildcards: Wildcards) -> str:
        """Return the archive that an evaluation scores."""
        return self.run(wildcards).path(f"{scored_artifact(wildcards.what)}.zip").as_posix()

    def finished(self, wildcards: Wildcards) -> list[str]:
        """Return the records of all evaluations of a dataset, method and protocol."""
        job = (wildcards.dataset, wildcards.method, wildcards.protocol)
        return [
            run.path(f"eval/{what}.json").as_posix()
            for run in self.runs
            if (run.dataset, run.method, run.protocol) == job
            for what in run.scored
        ]

    def weights_code(self, wildcards: Wildcards) -> str:
        """Return the fingerprint of the code that fetches initial weights."""
        path = initial_weights_path(wildcards.weights).with_suffix(".json")
        return noted_code(path, weights_code())

    def results_inputs(self, wildcards: Wildcards) -> list[str]:  # noqa: ARG002  # there are none
        """Return all files that tables, figures and panels are made from.

        Asked for by the job of the results alone: every other job would spend time on thousands of runs.
        """
        return results_inputs(self.params, self.runs)

    def results_code(self, wildcards: Wildcards) -> str:  # noqa: ARG002  # there are none
        """Return the fingerprint of the code behind the tables and figures, and of what they mark."""
        marks = "".join(f" {text}" for run in self.runs for text in accepted_texts(run))
        return fingerprint("stages.table") + marks

    def basis(self, workflow: object) -> Paths:
        """Return the function that lists all files that the results are made from.

        Snakemake makes the missing inputs of an existing file only if a target asks for them. Its notes
        on finished files may be missing in a clone, so records that do not match the configuration are
        forced to be made again.

        workflow: Snakemake's workflow; its graph of jobs exists when the function is called.
        """

        def files(wildcards: Wildcards) -> list[str]:
            _force(workflow, stale(*self.runs))
            manifests = [manifest_path(dataset).as_posix() for dataset in self.params.datasets]
            return [*results_inputs(self.params, self.runs), *manifests]

        return files


def _force(workflow: object, paths: Iterable[Path]) -> None:
    """Let Snakemake make files again, whatever it notes of them."""
    forced = getattr(getattr(workflow, "dag", None), "forcefiles", None)
    if isinstance(forced, set):
        forced.update(path.as_posix() for path in paths)


def _filled(stage: str, wildcards: Wildcards) -> str:
    """Return `stage` with its placeholders replaced by the job's wildcards."""
    return stage.format_map(
        {key: getattr(wildcards, key, "") for key in ("network", "what", "cams", "maps")}
    )


def _first(folder: str, path: str) -> str:
    """Return the search path `path` with `folder` in front."""
    return os.pathsep.join(
        [folder, *(other for other in path.split(os.pathsep) if other != folder)]
    )
