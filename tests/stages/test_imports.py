"""Files of another program become stages of a run, are checked, and are noticed when they change."""

import os
import pickle
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import made_datasets
import numpy as np
import pytest
import torch
import yaml
from answer import wsss
from made_data import SIDE
from made_run import make_dataset, make_run, make_stages, noisy
from pages import blocks
from PIL import Image

from wsss.data import labelmap
from wsss.data.images import load_mask
from wsss.data.index import Entry, Index, load_index
from wsss.data.manifest import Manifest, Sources, save_manifest
from wsss.datasets.voc import CLASSES
from wsss.export.cams import cams as export_cams
from wsss.export.labels import coco, pngs
from wsss.report.tables.rows import read, table_rows
from wsss.runs import staleness
from wsss.runs.dvc_file import dvc_text
from wsss.runs.imported_files import imported_manifest
from wsss.runs.knowledge import UNKNOWN
from wsss.runs.missing import Plan, missing_files
from wsss.runs.recorded import recorded_run
from wsss.runs.run import Run
from wsss.runs.verification import run_mismatches
from wsss.settings.resolve import load_params, validate_params
from wsss.stages.calibrate import calibrate
from wsss.stages.evaluate import evaluate
from wsss.stages.imports import import_files
from wsss.stages.refresh import refresh
from wsss.stages.table import write_results
from wsss.storage.archive import Reader
from wsss.storage.cam_archive import Cam, CamReader
from wsss.storage.files import read_json

NAMES = ("red", "green", "blue")
RUN = "shapes/psa/common/s0"
Import = Callable[..., Run]


@pytest.fixture
def named(squares: Index) -> Index:
    """Return the squares with the names of their classes."""
    return replace(squares, dataset="shapes")


@pytest.fixture
def bring(squares: Index, work: Path) -> Import:
    """Return the function that makes a run of an import with these settings, with its dataset."""

    def run_of(**settings: object) -> Run:
        content = {"methods": ["cam", "psa"], "imports": {"psa": settings}}
        (work / "params.yaml").write_text(yaml.safe_dump(content))
        params = validate_params(content)
        make_dataset(squares, "shapes", params, NAMES)
        return Run(params, "shapes", "psa", "common", 0)

    return run_of


def maps_of(run: Run, entry: Entry, index: Index) -> Cam:
    return noisy(run, "cam", entry, index)


def write_psa(run: Run, index: Index, folder: Path, first: int = 0, scale: float = 1) -> None:
    """Write the maps of all training images as PSA does: {class: map}. first: number of the first."""
    folder.mkdir(exist_ok=True)
    for entry in index.training():
        cam = maps_of(run, entry, index)
        maps = zip((cam.labels + first).tolist(), cam.full() * scale, strict=True)
        np.save(folder / f"{entry.name}.npy", dict(maps))  # type: ignore[arg-type]


def test_dictionaries_of_psa_become_a_scored_row(bring: Import, named: Index) -> None:
    run = bring(cam="npy", knowledge="CLIP", title="PSA")
    write_psa(run, named, Path("npy"))
    assert wsss("import", RUN).out == f"{RUN} cam: 24 files of npy, 24 images\n"
    archive = CamReader(run.path("cam.zip"))
    for entry in named.training():
        expected = maps_of(run, entry, named)
        assert archive[entry.name].labels.tolist() == expected.labels.tolist()
        np.testing.assert_allclose(
            archive[entry.name].full(), expected.full(), atol=1e-3
        )  # float16
    record = read_json(run.path("cam.json"))["imported"]
    assert (record["files"], record["knowledge"], record["source"]) == (24, "CLIP", "npy")
    assert len(record["digest"]) == 64
    calibrate(run, "cam")
    evaluate(run, "seed")
    (row,) = table_rows([read(run.path("eval/seed.json"), run.params)])
    assert (row.title, row.extra, row.is_below, row.networks) == (
        "PSA",
        "CLIP",
        True,
        "cam: imported",
    )
    assert (row.parameters, row.threshold_choice, row.scales) == (None, "calibrated", "")
    assert row.miou > 0.6


