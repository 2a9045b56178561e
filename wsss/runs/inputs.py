"""What runs share: datasets, the archives made with them, and initial weights of backbones.

Imports neither torch nor timm.
"""

from __future__ import annotations

from pathlib import Path

from wsss.runs.fingerprint import fingerprint
from wsss.runs.run import WORK, PlainSettings, network_settings
from wsss.settings import ClassifierParams, Params
from wsss.settings.resolve import DRAWN, RunSettings


def data_slice(params: Params, dataset: str) -> PlainSettings:
    """Return the settings that the index of `dataset`, and its pictures if drawn, depend on."""
    section = params.data.csv.get(dataset) or getattr(params.data, dataset)
    return dict(section.model_dump(mode="json"))


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
    if isinstance(network, ClassifierParams) and network.auxiliary_cnn and not network.checkpoint:
        names["auxiliary_cnn"] = network.auxiliary_cnn.initial
    return {attribute: name for attribute, name in names.items() if name}


def initial_weights_path(name: str) -> Path:
    """Return the file of converted initial weights."""
    return WORK / "pretrained" / f"{name}.safetensors"


def weights_code() -> str:
    """Return the fingerprint of the code that fetches initial weights."""
    return fingerprint("stages.weights", "nets.weights")
