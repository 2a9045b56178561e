"""Which jobs there are, and which of them run again after a change: dry runs alone."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkout import ROOT, RUN, Checkout
from PIL import Image

from wsss.data import labelmap
from wsss.runs.run import planned_runs
from wsss.settings import Params
from wsss.settings.base import merge
from wsss.settings.render import setting_rows
from wsss.settings.resolve import read_yaml, validate_params

PRESETS = sorted((ROOT / "params").glob("*.yaml"))

END = {"results", "all"}
SEGMENTED = {"segmenter", "masks_shard", "masks", "evaluate segmentation"} | END
PSEUDO = {"evaluate walk", "pseudo", "evaluate pseudo"} | SEGMENTED
WALKED = {"walk_shard", "walk", "calibrate walk"} | PSEUDO
SURE = {"evaluate seed", "confident", "affinity"} | WALKED
LOCALIZED = {"cam_shard", "cam", "calibrate cam"} | SURE
MASKED = SEGMENTED - {"segmenter"}
SCORED = {f"evaluate {what}" for what in ("seed", "walk", "pseudo", "segmentation")}
SHARDED = LOCALIZED  # gathered again, though to the same bytes
NOTHING: set[str] = set()

# Settings that share their consequences: (rules that run, rules among them that run for the
# method `supervised` too, {key: another value}).
CONSEQUENCES: list[tuple[str, set[str], dict[str, Any]]] = [
    ("drawing", {"draw", "train"} | LOCALIZED, {
        "data.shapes.train": 17, "data.shapes.val": 7, "data.shapes.min_px": 50,
        "data.shapes.max_px": 66, "data.shapes.seed": 1, "data.shapes.saliency": "elsewhere",
    }),
    ("other data", NOTHING, {
        "data.stamps.root": "elsewhere", "data.stamps.train": 5, "data.stamps.val": 5,
        "data.stamps.size_px": 64, "data.stamps.seed": 3, "data.stamps.backgrounds": "textures", "data.voc12.root": "elsewhere",
        "data.voc12.sbd_masks": "other", "data.voc12.sbd": "elsewhere",
        "data.coco14.root": "elsewhere",
        "data.coco14.overlap": "last", "data.coco14.images": "all", "data.coco14.seeds": "small",
        "data.cub.root": "elsewhere",
        "data.csv": {"mine": {"table": "mine.csv"}},
        "imports": {"mine": {"masks": "elsewhere"}},
    }),
    ("words, which no method of the demo is given", NOTHING, {
        "data.shapes.words": {"cat": "kitten"}, "data.shapes.background_words": ["sky"],
    }),
    ("classifier", {"train"} | LOCALIZED, {
        "classifier.stride": 16, "classifier.backbone": "resnet18",
        "classifier.checkpoint": "README.md", "classifier.auxiliary_cnn": {"backbone": "toy"},
        "classifier.second_backbone": {"backbone": "vit_toy"},
        "classifier.augment.rand_augment": 9.0,
        "classifier.augment.erase": 0.25,
    }),
    ("cam", LOCALIZED, {
        "cam.merge_at": "image", "cam.long_side_px": 64, "cam.size_multiple_rounding": "down",
        "cam.scales": [0.5], "cam.mirror": False, "cam.stride": 8, "cam.batch": 3, "cam.batch_megapixels": 3.0,
        "cam.high_res": True, "cam.normalise": "range", "cam.size_multiple": 8, "cam.square_px": 64,
        "cam.resize": "bilinear", "cam.size_rounding": "floor", "cam.mirror_merge": "max",
        "cam.clip": "last",
    }),
    ("confident", {"confident", "affinity"} | WALKED, {
        "affinity.confident.foreground": 0.55,
        "affinity.confident.background": 0.1, "affinity.confident.crf": "none",
        "affinity.confident.crf_classes": "all",
    }),
    ("affinity", {"affinity"} | WALKED, {
        "affinity.backbone": "resnet18", "affinity.stride": 8, "affinity.radius": 4,
        "affinity.channels": 16, "affinity.kind": "irn", "affinity.margin": True,
        "affinity.label_cell": "corner", "affinity.irn.edge_channels": 8, "affinity.irn.displacement_channels": 0,
        "affinity.irn.align_corners": True, "affinity.initial_file": "params.yaml",
        "affinity.checkpoint": "README.md",
    }),
    ("features of a frozen network, which AffinityNet lacks", NOTHING, {
        "affinity.frozen.layers": [0, -1], "affinity.frozen.enlarge": 1.5, "affinity.frozen.unit": 0.3, "affinity.frozen.images": 5,
        "affinity.frozen.colours": 10.0,
    }),
    ("walk", WALKED, {
        "walk.beta": 4.0, "walk.log2_steps": 2, "walk.radius": 3,
        "walk.background_value": 4.0, "walk.normalise": "image", "walk.pad_px": 64, "walk.damp": False,
    }),
    ("a background that walks", WALKED - {"calibrate walk"}, {"walk.background": "power"}),
    ("threshold", PSEUDO, {"pseudo.threshold": 0.5}),
    ("thresholds by other images", {"calibrate cam"} | SURE, {"calibration.images": 2}),
    ("published thresholds", SURE - {"calibrate walk"}, {
        "calibration.by": "none",
    }),
    ("pseudo", {"pseudo", "evaluate pseudo"} | SEGMENTED, {
        "pseudo.crf_picture": "padded", "pseudo.saliency.use": True, "pseudo.saliency.wrap_negative": True,
        "pseudo.saliency.missing_labels": "voc12", "pseudo.regions": "params", "pseudo.crf": "irn_label", "pseudo.unary": "labels", "pseudo.crf_classes": "all",
    }),
    ("pseudo labels of CAMs", {"pseudo", "evaluate pseudo"} | SEGMENTED, {
        "pseudo.source": "cam", "pseudo.par": 5,
    }),
    ("decoder, which these methods lack", NOTHING, {
        "decode.scales": [0.5], "decode.mirror": False, "decode.resize": "bilinear",
        "decode.size_rounding": "floor", "decode.merge": "max", "decode.crf": "irn_label",
        "decode.crf_picture": "bgr", "decode.batch": 3, "decode.batch_megapixels": 3.0, "decode.square_px": 64,
        "decode.square_first": True, "decode.mirror_merge": "max", "decode.long_side_px": 64,
        "decode.merge_at": "grid", "decode.mirror_first": False,
    }),
    ("segmenter", SEGMENTED, {
        "segmenter.backbone": "resnet18", "segmenter.stride": 16, "segmenter.rates": [1, 2],
        "segmenter.head": "deeplab_v1", "segmenter.msc": [0.5], "segmenter.recompute_factor": True,
        "segmenter.align_corners": True, "segmenter.loss_at": "logits",
        "segmenter.initial_file": "params.yaml", "segmenter.checkpoint": "README.md",
    }),
    ("segmenter at test", MASKED, {
        "segmenter.test.scales": [0.5], "segmenter.test.mirror": True,
        "segmenter.test.crf": "irn_label", "segmenter.test.batch": 3, "segmenter.test.batch_megapixels": 3.0,
        "segmenter.test.resize": "bicubic", "segmenter.test.size_rounding": "floor",
        "segmenter.test.merge": "max", "segmenter.test.crf_picture": "bgr",
    }),
    ("seed threshold", {"evaluate seed"} | END, {"evaluation.seed_threshold": 0.42}),
    ("maps", {"evaluate seed", "evaluate walk"} | END, {
        "evaluation.thresholds": 30, "evaluation.erode_px": 7,
    }),
    ("labels", {"evaluate pseudo", "evaluate segmentation"} | END, {
        "evaluation.unlabelled": "missed",
    }),
    ("convention", SCORED | END, {"evaluation.convention": "C"}),
    ("words for the tables", SCORED | END, {
        "affinity.extra_knowledge": "none", "classifier.extra_knowledge": "none",
        "segmenter.extra_knowledge": "none",
    }),
    ("report", END, {"report.panels": 3, "methods": ["cam"], "results": "results/other"}),
    ("gallery, which a command makes", NOTHING, {
        "report.gallery_px": 99, "report.boundary_px": 5,
    }),
    ("boxes, which no method of the demo makes", NOTHING, {
        "boxes.threshold": 0.2, "boxes.batch": 3,
    }),
    ("where CRFs run, which decides about 0.1 % of the pixels at most", NOTHING, {
        "crf.device": "cpu",
    }),
    ("another seed", {"train"} | LOCALIZED, {"seeds": [0, 1]}),
    ("shards", SHARDED, {"shards": 2}),
    ("overrides that match no run", NOTHING, {
        "overrides": {"mine": {"dataset": "stamps", "set": {"walk": {"beta": 4.0}}}},
    }),
    ("a variant of a method", {"evaluate seed"} | WALKED, {
        "variants": {"cam-beta": {"method": "cam", "grid": {"walk.beta": [4.0]}}},
    }),
    ("overrides that match", WALKED, {
        "overrides": {"mine": {"method": "cam", "set": {"walk": {"beta": 4.0}}}},
    }),
]  # fmt: skip
TRAININGS = {
    "classifier": {"train"} | LOCALIZED,
    "affinity": {"affinity"} | WALKED,
    "segmenter": SEGMENTED,
}
AUGMENT = {
    "crop_px": 32,
    "scale": [1.0, 1.0],
    "long_side_px": [48, 64],
    "mirror": False,
    "jitter": 0.1,
    "area": [0.5, 1.0],
    "scales": [0.5, 1.0],
    "size_rounding": "floor",
    "interpolation": "bicubic_plain",
    "label_cell": "corner",
    "hue": 0.1,
    "hsv": 10,
    "order": ["scale", "colour", "crop", "mirror"],
    "place": "top_left",
    "image_fill": "black",
    "label_fill": 0,
    "square_px": 40,
    "strong_views": ["image"],
    "mirror_local_view": True,
}
TRAIN = {
    "epochs": 3, "batch": 4, "accumulate": 2, "optimizer": "sgd", "lr": 0.1, "head_lr_scale": 2.0,
    "momentum": 0.5, "weight_decay": 0.1, "schedule": "cosine", "power": 0.5, "warmup": 0.2,
    "clip": 1.0, "freeze_norm": True, "precision": "bf16", "steps": 3, "head": ["*"],
    "head_bias_lr_scale": 2.0, "decay_bias": False, "frozen": ["backbone.*"], "lr_update_steps": 2,
    "schedule_extra_steps": 1, "undecayed": ["*"], "lr_first": 1e-7, "lr_last": 1e-7, "lr_delay_epochs": 1,
    "bias": ["*"], "bias_lr_scale": 2.0, "warmup_start": 0.1,
    "deterministic": True, "compile": True, "last_batch": "keep", "milestones": [2], "parts": [{"names": ["*"], "lr": 0.01}],
}  # fmt: skip
SILENT = {"workers": 1, "save_seconds": 7, "tensorboard": True}  # change no result: nothing runs
# With these the table changes too, but not in one key at a time.
ELSEWHERE = {
    "datasets",
    "protocols",
    "methods_path",
    "preset",
    "segmenter.preset",
    "affinity.confident.unary",
    "pseudo.background",  # with threshold
    "pseudo.confident",  # with crf
}
# As those of shapes.
ELSEWHERE |= {
    f"data.{dataset}.{key}"
    for dataset in ("stamps", "voc12", "coco14", "cub")
    for key in ("words", "background_words", "saliency")
}
ELSEWHERE |= {f"{section}.train.nesterov" for section in TRAININGS}
# Pictures without labels of pixels alone can be changed so.
ELSEWHERE |= {
    f"{s}.augment.{key}" for s in ("affinity", "segmenter") for key in ("rand_augment", "erase")
}
PRETRAINED = {f"{section}.weights" for section in TRAININGS}


def table() -> Iterator[tuple[str, Any, set[str]]]:
    """Yield every key with another value, and the rules that this makes run."""
    for _, rules, values in CONSEQUENCES:
        yield from ((key, value, rules) for key, value in values.items())
    for section, rules in TRAININGS.items():
        yield from ((f"{section}.augment.{key}", value, rules) for key, value in AUGMENT.items())
        yield from ((f"{section}.train.{key}", value, rules) for key, value in TRAIN.items())
        yield from ((f"{section}.train.{key}", value, NOTHING) for key, value in SILENT.items())
        backbone = {f"{section}.backbone": "resnet18", f"{section}.weights": "imagenet"}
        yield f"{section}.weights", backbone, {"weights"} | rules


def nested(key: str, value: Any) -> dict[str, Any]:
    """Return `{"a": {"b": value}}` for the key `a.b`; several keys where the value is of such."""
    if key in PRETRAINED:
        section = key.split(".")[0]
        return {section: {name.split(".")[1]: each for name, each in value.items()}}
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def rules(jobs: set[str]) -> set[str]:
    """Return the names of rules, for evaluations with what is evaluated."""
    found = set()
    for job in jobs:
        rule, _, wildcards = job.partition(" ")
        is_of_maps = rule in ("evaluate", "calibrate")
        found.add(f"{rule} {wildcards.rsplit('/', 1)[-1]}" if is_of_maps else rule)
    return found


def test_a_bare_dry_run_lists_every_job(fresh: Checkout) -> None:
    said = fresh.snakemake("--dry-run")
    counts = dict(line.split() for line in said.split("Job stats:")[1].splitlines()[3:19])
    assert counts == {
        "draw": "1", "train": "1", "cam_shard": "1", "cam": "1", "calibrate": "2", "confident": "1", "affinity": "1",
        "walk_shard": "1", "walk": "1", "pseudo": "1", "segmenter": "2", "masks_shard": "2",
        "masks": "2", "evaluate": "5", "results": "1", "all": "1",
    }  # fmt: skip


FILES = "README.md"  # any path that exists
IMPORTS = {
    "maps": {"cam": FILES},
    "labels": {"pseudo": FILES},
    "both": {"cam": FILES, "masks": FILES},
}
FROZEN = {"affinity": {"kind": "frozen", "backbone": "resnet18", "weights": "imagenet"}}
SALIENCY = {"data": {"shapes": {"saliency": "u2netp"}}, "pseudo": {"saliency": {"use": True}}}
# Plans of a folder in which nothing has been made: what is changed, what is asked for.
PLANS: dict[str, dict[str, Any]] = {
    "all": {},
    "until cam": {"until": ["cam"]},
    "until pseudo": {"until": ["pseudo"]},
    "imports": {"config": {"methods": list(IMPORTS), "imports": IMPORTS}},
    "variant of an import": {"config": {
        "methods": ["maps-crf"], "imports": IMPORTS,
        "variants": {"maps-crf": {"method": "maps", "set": {"pseudo": {"crf": "psa"}}}},
    }},
    "voc12": {"config": {"datasets": ["voc12"]}},
    "voc12 with sbd": {"config": {"datasets": ["voc12"], "data": {"voc12": {"sbd": "elsewhere"}}}},
    "coco14": {"config": {"datasets": ["coco14"]}},
    "words": {"config": {"methods": ["clip_es"], "protocols": ["published"], "seeds": [0, 1]}},
    "toy words": {"config": {"methods": ["clip_es"], "protocols": ["common"], "seeds": [0, 1]}},
    "saliency": {"config": {**SALIENCY, "seeds": [0, 1]}},
    "frozen": {"config": FROZEN},
    "frozen affinity": {"config": FROZEN, "targets": [f"{RUN}/affinity.safetensors"]},
    "method": {"targets": ["work/shapes/cam/common/done"]},
    **{
        f"published {stage}": {
            "config": {name: {"checkpoint": FILES} for name in ("affinity", "segmenter")},
            "targets": [f"{RUN}/{stage}.safetensors"],
        }
        for stage in ("affinity", "segmenter")
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def plans(fresh: Checkout) -> dict[str, set[str]]:
    """Return the jobs of each of `PLANS`."""
    return dict(zip(PLANS, fresh.planned(list(PLANS.values())), strict=True))


def stages(jobs: set[str]) -> set[str]:
    """Return the names of rules alone."""
    return {job.split()[0] for job in jobs}


def test_a_plan_can_end_after_any_stage(plans: dict[str, set[str]]) -> None:
    found = [stages(plans[f"until {stage}"]) for stage in ("cam", "pseudo")]
    assert "cam" in found[0]
    assert not found[0] & {"pseudo", "results"}
    assert {"cam", "pseudo"} <= found[1]
    assert not found[1] & {"segmenter", "results"}


def test_imported_files_are_read_instead_of_computed(plans: dict[str, set[str]]) -> None:
    rules_of = {
        name: stages({job for job in plans["imports"] if f"/{name}/" in job})
        - {"evaluate", "calibrate"}
        for name in IMPORTS
    }
    walked = {"confident", "affinity", "walk_shard", "walk", "pseudo"}
    segmented = {"segmenter", "masks_shard", "masks"}
    assert rules_of == {
        "maps": {"import_cam"} | walked | segmented,
        "labels": {"import_pseudo"} | segmented,
        "both": {"import_cam", "import_masks"} | walked,
    }
    of_variant = plans["variant of an import"]
    assert "import_cam shapes/maps/common/0" in of_variant  # its base's file
    assert stages({job for job in of_variant if "/maps/" in job}) == {
        *("import_cam", "calibrate", "confident", "affinity", "walk_shard", "walk")
    }


def test_masks_made_from_annotations_are_a_file_of_their_own(plans: dict[str, set[str]]) -> None:
    rules_of = [stages(plans[name]) for name in ("voc12", "coco14", "voc12 with sbd")]
    assert [("convert" in found, "index" in found) for found in rules_of] == [
        (False, True),
        (True, False),
        (True, False),
    ]


def test_published_weights_of_a_stage_need_the_data_alone(plans: dict[str, set[str]]) -> None:
    for stage in ("affinity", "segmenter"):
        assert stages(plans[f"published {stage}"]) == {"draw", stage}


def test_vectors_of_words_and_saliency_maps_are_made_once_for_all_seeds(
    plans: dict[str, set[str]],
) -> None:
    counts = Counter(job.split()[0] for job in plans["saliency"])
    assert (counts["saliency"], counts["pseudo"]) == (1, 2)
    for name, count in (("words", 1), ("toy words", 0)):
        rules = Counter(job.split()[0] for job in plans[name])
        assert (rules["text"], rules["weights"], rules["train"]) == (count, count, 2)


def test_a_frozen_network_needs_no_affinity_labels(plans: dict[str, set[str]]) -> None:
    rules_of = stages(plans["frozen"])
    assert {"weights", "affinity", "walk"} <= rules_of
    assert "confident" not in rules_of
    assert stages(plans["frozen affinity"]) == {"draw", "weights", "affinity"}


def test_a_method_can_be_finished_alone(plans: dict[str, set[str]]) -> None:
    jobs = plans["method"]
    assert {"done", "train", "evaluate"} <= stages(jobs)
    assert not any("supervised" in job or "results" in job for job in jobs)


def fetched(checkout: Checkout, preset: dict[str, Any]) -> set[str]:
    """Return the files of weights that the user of a preset has to fetch."""
    params = validate_params(merge(read_yaml(checkout.folder / "params.yaml"), preset))
    settings = [run.settings for run in planned_runs(params)]
    begun = [part.initial_file for own in settings for part in (own.affinity, own.segmenter)]
    return {name for name in begun if name}


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=() if p.stem == "stamps" else pytest.mark.slow) for p in PRESETS],
    ids=lambda path: path.stem,
)
def test_every_preset_has_a_plan(fresh: Checkout, tmp_path: Path, path: Path) -> None:
    preset = read_yaml(path)
    own = fresh.copy(tmp_path / "repository")
    for name in fetched(own, preset):
        (own.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (own.folder / name).touch()
    [jobs] = own.dry(preset)
    rules_of = stages(jobs)
    assert "train" in rules_of
    assert rules_of & {"cam", "boxes"}


@pytest.mark.slow
def test_a_plan_that_lacks_files_names_all_of_them(fresh: Checkout, tmp_path: Path) -> None:
    own = fresh.copy(tmp_path / "repository")

    def told(*arguments: str, status: int) -> str:
        command = ("snakemake", "--cores", "1", "--configfile", "params/voc12.yaml")
        done = own.call(*command, *arguments, status=status)
        return done.stdout + done.stderr

    refused = told("--dry-run", status=1)
    count, methods = 6, "clip_es, weclip, weclip_plus, excel, supervised"
    # Without open_clip the vectors of words are a file that has to be brought.
    if find_spec("open_clip") is None:
        count, methods = 7, "supervised"
    assert f"WorkflowError:\n{count} files are missing that the plan needs:" in refused
    assert "data/pretrained/deeplabv1_resnet101-coco.pth (crt, pcsformer under" in refused
    assert f"  methods: [cam, toco, seco, cpdgl, {methods}]" in refused
    assert "MissingInputException" not in refused
    planned = told("--dry-run", "--", "work/voc12/cam/common/s0/cam.zip", status=0)
    assert "2 files are missing that the plan needs:" in planned
    assert "cam_shard" in planned
    assert "2 files are missing" in told("--", "work/voc12/index.json", status=1)


@pytest.mark.slow
def test_a_changed_import_is_made_again_and_so_is_what_depends_on_it(mine: Checkout) -> None:
    run = "shapes/brought/common/s0"
    mine.call("wsss", "export", "png", RUN, "--what", "masks", "--out", "brought")
    imports = {"imports": {"brought": {"masks": "brought"}}, "methods": ["cam", "brought"]}
    mine.set(imports)
    mine.call("wsss", "import", run)
    mine.call("snakemake", "--touch", f"work/{run}/masks.json")
    [unchanged] = mine.dry({}, targets=[f"work/{run}/masks.json"])
    assert unchanged == set()
    [image, *_] = sorted((mine.folder / "brought").iterdir())
    labels = np.array(Image.open(image))
    image.write_bytes(labelmap.encode(np.where(labels, 0, 1)))
    for target in (f"work/{run}/masks.json", "all"):
        [changed] = mine.dry({}, targets=[target])
        assert "import_masks shapes/brought/common/0" in changed


@pytest.mark.slow
def test_a_setting_that_a_method_replaces_is_named(fresh: Checkout) -> None:
    command = ("snakemake", "--cores", "1", "--dry-run", "--quiet", "all", "--config")
    told = fresh.call(*command, "methods=[mctformer]", "cam={normalise: max}").stderr
    assert "cam.normalise (--config of Snakemake) in shapes/mctformer/common" in told
    assert "give way" not in fresh.call(*command, "methods=[cam]", "cam={normalise: max}").stderr


def test_a_second_run_does_nothing(made: Checkout) -> None:
    assert "Nothing to be done" in made.snakemake()


MISSING = {
    "eval/walk.csv": {"evaluate walk"} | END,
    "classifier.json": {"train"} | LOCALIZED,
}
STALE: dict[str, tuple[dict[str, Any], set[str]]] = {
    "eval/seed.json": ({"code": "0123456789abcdef"}, {"evaluate seed"} | END),
    "walk.json": ({"params": {}}, WALKED),
    "segmenter.json": ({"inputs": {f"{RUN}/pseudo.zip": "0" * 64}}, SEGMENTED),
}


def without_work(copy: Checkout) -> None:
    shutil.rmtree(copy.folder / "work")
    shutil.rmtree(copy.folder / ".snakemake/metadata")


def without(name: str, copy: Checkout) -> None:
    (copy.folder / RUN / name).unlink()


def stale(name: str, copy: Checkout) -> None:
    path = copy.folder / RUN / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **STALE[name][0]}))


def damaged_without_notes(copy: Checkout) -> None:
    shutil.rmtree(copy.folder / ".snakemake/metadata")
    (copy.folder / RUN / "eval/walk.json").write_text("{")


CHANGES: dict[str, Callable[[Checkout], None]] = {
    "no work": without_work,
    "damaged": damaged_without_notes,
    **{f"without {name}": partial(without, name) for name in MISSING},
    **{f"stale {name}": partial(stale, name) for name in STALE},
}


@pytest.fixture(scope="module")
def after(
    made: Checkout, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, set[str]]]:
    """Yield the jobs that would run after each change of a finished run's files."""
    base = tmp_path_factory.mktemp("changed")
    copies = [made.copy(base / f"{number}") for number in range(len(CHANGES))]
    for copy, change in zip(copies, CHANGES.values(), strict=True):
        change(copy)
    jobs = made.dry_in([copy.folder for copy in copies])
    yield dict(zip(CHANGES, jobs, strict=True))
    shutil.rmtree(base)


