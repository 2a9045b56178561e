"""What runs share: datasets, the archives made with them, and initial weights of backbones.

Imports neither torch nor timm.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from wsss.data.index_parts import PARTS, TRUTH, part_path
from wsss.runs.fingerprint import fingerprint
from wsss.runs.run import WORK, PlainSettings, Run, network_settings, stage_kind
from wsss.settings import ClassifierParams, Params
from wsss.settings.data import WORDS_KEYS, DatasetParams, saliency_folder
from wsss.settings.resolve import DRAWN, RunSettings

# Stage or evaluation -> the parts of the index that it reads; its record and its rule name the same.
# `classifier` stands for every network of a method's chain.
STAGE_PARTS = {
    "classifier": ("train",),
    "cam": ("train",),
    "boxes": ("val", "val_truth"),  # of images with one class
    "decode": ("val",),
    "calibrate": ("train", "train_truth"),
    "confident": ("train",),
    "affinity": ("train",),
    "walk": ("train",),
    "instances": ("train",),
    "pseudo": ("train",),
    "segmenter": ("train",),
    "masks": ("val",),
    "eval/seed": ("train", "train_truth"),
    "eval/decode": ("val", "val_truth"),
    "eval/walk": ("train", "train_truth"),
    "eval/pseudo": ("train", "train_truth"),
    "eval/segmentation": ("val", "val_truth"),
    "eval/boxes": ("val", "val_truth"),
}


def index_parts(run: Run, stage: str) -> tuple[str, ...]:
    """Return the parts of the index that a stage of a run reads."""
    if stage in run.spec.networks:
        return STAGE_PARTS["classifier"]
    if stage == "masks" and run.is_brought(stage):
        return ("val", "val_truth")  # labels, to check the order of the classes
    if stage == "segmenter" and run.spec.learns_masks:
        return ("train", "train_truth")
    return STAGE_PARTS[stage_kind(stage)]


def index_files(run: Run, stage: str) -> list[Path]:
    """Return the files of the parts of the index that a stage of a run reads."""
    return [part_path(run.index, part) for part in index_parts(run, stage)]


def stage_data(run: Run, stage: str) -> list[Path]:
    """Return the files of its dataset that a stage reads: parts of the index, and perhaps the archive.

    An archive of masks is read for the truth alone, an archive of drawn pictures by every stage.
    """
    archive = data_archive(run.params, run.dataset)
    needed = run.dataset in DRAWN or set(TRUTH) & set(index_parts(run, stage))
    return [*index_files(run, stage), *([archive] if archive and needed else [])]


def dataset_outputs(params: Params, dataset: str) -> list[Path]:
    """Return the files that the record of a dataset names: the index, its parts, and its archive."""
    index = WORK / dataset / "index.json"
    archive = data_archive(params, dataset)
    parts = [part_path(index, part) for part in PARTS]
    return [*([archive] if archive else []), index, *parts]


def manifest_path(dataset: str) -> Path:
    """Return the manifest of a dataset's raw files."""
    return WORK / dataset / "files.json"


def data_slice(params: Params, dataset: str) -> PlainSettings:
    """Return the settings that the index of `dataset`, and its pictures if drawn, depend on."""
    section = data_section(params, dataset)
    values = dict(section.model_dump(mode="json", exclude=set(WORDS_KEYS)))
    return {**values, "saliency": saliency_folder(section)}  # no index depends on a network's maps


def data_section(params: Params, dataset: str) -> DatasetParams:
    """Return the settings of a dataset."""
    section = params.data.csv.get(dataset) or getattr(params.data, dataset)
    return cast("DatasetParams", section)


def saliency_key(params: Params, dataset: str) -> str:
    """Return the key of the setting that says where the saliency maps of a dataset come from."""
    return f"data.{'csv.' if dataset in params.data.csv else ''}{dataset}.saliency"


def data_reader(dataset: str) -> str:
    """Return the module under wsss.datasets that reads or draws `dataset`."""
    modules = {
        "voc12": "voc",
        "coco14": "coco",
        "cub": "cub",
        **{name: f"drawn.{name}" for name in DRAWN},
    }
    return modules.get(dataset, "user_table")


def data_archive(params: Params, dataset: str) -> Path | None:
    """Return the archive made together with a dataset: drawn pictures, or masks from annotations."""
    if dataset in DRAWN:
        return WORK / dataset / "images.zip"
    converted = dataset == "coco14" or (dataset == "voc12" and params.data.voc12.sbd)
    return WORK / dataset / "masks.zip" if converted else None


def data_files(params: Params, dataset: str) -> list[Path]:
    """Return the files of a prepared dataset: its index and, if it has one, its archive."""
    archive = data_archive(params, dataset)
    return [WORK / dataset / "index.json", *([archive] if archive else [])]


def data_code(dataset: str) -> str:
    """Return the fingerprint of the code that prepares `dataset`."""
    return fingerprint("stages.prepare", f"datasets.{data_reader(dataset)}")


def initial_weights(settings: RunSettings, stage: str) -> dict[str, str]:
    """Return the names of a training's initial weights, by the attribute that takes them."""
    network = network_settings(settings, stage)
    names: dict[str, str | None] = {"backbone": network.initial}
    if isinstance(network, ClassifierParams) and not network.checkpoint:
        names |= {name: other.initial for name, other in network.further_backbones.items()}
    return {attribute: name for attribute, name in names.items() if name}


def initial_weights_path(name: str, work: Path = WORK) -> Path:
    """Return the file of converted initial weights. work: as `Run.work`."""
    return work / "pretrained" / f"{name}.safetensors"


def weights_code() -> str:
    """Return the fingerprint of the code that fetches initial weights."""
    return fingerprint("stages.weights", "nets.weights")