def test_what_nobody_says_of_knowledge_is_unknown_and_none_is_above_the_line(
    bring: Import, named: Index
) -> None:
    for words, extra, below in ((None, UNKNOWN, True), ("none", "none", False)):
        run = bring(cam="npy", **({"knowledge": words} if words else {}))
        write_psa(run, named, Path("npy"))
        list(import_files(run))
        calibrate(run, "cam")
        evaluate(run, "seed")
        (row,) = table_rows([read(run.path("eval/seed.json"), run.params)])
        assert (row.extra, row.is_below) == (extra, below)


def test_the_stages_that_are_given_replace_those_before_them(bring: Import) -> None:
    def stages(**settings: str) -> str:
        names = (name for name in bring(**settings).stages() if not name.startswith("calibrate"))
        return " ".join(names)

    walked = "confident affinity walk eval/walk"
    segmented = "segmenter masks eval/segmentation"
    labelled = "pseudo eval/pseudo"
    assert stages(cam="x") == f"cam eval/seed {walked} {labelled} {segmented}"
    assert stages(pseudo="x") == f"{labelled} {segmented}"
    assert stages(masks="x") == stages(logits="x") == "masks eval/segmentation"
    assert stages(cam="x", pseudo="y") == f"cam eval/seed {labelled} {segmented}"
    assert stages(pseudo="x", masks="y") == f"{labelled} masks eval/segmentation"


def write_irn(run: Run, index: Index, folder: Path, low: bool = True) -> None:
    """Write the maps of all training images as IRNet does, with a tensor and perhaps maps of cells."""
    folder.mkdir(exist_ok=True)
    for entry in index.training():
        cam = maps_of(run, entry, index)
        content = {
            "keys": torch.from_numpy(cam.labels.astype(np.int64)),
            "high_res": cam.full() ** 2,
        }
        content |= {"cam": torch.from_numpy(cam.cam.astype(np.float32))} if low else {}
        np.save(folder / f"{entry.name}.npy", content)  # type: ignore[arg-type]


def test_dictionaries_of_irnet_keep_their_two_sets_of_maps(bring: Import, named: Index) -> None:
    run = bring(cam="irn")
    write_irn(run, named, Path("irn"))
    list(import_files(run))
    for entry in named.training():
        cam, expected = CamReader(run.path("cam.zip"))[entry.name], maps_of(run, entry, named)
        assert cam.stride == 4
        assert (cam.cam == expected.cam).all()
        np.testing.assert_allclose(cam.full(), expected.full() ** 2, atol=1e-3)


def test_grey_pictures_and_arrays_are_read_as_maps(bring: Import, named: Index) -> None:
    run = bring(cam="maps")
    Path("maps").mkdir()
    for kind in ("png", "npz"):
        for entry in named.training():
            cam = maps_of(run, entry, named)
            for number, scores in zip(cam.labels.tolist(), cam.full(), strict=True):
                if kind == "png":
                    picture = Image.fromarray((scores * 65535).round().astype(np.uint16))
                    picture.save(f"maps/{entry.name}_{named.classes[number]}.png")
            if kind == "npz":
                numbers = map(str, cam.labels.tolist())
                arrays = dict(zip(numbers, cam.full(), strict=True))
                np.savez(f"maps/{entry.name}.npz", **arrays)  # type: ignore[arg-type]
        list(import_files(run))
        for entry in named.training():
            expected = maps_of(run, entry, named).full()
            archive = CamReader(run.path("cam.zip"))
            np.testing.assert_allclose(archive[entry.name].full(), expected, atol=1e-3)
        for path in Path("maps").glob("*.png"):
            path.unlink()


@pytest.mark.parametrize(("style", "what"), [("npz", "cam"), ("npz", "walk"), ("irn", "cam")])
def test_maps_that_were_exported_come_back_with_the_same_bytes(
    bring: Import, named: Index, style: str, what: str
) -> None:
    run = bring(cam="out")
    source = Run(run.params, "shapes", "cam", "common", 0)
    make_stages(source, named, [what])
    export_cams(source, style, Path("out"), what)
    list(import_files(run))
    assert run.path("cam.zip").read_bytes() == source.path(f"{what}.zip").read_bytes()