def test_results_without_what_they_rest_on_are_made_again(
    after: dict[str, set[str]], plans: dict[str, set[str]]
) -> None:
    assert after["no work"] == plans["all"]


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_file_that_the_table_rests_on_is_made_again(
    after: dict[str, set[str]], name: str
) -> None:
    jobs = after[f"without {name}"]
    assert rules(jobs) == MISSING[name]
    assert not any("supervised" in job for job in jobs)


@pytest.mark.parametrize("name", STALE)
def test_a_record_that_does_not_match_is_made_again(after: dict[str, set[str]], name: str) -> None:
    jobs = after[f"stale {name}"]
    assert rules(jobs) == STALE[name][1]
    assert not any("supervised" in job for job in jobs)


def test_a_damaged_record_is_made_again_though_snakemake_has_no_notes(
    after: dict[str, set[str]],
) -> None:
    assert rules(after["damaged"]) == {"evaluate walk"} | END


def test_the_table_of_consequences_names_every_key() -> None:
    known = {key for key, _, kind, _ in setting_rows(Params) if kind != "section"}
    assert {key for key, _, _ in table()} == known - ELSEWHERE


def wrong_plans(made: Checkout, rows: list[tuple[str, Any, set[str]]]) -> dict[str, str]:
    """Return the keys whose change plans other rules than the table says."""
    planned = made.dry(*(nested(key, value) for key, value, _ in rows))
    return {
        key: f"ran in addition {sorted(rules(jobs) - expected)}, not {sorted(expected - rules(jobs))}"
        for (key, _, expected), jobs in zip(rows, planned, strict=True)
        if rules(jobs) != expected
    }


