"""The segmenter's stage: initial weights from a file, its test, and what the CRF sees."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from wsss.data.index import Entry, Index, save_index
from wsss.data.normalisation import Normalisation
from wsss.errors import MissingError
from wsss.nets.build import build_backbone
from wsss.nets.deeplab import HEADS
from wsss.refine import crf
from wsss.runs.flow import Flow
from wsss.runs.run import Run, stage_slice
from wsss.settings import Params, SegmenterTestParams
from wsss.settings.resolve import RunSettings, validate_params
from wsss.stages.masks import crf_picture, decide, masks, predicted_labels
from wsss.stages.segmenter import initial_segmenter, segmenter
from wsss.storage import archive, checkpoint
from wsss.storage.checkpoint import Layout
from wsss.storage.files import read_json

IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CAFFE = Normalisation((104.008, 116.669, 122.675), (1.0, 1.0, 1.0), 1.0, bgr=True)
SMALL = {"augment": {"crop_px": 48}, "train": {"epochs": 1, "batch": 8, "precision": "fp32"}}


def run_with(segmenter_settings: dict[str, Any]) -> Run:
    params = validate_params({"segmenter": segmenter_settings})
    return Run(params, "shapes", "supervised", "common", 0)


def published(path: Path) -> dict[str, torch.Tensor]:
    """Write weights of the backbone as their authors would, with a classifier after it."""
    torch.manual_seed(5)
    state = build_backbone("toy", 8).state_dict()
    torch.save({key: value + 1 for key, value in state.items()}, path)
    return state


def test_initial_weights_come_from_the_file_and_are_in_the_record(
    squares: Index, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = published(work / "theirs.pth")
    layout = "wsss.training.session.published_layout"
    monkeypatch.setattr(layout, lambda name: Layout())
    run = run_with({**SMALL, "initial_file": "theirs.pth"})
    net, files = initial_segmenter(run, 3)
    assert files == [Path("theirs.pth")]
    assert all(torch.equal(net.backbone.state_dict()[k], v + 1) for k, v in state.items())
    save_index(replace(squares, dataset="shapes"), run.index)
    segmenter(run)
    assert "theirs.pth" in read_json(run.path("segmenter.json"))["inputs"]


def test_the_file_of_initial_weights_is_an_input_of_the_rule() -> None:
    raw = {"methods": ["supervised"], "segmenter": {"initial_file": "theirs.pth"}}
    job = SimpleNamespace(dataset="shapes", method="supervised", protocol="common", seed="0")
    assert Flow(raw).initial_file("segmenter")(job) == ["theirs.pth"]  # type: ignore[arg-type]
    assert Flow({}).initial_file("segmenter")(job) == []  # type: ignore[arg-type]
    raw = {"methods": ["cam"], "affinity": {"initial_file": "theirs.pth"}}
    job = SimpleNamespace(dataset="shapes", method="cam", protocol="common", seed="0")
    assert Flow(raw).initial_file("affinity")(job) == ["theirs.pth"]  # type: ignore[arg-type]


def test_a_missing_file_of_initial_weights_is_named(work: Path) -> None:
    with pytest.raises(MissingError, match="absent.pth does not exist"):
        initial_segmenter(run_with({"initial_file": "absent.pth"}), 3)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_is_trained_and_tested_through_the_stages(
    squares: Index, work: Path, head: str
) -> None:
    # a CRF starts processes, which takes longer than all the rest
    test = {"scales": [1.0, 0.5], "resize": "bicubic", "merge": "max_softmax"}
    test |= {"crf": "codebase"} if head == "deeplab_v1" else {}
    extra = {"msc": [0.5], "loss_at": "logits"} if head == "deeplab_v2" else {"align_corners": True}
    run = run_with({**SMALL, "head": head, "test": test, **extra})
    save_index(replace(squares, dataset="shapes"), run.index)
    segmenter(run)
    masks(run, (1, 1))
    names = archive.Reader(run.path("masks/1-of-1.zip")).names()
    copies = 2 if head == "deeplab_v1" else 1  # with a CRF, the labels before it too
    assert len(names) == copies * len(squares.split("val"))
    size = read_json(run.path("segmenter.json"))
    assert size["parameters"] == sum(
        tensor.numel()
        for name, tensor in checkpoint.load(run.path("segmenter.safetensors"))[0].items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    )
    assert (
        size["images_seen"]
        == 24 // size["params"]["train"]["batch"] * size["params"]["train"]["batch"]
    )
    assert size["precision"] in ("fp32", "bf16")


def decided(seen: torch.Tensor, **options: Any) -> list[list[int]]:
    params = SegmenterTestParams.model_validate({"scales": (1.0,), "mirror": False, **options})
    entries: Sequence[Entry] = [Entry("a", "", None, (), "val", (1, 2), "")]
    return decide(entries, seen, params, IMAGENET)[0].tolist()  # type: ignore[no-any-return]


def test_without_a_crf_the_largest_score_decides() -> None:
    seen = torch.tensor([[[[1.0, -3.0]], [[0.0, 2.0]]]])
    for join in ("mean", "sum", "max", "max_softmax"):
        assert decided(seen, merge=join) == [[0, 1]]


def pictures(folder: Path, count: int) -> list[Entry]:
    generator = np.random.default_rng(0)
    entries = []
    for place in range(count):
        path = folder / f"{place}.png"
        Image.fromarray(generator.integers(0, 256, (12, 15, 3)).astype(np.uint8)).save(path)
        entries.append(Entry(path.stem, str(path), None, (), "val", (12, 15), ""))
    return entries


@pytest.mark.parametrize(("join", "softmax"), [("mean", True), ("max_softmax", False)])
def test_the_crf_gets_probabilities(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, join: str, softmax: bool
) -> None:
    given: list[Any] = []
    task = crf.score_task
    keep = lambda name, picture, scores: given.append(scores) or task(name, picture, scores)  # noqa: E731
    monkeypatch.setattr("wsss.refine.crf.score_task", keep)
    seen = torch.rand(1, 3, 12, 15)
    params = SegmenterTestParams(scales=(1.0, 2.0), mirror=True, merge=join, crf="psa")
    decide(pictures(tmp_path, 1), seen, params, IMAGENET)
    expected = (seen / 4).softmax(1) if softmax else seen
    assert np.array_equal(given[0], expected[0].numpy())


def test_processes_share_the_crf_of_all_batches(tmp_path: Path) -> None:
    pytest.importorskip("pydensecrf")
    entries = pictures(tmp_path, 5)
    looks = 3 * torch.randn(5, 4, 12, 15, generator=torch.Generator().manual_seed(0))
    batches = [(entries[:3], looks[:3]), (entries[3:], looks[3:])]
    params = SegmenterTestParams(scales=(1.0,), mirror=False, crf="deeplab_msc")
    alone, shared = (
        list(predicted_labels(batches, params, IMAGENET, processes)) for processes in (1, 2)
    )
    assert [image.name for image in shared] == ["0", "1", "2", "3", "4"]
    assert all(
        np.array_equal(ours.after[0], theirs.after[0])
        for ours, theirs in zip(shared, alone, strict=True)
    )
    for image, look in zip(alone, looks, strict=True):
        assert np.array_equal(image.before[0], look.argmax(0).numpy())
    assert any((image.after[0] != image.before[0]).any() for image in alone)


def test_the_crf_in_pytorch_gives_the_labels_of_the_library(tmp_path: Path) -> None:
    pytest.importorskip("pydensecrf")
    entries = pictures(tmp_path, 3)
    looks = 3 * torch.randn(3, 4, 12, 15, generator=torch.Generator().manual_seed(0))
    params = SegmenterTestParams(scales=(1.0,), mirror=False, crf="deeplab_msc")
    library, ours = (
        np.stack(decide(entries, looks, params, IMAGENET, device)) for device in (None, "cpu")
    )
    assert (ours == library).mean() > 0.999
    assert (ours != looks.argmax(1).numpy()).any()


def test_the_crf_sees_what_is_asked_for() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype(np.uint8)
    assert np.array_equal(crf_picture(image, "original", IMAGENET), image)
    assert np.array_equal(crf_picture(image, "bgr", IMAGENET), image[..., ::-1])
    lost = image.astype(int) - crf_picture(image, "denormalised", IMAGENET)
    assert set(np.unique(lost)) <= {0, 1}
    grey = np.array([[[123, 116, 104], [122, 117, 105]]], np.uint8)  # just around the mean
    assert crf_picture(grey, "wrapped", CAFFE).tolist() == [[[0, 0, 0], [0, 0, 0]]]
    grey -= 5
    assert crf_picture(grey, "wrapped", CAFFE).tolist() == [[[251, 251, 252], [252, 252, 251]]]


def test_the_name_of_a_preset_is_in_no_slice() -> None:
    plain, named = Params().segmenter, Params().segmenter.model_copy(update={"preset": "x"})
    slices = [stage_slice(RunSettings(segmenter=own), "segmenter") for own in (plain, named)]
    assert slices[0] == slices[1]