def test_dictionaries_of_psa_come_back_with_the_same_bytes(bring: Import, named: Index) -> None:
    run = bring(cam="npy")
    write_psa(run, named, Path("npy"))
    list(import_files(run))
    first = run.path("cam.zip").read_bytes()
    export_cams(run, "psa", Path("out"))
    again = bring(cam="out")
    list(import_files(again))
    assert again.path("cam.zip").read_bytes() == first


@pytest.mark.parametrize("form", ["png", "json"])
@pytest.mark.parametrize("what", ["pseudo", "masks"])
def test_labels_that_were_exported_come_back_with_the_same_bytes(
    bring: Import, named: Index, what: str, form: str
) -> None:
    pytest.importorskip("pycocotools")
    target = Path("out.json" if form == "json" else "out")
    run = bring(**{what: str(target)})
    source = Run(run.params, "shapes", "cam", "common", 0)
    make_stages(source, named, [what])
    (coco if form == "json" else pngs)(source, what, target)
    assert wsss("import", RUN).code == 0
    assert run.path(f"{what}.zip").read_bytes() == source.path(f"{what}.zip").read_bytes()


def test_pixels_without_a_label_survive_the_format_of_coco(bring: Import, named: Index) -> None:
    pytest.importorskip("pycocotools")
    run = bring(pseudo="labels", missing="blank")
    Path("labels").mkdir()
    for entry in named.training()[1:]:
        labels = load_mask(str(entry.mask))
        labels[:9] = labelmap.IGNORE
        Path(f"labels/{entry.name}.png").write_bytes(labelmap.encode(labels))
    list(import_files(run))
    expected = run.path("pseudo.zip").read_bytes()
    coco(run, "pseudo", Path("labels.json"))
    again = bring(pseudo="labels.json")
    list(import_files(again))
    assert again.path("pseudo.zip").read_bytes() == expected


def test_an_export_of_seeds_is_imported_as_pseudo_labels_of_the_same_score(
    bring: Import, named: Index
) -> None:
    run = bring(pseudo="seeds", knowledge="none")
    source = Run(run.params, "shapes", "cam", "common", 0)
    make_stages(source, named, ["cam", "calibrate-cam", "eval/seed"])
    assert wsss("export", "png", str(source), "--what", "seed", "--out", "seeds").code == 0
    list(import_files(run))
    evaluate(run, "pseudo")
    seeds, labels = (
        read(path, run.params).evaluation
        for path in (source.path("eval/seed.json"), run.path("eval/pseudo.json"))
    )
    assert seeds.miou == labels.miou
    assert (labels.protocol.threshold_choice, labels.protocol.threshold) == ("none", None)
    assert labels.protocol.crf == UNKNOWN


def write_logits(index: Index, folder: Path, order: list[int], cell: int = 1) -> None:
    """Write scores (1 + classes, h, w) of the validation images. order: label of each map."""
    folder.mkdir(exist_ok=True)
    for entry in index.split("val"):
        truth = load_mask(str(entry.mask))[::cell, ::cell]
        np.save(folder / f"{entry.name}.npy", np.stack([(truth == k) * 5.0 for k in order]))


def test_logits_become_masks_in_the_order_of_their_classes(bring: Import, named: Index) -> None:
    run = bring(logits="scores", classes=["blue", "red", "green"])
    write_logits(named, Path("scores"), [0, 3, 1, 2])
    list(import_files(run))
    evaluate(run, "segmentation")
    evaluation = read(run.path("eval/segmentation.json"), run.params).evaluation
    assert evaluation.miou == 1
    assert evaluation.protocol.crf == run.settings.segmenter.test.crf
    write_logits(named, Path("scores"), [0, 3, 1, 2], cell=2)
    wsss("import", RUN).refuses(
        "6 images have scores of another shape (the first: val000, 24 x 24 for 48 x 48). Set "
        "imports.psa.resize: true to stretch them."
    )
    list(import_files(bring(logits="scores", classes=["blue", "red", "green"], resize=True)))