def one_of_each() -> list[tuple[str, Any, set[str]]]:
    """Return a row of the table for each section and each set of rules that it runs."""
    return list({(row[0].rpartition(".")[0], *sorted(row[2])): row for row in table()}.values())


def test_a_changed_setting_runs_what_depends_on_it_and_nothing_else(made: Checkout) -> None:
    assert not wrong_plans(made, one_of_each())


@pytest.mark.slow
def test_every_other_setting_runs_what_depends_on_it_and_nothing_else(made: Checkout) -> None:
    tried = {key for key, _, _ in one_of_each()}
    assert not wrong_plans(made, [row for row in table() if row[0] not in tried])


def test_a_setting_of_one_method_leaves_the_others_alone(made: Checkout) -> None:
    override = {"method": "supervised", "set": {"segmenter": {"train": {"lr": 0.01}}}}
    [jobs] = made.dry({"overrides": {"mine": override}})
    assert {job.split()[1].split("/")[1] for job in jobs if " " in job} == {"supervised"}


def test_a_wrong_configuration_is_one_clear_line(fresh: Checkout) -> None:
    arguments = ("--dry-run", "--config", "classifer={stride: 8}", "walk={beta: -1}")
    said = fresh.snakemake(*arguments, status=1)
    assert "Traceback" not in said
    [line] = [line for line in said.splitlines() if "problem" in line]
    assert "unknown key classifer; did you mean 'classifier'?" in line
    assert "walk.beta: Input should be greater than 0 (got '-1')" in line


def test_a_method_without_published_settings_alone_is_refused(fresh: Checkout) -> None:
    arguments = ("--config", "methods=[supervised]", "protocols=[published]")
    assert "select no run" in fresh.snakemake("--dry-run", *arguments, status=1)
