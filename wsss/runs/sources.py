"""What each stage of a run reads of earlier stages, and whether these files are the current ones.

Imports neither torch nor timm.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from wsss.errors import ConfigError, StaleError
from wsss.runs.calibration import thresholds_path
from wsss.runs.inputs import index_files
from wsss.runs.record import Record, read_record
from wsss.runs.run import Run, scored_artifact, stage_kind
from wsss.runs.staleness import Difference, acceptable, differences
from wsss.storage.files import sha256


def sources(run: Run, stage: str) -> list[str]:
    """Return the earlier stages whose files `stage` reads itself."""
    return [*_made(run, stage), *(f"calibrate-{maps}" for maps in run.calibrated_maps(stage))]


def _made(run: Run, stage: str) -> list[str]:
    """Return the earlier stages whose maps, labels or networks `stage` reads itself."""
    if stage in run.spec.networks:
        return list(run.after(stage))
    if run.is_brought(stage):
        return []
    if stage.startswith("eval/"):
        return [scored_artifact(stage.removeprefix("eval/"))]
    cam_network, settings = str(run.spec.cam_network), run.settings
    taught = not run.spec.learns_masks and not settings.segmenter.checkpoint
    maps = dict.fromkeys(
        [settings.pseudo.source, *(["cam"] if settings.pseudo.saliency.use else [])]
    )
    return {
        "cam": [run.cams.get(stage, cam_network)],
        "boxes": [cam_network],
        "decode": [cam_network],
        "calibrate": [stage.partition("-")[2]],
        "confident": ["cam"],
        "affinity": ["confident"] if settings.affinity.is_trained else [],
        "walk": ["affinity", "cam"],
        "instances": ["affinity", "cam"],
        "pseudo": list(maps),
        "segmenter": ["pseudo"] if taught else [],
        "masks": ["segmenter"],
    }[stage_kind(stage)]


def artifact(run: Run, stage: str) -> Path:
    """Return the file that a stage writes for later stages."""
    if stage_kind(stage) == "calibrate":
        return thresholds_path(run, stage.partition("-")[2])
    is_network = stage in (*run.spec.networks, "affinity", "segmenter")
    return run.path(f"{stage}.{'safetensors' if is_network else 'zip'}")


def source_files(run: Run, stage: str) -> list[Path]:
    """Return the parts of the index and the files of earlier stages that `stage` reads itself."""
    return [*index_files(run, stage), *(artifact(run, source) for source in sources(run, stage))]


def verify_sources(run: Run, stage: str, checksums: bool = True) -> None:
    """Stop unless the files that `stage` reads are the current ones, as far as records exist.

    The settings, code, seed and inputs in the records of all stages before it must be the present ones.
    checksums: also compare the files that it reads itself with their records.

    Raises:
        ConfigError: the files of the stage are imported, so nothing computes them.
        StaleError: with the file, the difference and the command that makes the file again.
    """
    if run.is_brought(stage):
        raise ConfigError(f"{run} imports {stage}: run `{command(run, stage)}` instead.")
    for difference in differences(run, partly=True, stages=stages_before(run, stage)):
        raise StaleError(_out_of_date(run, stage, difference))
    for source in sources(run, stage) if checksums else ():
        path = artifact(run, source)
        if problem := _problem(path, run.path(f"{source}.json")):
            raise StaleError(  # Snakemake does not look into files, so it has to be forced
                f"{path} {problem}. Run `{command(run, source)}`, or `snakemake --cores 1 --force {_target(run, source)}`."
            )


def _problem(path: Path, record: Path) -> str:
    """Return what is wrong with a file of a finished stage; empty if it is as its record says."""
    if not (record.is_file() and path.is_file()):
        return ""
    written = read_record(record, Record).outputs.get(path.as_posix())
    if not written or written == sha256(path):
        return ""
    if path.suffix == ".zip" and not zipfile.is_zipfile(path):
        return "is damaged"
    return f"is not the file that {record} describes: it is damaged, or one of them is older"


def stages_before(run: Run, stage: str) -> set[str]:
    """Return all stages that `stage` depends on."""
    waiting, reached = sources(run, stage), set[str]()
    while waiting:
        source = waiting.pop()
        if source not in reached:
            reached.add(source)
            waiting += sources(run, source)
    return reached


def _out_of_date(run: Run, stage: str, difference: Difference) -> str:
    record = difference.record
    folder = next(
        (own.folder for own in (run, run.base_run) if record.is_relative_to(own.folder)), None
    )
    if folder is None:  # of the dataset or of initial weights
        way_out = _way_out(run, stage, None) + acceptable([str(difference)], f"{run} data")
        return f"{record.parent} is out of date: {difference}. {way_out}"
    source = record.relative_to(folder).with_suffix("").as_posix()
    way_out = _way_out(run, stage, source) + acceptable([str(difference)], f"{run} {source}")
    return f"{artifact(run, source)} is out of date: {difference}. {way_out}"


def _way_out(run: Run, stage: str, source: str | None) -> str:
    """Return what to do; source: the first stage to run again, None for what all runs share."""
    remake = f"`snakemake --cores 1 {_target(run, stage)}`, which remakes what {stage} needs"
    return f"Run `{command(run, source)}`, or {remake}." if source else f"Run {remake}."


def _target(run: Run, stage: str) -> Path:
    """Return the file by which Snakemake is asked for a stage."""
    return run.path(f"{stage}.json")


def command(run: Run, stage: str) -> str:
    """Return the command that runs a stage."""
    run = run.owner(stage)
    if stage in run.spec.networks:
        return f"wsss train {run} {stage}"
    if run.is_brought(stage):
        return f"wsss import {run} {stage}"
    kind = stage_kind(stage)
    if kind == "calibrate":
        return f"wsss calibrate {run} {stage.partition('-')[2]}"
    return " ".join(["wsss", kind, str(run), *([run.cams[stage]] if kind != stage else [])])