def test_names_are_checked_with_one_line(bring: Import, named: Index) -> None:
    run = bring(cam="npy")
    write_psa(run, named, Path("npy"))
    Path("npy/other.npy").write_bytes(Path("npy/train000.npy").read_bytes())
    assert (
        "npy has 1 file of no such image, left out (the first is 'other')"
        in wsss("import", RUN).err
    )
    for number in (3, 5):
        Path(f"npy/train{number:03d}.npy").unlink()
    wsss("import", RUN).refuses(
        "npy has no file for 2 of 24 images (the first is 'train003'; a file is called 'other'). Complete them, or set "
        "imports.psa.missing: blank."
    )
    run = bring(cam="npy", missing="blank")
    answer = wsss("import", RUN)
    assert "2 of 24 images have no file in npy (the first is 'train003')" in answer.err
    assert len(CamReader(run.path("cam.zip"))["train003"].labels) == 0
    for path in Path("npy").glob("train*.npy"):
        path.rename(path.with_name(f"x{path.name}"))
    wsss("import", RUN).refuses("a file is called 'other'")
    bring(cam="nowhere")
    wsss("import", RUN).refuses("nowhere does not exist. Correct imports.psa.cam.")


def test_shapes_and_ranges_are_checked_and_mended(bring: Import, named: Index) -> None:
    run = bring(cam="npy")
    write_psa(run, named, Path("npy"), scale=3)
    wsss("import", RUN).refuses("24 images have scores outside [0, 1]")
    scaled = bring(cam="npy", normalise="max")
    list(import_files(scaled))
    assert CamReader(scaled.path("cam.zip"))["train000"].full().max() == 1
    for entry in named.training():
        cells = maps_of(run, entry, named).cam.astype(np.float32)[:, :7, :7]
        labels = maps_of(run, entry, named).labels.tolist()
        np.save(f"npy/{entry.name}.npy", dict(zip(labels, cells, strict=True)))  # type: ignore[arg-type]
    bring(cam="npy")
    wsss("import", RUN).refuses(
        "24 images have maps of another shape than their image or its cells"
    )
    stretched = bring(cam="npy", resize=True)
    list(import_files(stretched))
    assert CamReader(stretched.path("cam.zip"))["train001"].full().shape[1:] == (48, 64)


def test_numbers_from_1_and_another_order_are_noticed(bring: Import, named: Index) -> None:
    run = bring(cam="npy")
    write_psa(run, named, Path("npy"), first=1)
    wsss("import", RUN).refuses("Classes are numbered from 0, without background")
    write_psa(run, replace(named, classes=("green", "red", "blue")), Path("npy"))
    wsss("import", RUN).refuses(
        "Set imports.psa.classes to the order in which they number the classes."
    )
    mended = bring(cam="npy", classes=["green", "red", "blue"])
    list(import_files(mended))
    for what in ("pseudo", "masks"):
        run = bring(**{what: "labels"})
        Path("labels").mkdir(exist_ok=True)
        for entry in named.images:
            truth = load_mask(str(entry.mask))
            turned = np.array([0, 2, 1, 3])[truth]
            Path(f"labels/{entry.name}.png").write_bytes(labelmap.encode(turned))
        wsss("import", RUN).refuses("Set imports.psa.classes: [green, red, blue]")
        mended = bring(**{what: "labels"}, classes=["green", "red", "blue"])
        list(import_files(mended))
        evaluate(mended, "pseudo" if what == "pseudo" else "segmentation")


