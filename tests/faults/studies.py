"""What a campaign runs and kills: the short study of the default tests, and the long one of `make faults`."""

from dataclasses import dataclass
from typing import Any

from checkout import RUN

from wsss.settings.base import merge

NAME = RUN.removeprefix("work/")
BROUGHT, LABELLED = "shapes/brought/common/s0", "shapes/labelled/common/s0"
EXPORTED = "exported"  # the folder of files that are imported, which no kill touches


@dataclass(frozen=True)
class Study:
    """Settings, the commands of all stages in the order of the pipeline, and which of them are killed.

    first: one of each before any twice. others: then these too. head: the target of the runs whose head
    is killed and the stage that comes after it; None: everything.
    """

    settings: dict[str, Any]
    stages: dict[str, list[str]]
    first: tuple[str, ...]
    others: tuple[str, ...]
    head: tuple[str, str] | None = None


SETTINGS = {
    "methods": ["cam"],
    "classifier": {"train": {"epochs": 20, "save_seconds": 1}},
    "segmenter": {"train": {"epochs": 4, "save_seconds": 1}},
}
SHORTER = {"classifier": {"train": {"epochs": 8}}}
COMPUTED: dict[str, list[str]] = {
    "data": ["data", "prepare", "shapes"],
    "train": ["train", NAME, "classifier"],
    "cam": ["cam", NAME, "--shard", "1-of-1"],
    "gather": ["gather", NAME, "cam"],
    "calibrate": ["calibrate", NAME, "cam"],
    "score": ["evaluate", NAME, "seed"],
    "crf": ["confident", NAME, "--processes", "2"],
    "affinity": ["affinity", NAME],
    "walk": ["walk", NAME, "--shard", "1-of-1"],
    "gather walk": ["gather", NAME, "walk"],
    "calibrate walk": ["calibrate", NAME, "walk"],
    "score walk": ["evaluate", NAME, "walk"],
    "pseudo": ["pseudo", NAME],
    "score pseudo": ["evaluate", NAME, "pseudo"],
    "segment": ["segmenter", NAME],
    "masks": ["masks", NAME, "--shard", "1-of-1"],
    "gather masks": ["gather", NAME, "masks"],
    "score masks": ["evaluate", NAME, "segmentation"],
}
TABLE = {"table": ["table"]}
SHORT = Study(
    merge(SETTINGS, SHORTER),
    COMPUTED | TABLE,
    ("train", "cam", "crf", "walk", "segment", "table"),
    ("data", "affinity", "pseudo", "masks", "score", "gather", "calibrate"),
    (f"{RUN}/eval/seed.json", "crf"),
)

# Runs that begin with the files of another program, here with those that the first run exports.
IMPORTS = {
    "methods": ["cam", "brought", "labelled"],
    "imports": {
        "brought": {"cam": f"{EXPORTED}/cams"},
        "labelled": {"pseudo": f"{EXPORTED}/pseudo", "masks": f"{EXPORTED}/masks.json"},
    },
    "overrides": {
        "frozen": {
            "method": "brought",
            "set": {"affinity": {"kind": "frozen", "backbone": "toy", "stride": 4}},
        }
    },
}
IMPORTED: dict[str, list[str]] = {
    "export cams": ["export", "cams", NAME, "--style", "npz", "--out", f"{EXPORTED}/cams"],
    "export labels": ["export", "png", NAME, "--out", f"{EXPORTED}/pseudo"],
    "export masks": ["export", "coco", NAME, "--what", "masks", "--out", f"{EXPORTED}/masks.json"],
    "import cams": ["import", BROUGHT, "cam"],
    "calibrate brought": ["calibrate", BROUGHT, "cam"],
    "score brought": ["evaluate", BROUGHT, "seed"],
    "frozen affinity": ["affinity", BROUGHT],
    "frozen walk": ["walk", BROUGHT, "--shard", "1-of-1"],
    "gather frozen walk": ["gather", BROUGHT, "walk"],
    "calibrate frozen walk": ["calibrate", BROUGHT, "walk"],
    "score frozen walk": ["evaluate", BROUGHT, "walk"],
    "pseudo brought": ["pseudo", BROUGHT],
    "score pseudo brought": ["evaluate", BROUGHT, "pseudo"],
    "segment brought": ["segmenter", BROUGHT],
    "masks brought": ["masks", BROUGHT, "--shard", "1-of-1"],
    "gather masks brought": ["gather", BROUGHT, "masks"],
    "score masks brought": ["evaluate", BROUGHT, "segmentation"],
    "import labels": ["import", LABELLED, "pseudo"],
    "import masks": ["import", LABELLED, "masks"],
    "score labels": ["evaluate", LABELLED, "pseudo"],
    "score imported masks": ["evaluate", LABELLED, "segmentation"],
}
LONG = Study(
    merge(SETTINGS, IMPORTS),
    COMPUTED | IMPORTED | TABLE,
    (*SHORT.first, "import cams", "import masks", "frozen affinity", "frozen walk"),
    (*SHORT.others, "import labels", "score imported masks"),
)
