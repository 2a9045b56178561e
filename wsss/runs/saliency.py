"""The saliency maps that a network makes for a dataset: which runs read them, and their archive.

Imports neither torch nor timm: Snakemake imports this module before every job.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from wsss.runs.fingerprint import fingerprint
from wsss.runs.inputs import data_archive, data_section
from wsss.runs.run import WORK, PlainSettings, Run
from wsss.settings import Params
from wsss.settings.data import saliency_network
from wsss.settings.resolve import DRAWN


@dataclass(frozen=True)
class SaliencyMaps:
    """The archive of a dataset's maps, one grey PNG per training image, by the network that makes them.

    work: the folder of all datasets.
    """

    kind: ClassVar[str] = "saliency"

    dataset: str
    network: str
    work: Path = WORK

    @property
    def name(self) -> str:
        """What tells the file from others of the dataset."""
        return self.network

    @property
    def settings(self) -> PlainSettings:
        """The settings that the maps depend on, for records."""
        return {"network": self.network}

    @property
    def path(self) -> Path:
        """The archive."""
        return self.work / self.dataset / f"saliency-{self.network}.zip"

    @property
    def record(self) -> Path:
        """The record of the archive."""
        return self.path.with_suffix(".json")

    def code(self) -> str:
        """Return the fingerprint of the code that makes the maps."""
        return fingerprint("stages.saliency")

    def map_of(self, image: str) -> str:
        """Return the path of an image's map."""
        return f"{self.path.as_posix()}/{image}.png"


def saliency_maps(run: Run) -> SaliencyMaps | None:
    """Return the maps of a network that the pseudo labels of a run are made with, if there are any."""
    network = saliency_network(data_section(run.params, run.dataset))
    if not (network and run.settings.pseudo.saliency.use):
        return None
    return SaliencyMaps(run.dataset, network, run.work)


def maps_of(runs: Iterable[Run], stages: Collection[str] | None = None) -> list[SaliencyMaps]:
    """Return the maps that stages of runs read, each archive once; stages: by default all."""
    reading = (
        run
        for run in runs
        if "pseudo" in (run.stages() if stages is None else stages) and not run.is_brought("pseudo")
    )
    return list(dict.fromkeys(maps for run in reading if (maps := saliency_maps(run))))


def images_read(params: Params, dataset: str) -> list[Path]:
    """Return the files that maps of a dataset are made from: the index and pictures that were drawn."""
    archive = data_archive(params, dataset) if dataset in DRAWN else None
    index = WORK / dataset / "index" / "train.json"
    return [index, *([archive] if archive else [])]