def test_values_sizes_and_colours_of_labels_are_counted(bring: Import, named: Index) -> None:
    bring(pseudo="labels")
    Path("labels").mkdir()
    for entry in named.training():
        Path(f"labels/{entry.name}.png").write_bytes(
            labelmap.encode(np.zeros(entry.size, np.uint8))
        )
    Path("labels/train000.png").write_bytes(labelmap.encode(np.full((48, 48), 9, np.uint8)))
    Path("labels/train002.png").write_bytes(labelmap.encode(np.zeros((5, 5), np.uint8)))
    Image.new("RGB", (48, 48)).save("labels/train004.png")
    answer = wsss("import", RUN)
    answer.refuses("1 image has values that are no class (the first: train000, 9)")
    assert "another size (the first: train002, 5 x 5 for 48 x 48)" in answer.err
    assert (
        "1 file cannot be read (the first: The mask labels/train004.png has colours" in answer.err
    )


class Hostile:
    """An object whose pickle makes a folder when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("pwned",)


def test_nothing_in_a_pickle_is_run(bring: Import, named: Index) -> None:
    run = bring(cam="npy")
    write_psa(run, named, Path("npy"))
    np.save("npy/train000.npy", {0: Hostile()})  # type: ignore[arg-type]
    answer = wsss("import", RUN)
    answer.refuses("npy/train000.npy holds more than arrays (posix.mkdir) and was refused")
    assert not Path("pwned").exists()
    content = pickle.dumps({0: np.zeros((48, 48))})
    Path("npy/train000.npy").write_bytes(content)
    wsss("import", RUN).refuses("npy/train000.npy is not a whole .npy file")


def test_files_that_change_are_noticed(bring: Import, named: Index) -> None:
    run = bring(cam="npy")
    write_psa(run, named, Path("npy"))
    list(import_files(run))
    assert list(staleness.differences(run, partly=True)) == []
    np.save("npy/train007.npy", {0: np.ones((48, 48), np.float32)})  # type: ignore[arg-type]
    texts = [str(difference) for difference in staleness.differences(run, partly=True)]
    assert texts == [f"{run} cam: 1 raw file has changed (npy/train007.npy)"]
    assert staleness.stale(run) == {run.path("cam.json")}
    assert list(refresh(run.params)) == [f"{texts[0]}: imported again"]
    Path("npy").rename("elsewhere")  # as in a clone, where nothing can be compared
    assert list(staleness.differences(run, partly=True)) == []


def test_an_import_has_a_name_of_its_own_and_files(work: Path) -> None:
    for content, message in (
        ({"imports": {"cam": {"cam": "x"}}}, "imports.cam: this name is taken by a method"),
        ({"imports": {"a/b": {"cam": "x"}}}, "use letters, digits"),
        ({"imports": {"mine": {}}}, "name files with one of cam, pseudo, masks, logits"),
        ({"methods": ["mine"]}, "methods: 'mine' is not one of"),
    ):
        (work / "params.yaml").write_text(yaml.safe_dump(content))
        wsss("params").refuses(message)
    (work / "params.yaml").write_text("")
    wsss("import", "shapes/cam/common/s0").refuses(
        "imports nothing. Describe files of another program"
    )


def test_labels_of_the_archive_are_those_of_the_files(bring: Import, named: Index) -> None:
    run = bring(masks="labels")
    Path("labels").mkdir()
    for entry in named.split("val"):
        Image.fromarray(load_mask(str(entry.mask))).save(f"labels/{entry.name}.png")  # grey
    list(import_files(run))
    evaluate(run, "segmentation")
    evaluation = read(run.path("eval/segmentation.json"), run.params).evaluation
    assert (evaluation.miou, evaluation.protocol.crf) == (1, UNKNOWN)
    content = Reader(run.path("masks.zip")).read("val000.png")
    assert content == labelmap.encode(load_mask(str(named.split("val")[0].mask)))


def test_the_page_leads_from_dictionaries_to_a_row_and_back(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings, _) = blocks("docs/import.md", "yaml")
    score, _, export = blocks("docs/import.md", "sh")
    images = made_datasets.every_class()
    made_datasets.voc(work / "data/VOCdevkit/VOC2012", images)
    (work / "mine.yaml").write_text(settings)
    (work / "params.yaml").write_text("calibration: {images: 1}\n")
    (work / "psa_cams").mkdir()
    for name, (_, objects, _) in images.items():
        maps = {CLASSES.index(label): np.zeros((SIDE, SIDE), np.float32) for label in objects}
        for column, label in enumerate(objects):
            maps[CLASSES.index(label)][:, column] = 1
        np.save(f"psa_cams/{name}.npy", maps)  # type: ignore[arg-type]
    said = typed(score, monkeypatch)
    (row,) = [line for line in said.splitlines() if "| my CAMs |" in line]
    assert " 100.0 " in row
    run = Run(load_params([Path("params.yaml"), Path("mine.yaml")]), "voc12", "psa", "common", 0)
    make_stages(run, load_index(run.index), ["walk", "pseudo"])
    typed(export, monkeypatch)
    folders = {path.name: len(list(path.glob("*"))) for path in Path("exported").iterdir()}
    assert folders == {"cams": 20, "walk": 20, "seeds": 20, "pseudo": 20, "pseudo.json": 0}


def typed(block: str, patch: pytest.MonkeyPatch) -> str:
    """Type a block of commands as a shell would and return what they said."""
    said = ""
    for line in block.splitlines():
        program, *words = shlex.split(line)
        if program == "export":
            patch.setenv(*words[0].split("=", 1))
            continue
        answer = wsss(*words)
        answer.accepts()
        said += answer.out
    return said


def test_words_on_knowledge_are_scored_again_and_files_are_not_read_again(bring: Import) -> None:
    first, second = bring(cam="npy"), bring(cam="npy", knowledge="CLIP", title="mine")
    assert first.slice("cam") == second.slice("cam")
    assert first.slice("eval/seed") != second.slice("eval/seed")


def test_a_plan_names_imported_files_that_are_not_there(bring: Import) -> None:
    run = bring(cam="nowhere")
    plan = Plan.of(run.params, [f"work/{run}/eval/seed.json"])
    (file,) = missing_files(plan)
    assert (file.path, file.blocks) == ("nowhere", True)
    assert "imports.psa.cam" in file.advice


@pytest.mark.parametrize("keys", [("cam",), ("pseudo",), ("masks",), ("pseudo", "masks")])
def test_every_import_has_a_table_panels_a_gallery_and_versions(
    bring: Import, named: Index, keys: tuple[str, ...]
) -> None:
    run = bring(**{key: "README.md" for key in keys})
    params = run.params.model_copy(update={"methods": ("psa",)})
    run = Run(params, "shapes", "psa", "common", 0)
    for stage in run.spec.imported:
        save_manifest(Manifest(Sources(), {}), imported_manifest(run, stage))
    make_run(run, named)
    table = write_results(params)
    assert "segmentation" in table
    panels = {path.stem for path in Path("results/figures").glob("panels-*")}
    stem = "panels-shapes-psa-common-s0"
    assert panels == {f"{stem}-val"} | ({stem} if "cam" in keys else set())
    assert wsss("show", str(run), "--images", "2").code == 0
    assert recorded_run(run).settings == run.settings
    text = dvc_text([Path("params.yaml")])
    assert all(f"work/{run}/{stage}.files.json" in text for stage in run.spec.imported)
    assert list(run_mismatches(run)) == []


def test_what_is_imported_is_not_computed(bring: Import, named: Index) -> None:
    bring(cam="npy")
    wsss("cam", RUN).refuses(f"{RUN} computes no CAMs, for it imports cam: `wsss import {RUN}`.")
    bring(pseudo="labels", masks="labels")
    for stage in ("pseudo", "masks"):
        wsss(stage, RUN).refuses(f"{RUN} imports {stage}: run `wsss import {RUN} {stage}` instead.")


def test_a_prediction_needs_a_segmenter_of_ours(bring: Import, named: Index) -> None:
    run = bring(masks="labels")
    picture = str(named.images[0].path)
    wsss("predict", str(run), picture).refuses(f"{run} has no segmenter: its masks are imported")
    wsss("export", "onnx", str(run)).refuses(f"{run} has no segmenter: its masks are imported")
