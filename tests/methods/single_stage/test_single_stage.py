"""ToCo, SeCo and CPDGL: teachers and memories, schedules, resumption, and the way by commands."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from wsss.data.index import Index, save_index
from wsss.export.predict import CamNetwork
from wsss.inference.trained import normalisation
from wsss.machine.runtime import Runtime
from wsss.methods.base import load_method
from wsss.methods.single_stage.base import SingleStage
from wsss.methods.single_stage.network import QueueNet
from wsss.progress import setup
from wsss.runs.flow import Flow
from wsss.runs.run import Run
from wsss.settings import Params, method_spec
from wsss.settings.base import merge
from wsss.settings.resolve import load_params, resolve_settings, validate_params
from wsss.stages.cam import cam as write_cams
from wsss.stages.decode import decode
from wsss.stages.evaluate import evaluate
from wsss.stages.gather import gather
from wsss.stages.pseudo import pseudo
from wsss.stages.train import Classification, train
from wsss.storage import checkpoint
from wsss.storage.archive import Reader
from wsss.storage.cam_archive import CamReader
from wsss.storage.files import read_json
from wsss.training.batches import Squares, TrainingImages
from wsss.training.loop import Trainer, Training, fit

CPU = Runtime(torch.device("cpu"), torch.float32)
CLASSES = 4
EARLY = {"contrast_from": 2, "decoder_from": 3, "prototypes_from": 1, "crop_px": 16, "crops": 2}
FAMILY = ("cpdgl", "seco", "toco", "cpdgl_head", "cpdgl_logged")


def method(name: str, protocol: str = "common", **settings: Any) -> SingleStage:
    networks = resolve_settings(Params(), "shapes", name, protocol).networks
    own = networks["classifier"]
    changed = own.hyper_parameters.model_copy(update=settings)
    merged = own.model_copy(update={"hyper_parameters": changed})
    return load_method(name)({"classifier": merged}, CLASSES)


def batch(side: int = 48) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    label = torch.tensor([[1.0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]])
    return {"image": torch.randn(3, 3, side, side, generator=generator), "label": label}


def lose(own: SingleStage, net: Any, step: int, items: dict[str, Any] | None = None) -> Any:
    return own.losses("classifier", {"classifier": net}, items or batch(), step)


def test_teachers_begin_as_copies_and_then_follow_with_positions_included() -> None:
    own = method("cpdgl", momentum=0.9, **{**EARLY, "prototypes_from": 0})
    net = own.build("classifier")
    with torch.no_grad():
        for parameter in net.backbone.parameters():
            parameter.add_(0.1)  # as if initial weights were loaded
    lose(own, net, 0)
    assert torch.equal(net.teacher.pos_embed, net.backbone.pos_embed)
    before = net.teacher.pos_embed.clone()
    with torch.no_grad():
        net.backbone.pos_embed.add_(1.0)
    lose(own, net, 1)
    moved = (net.teacher.pos_embed - before).mean()
    assert moved == pytest.approx(0.1, abs=1e-5)


def test_prototypes_wait_and_the_queue_does_not() -> None:
    own = method("cpdgl", **EARLY)
    net = own.build("classifier")
    first = net.prototypes.clone()
    lose(own, net, 0)
    assert torch.equal(net.prototypes, first)
    assert net.queue_next.item() == 3 * (2 + EARLY["crops"])
    lose(own, net, 1)
    assert torch.allclose(net.prototypes.norm(dim=1), torch.ones(CLASSES))
    cosine = (torch.nn.functional.normalize(first, dim=1) * net.prototypes).sum(1)
    assert (cosine[[0, 3]] < 0.9999).all()  # of the images with one class
    assert torch.allclose(cosine[[1, 2]], torch.ones(2))


def test_the_queue_goes_round_whatever_its_length() -> None:
    own = method("cpdgl", **EARLY, queue=20)
    net = own.build("classifier")
    for step in range(3):
        lose(own, net, step)
    assert net.queue_next.item() == 36 % 20
    assert torch.allclose(net.queue.norm(dim=1), torch.ones(20), atol=1e-5)


def test_with_the_gather_of_ones_only_the_first_prototype_moves() -> None:
    own = method("cpdgl_logged", **EARLY)
    net = own.build("classifier")
    first = torch.nn.functional.normalize(net.prototypes, dim=1)
    lose(own, net, 1)
    cosine = (first * net.prototypes).sum(1)
    assert cosine[0] < 0.9999
    assert torch.allclose(cosine[1:], torch.ones(CLASSES - 1))
    assert net.queue[:12].unique().tolist() == [1.0]


@pytest.mark.parametrize(
    ("name", "step", "weights"),
    [
        ("cpdgl", 1000, (0.3, 0.0, 0.0, 0.0)),
        ("cpdgl", 2000, (0.3, 0.5, 0.0, 0.0)),
        ("cpdgl", 2001, (0.3, 0.5 * 0.4002, 0.12 * 0.4002, 0.0)),
        ("cpdgl", 5001, (0.3, 0.5, 0.12, 0.0)),
        ("seco", 2001, (0.3, 0.5, 0.12, 0.05)),
        ("toco", 2000, (0.2, 0.5, 0.0, 0.0)),
        ("toco", 2001, (0.2, 0.5, 0.1, 0.05)),
    ],
)
def test_published_weights_of_the_terms(name: str, step: int, weights: tuple[float, ...]) -> None:
    own = method(name, "published")
    found = own.weights(own.hyper_parameters, step)
    contrast = found["tokens"] if name == "toco" else found["local"]
    assert (found["pairs"], contrast, found["decoder"], found["dense_energy"]) == pytest.approx(
        weights
    )


@pytest.mark.parametrize("name", FAMILY)
def test_an_image_that_is_all_padding_gives_finite_gradients(name: str) -> None:
    own, items = method(name, **EARLY), batch()
    items["content"] = torch.zeros(3, 4, dtype=torch.long)
    net = own.build("classifier")
    terms = lose(own, net, 1000, items)
    assert terms["decoder"] == 0
    torch.stack(list(terms.values())).sum().backward()
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    assert all(torch.isfinite(grad).all() for grad in grads)


def test_small_crops_leave_statistics_of_normalisation_alone() -> None:
    own = method("cpdgl", **EARLY)
    net = own.build("classifier").train()
    norm = net.backbone.patch_embed.stem[1]
    lose(own, net, 1000)
    assert norm.num_batches_tracked.item() == 1
    assert net.training


def of(name: str, **settings: Any) -> Run:
    """Return a run whose training has eight steps."""
    short = merge({"train": {"epochs": 2}}, settings)  # the method's own epochs are more
    raw = {
        "classifier": {"augment": {"crop_px": 32}, "train": {"batch": 6}},
        "cam": {"scales": [1.0], "batch": 6},
        "decode": {"scales": [1.0], "batch": 6},
        "pseudo": {"source": "cam"},
        "methods": [name],
        "calibration": "none",
        "overrides": {"mine": {"method": name, "set": {"networks": {"classifier": short}}}},
    }
    return Run.parse(f"shapes/{name}/common/s0", validate_params(raw))


def training(run: Run, index: Index, folder: Path) -> Training:
    params = run.settings.networks["classifier"]
    own = load_method(run.method)(run.settings.networks, len(index.classes))
    torch.manual_seed(0)
    net = own.build("classifier")
    normalise = normalisation(net)
    images = TrainingImages(index, index.training(), params.augment, normalise, 0)
    between = Squares(index, index.training(), normalise, 0)
    objective = Classification(own, "classifier", net, {}, between)
    return Training(objective, images, params.train, 0, folder / "net.safetensors", {"seed": 0})


@pytest.mark.parametrize("name", ["cpdgl", "toco"])
def test_a_resumed_training_equals_an_uninterrupted_one_with_all_its_memories(
    squares: Index, tmp_path: Path, name: str
) -> None:
    settings = {key: value for key, value in EARLY.items() if name == "cpdgl" or "proto" not in key}
    run = of(name, hyper_parameters={**settings, "contrast_from": 1, "decoder_from": 2})
    fit(training(run, squares, tmp_path / "whole"), CPU)
    cut = Trainer(training(run, squares, tmp_path / "cut"), CPU)
    keys = list(cut.schedule.parts(0))
    parts = iter(torch.utils.data.DataLoader(cut.training.images, batch_sampler=keys))
    cut.objective.train()
    for step in range(5):
        cut.step(step, parts)
    cut.note_losses()
    cut.save(5)
    fit(training(run, squares, tmp_path / "cut"), CPU)
    whole, resumed = (
        checkpoint.load(tmp_path / f"{kind}/net.safetensors")[0] for kind in ("whole", "cut")
    )
    assert {"teacher_head.mlp.0.weight"} <= whole.keys()
    assert ("queue" in whole) == (name == "cpdgl")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def published(net: Any, path: Path) -> None:
    """Write a network as its authors do, with what is in their files and not used."""
    back = [("backbone.", "encoder."), ("teacher.", "encoder_k."), ("student_head.", "proj_head.")]
    back += [("teacher_head.", "proj_head_t."), ("decoder.branches.", "decoder.c")]
    back += [("queue_tags", "queue_label_flag"), ("queue_next", "queue_ptr")]
    theirs = {}
    for key, value in net.state_dict().items():
        for ours, name in back:
            if key.startswith(ours):
                key = name + key.removeprefix(ours)
                break
        theirs[f"module.{key}"] = value
    theirs["module.encoder.head.weight"] = torch.zeros(10, 64)
    if isinstance(net, QueueNet):
        theirs["module.encoder_k.head.bias"] = torch.zeros(10)
        theirs["module.proj_head.last_layer.weight_g"] = torch.ones(64, 1)
    torch.save(theirs, path)


@pytest.mark.parametrize("name", ["cpdgl", "toco"])
def test_a_published_file_becomes_cams_masks_labels_and_scores(
    work: Path, squares: Index, name: str
) -> None:
    run = of(name, checkpoint="published.pth")
    save_index(squares, run.index)
    own = load_method(name)(run.settings.networks, len(squares.classes))
    torch.manual_seed(3)
    net = own.build("classifier")
    published(net, Path("published.pth"))
    train(run, "classifier")
    found, _ = checkpoint.load(run.path("classifier.safetensors"))
    assert all(torch.equal(found[key], value) for key, value in net.state_dict().items())
    for make, what in ((write_cams, "cam"), (decode, "decode")):
        make(run, (1, 1))
        gather(run, what)
    evaluate(run, "seed")
    evaluate(run, "decode")
    pseudo(run)
    evaluate(run, "pseudo")
    scored = read_json(run.path("eval/decode.json"))
    assert scored["protocol"]["split"] == "val"
    assert not scored["protocol"]["labels_used"]
    assert 0 <= scored["miou"] <= 1
    assert len(Reader(run.path("decode.zip")).names()) == len(squares.split("val"))


def test_cams_from_a_square_are_stretched_and_stored_at_the_size_of_the_image(
    work: Path, squares: Index
) -> None:
    run = of("cpdgl")
    cam = {
        "square_px": 64,
        "normalise": "stretch",
        "clip": "last",
        "mirror_merge": "max",
        "high_res": True,
    }
    cam |= {"resize": "bilinear", "size_rounding": "floor"}
    run = replace(run, params=run.params.model_copy(
        update={"cam": run.params.cam.model_copy(update=cam)}))  # fmt: skip
    save_index(squares, run.index)
    own = load_method("cpdgl")(run.settings.networks, len(squares.classes))
    state = own.build("classifier").state_dict()
    checkpoint.save(run.path("classifier.safetensors"), state, {})
    write_cams(run, (1, 1))
    gather(run, "cam")
    cams = CamReader(run.path("cam.zip"))
    for entry in squares.training():
        found = cams[entry.name]
        assert found.high is not None
        assert found.high.shape == (len(entry.labels), *entry.size)
        assert 0 <= found.high.min() <= found.high.max() <= 1


def test_panels_of_own_images_have_their_size(
    work: Path, squares: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = of("toco")
    published = resolve_settings(run.params, "shapes", "toco", "published").cam
    cam = published.model_copy(update={"square_px": 48, "scales": (1.0, 0.5)})
    run = replace(run, params=run.params.model_copy(update={"cam": cam}))
    own = load_method("toco")(run.settings.networks, len(squares.classes))
    names = {"classes": list(squares.classes)}
    checkpoint.save(run.path("classifier.safetensors"), own.build("classifier").state_dict(), names)
    monkeypatch.setattr("wsss.export.predict.PRESENT", -1.0)  # every class
    entry = squares.images[0]
    [(_, heats)] = CamNetwork(run, CPU)([entry], None)
    assert [heat.name for heat in heats] == names["classes"]
    assert {heat.values.shape for heat in heats} == {entry.size}


def test_variants_are_their_base_with_other_settings() -> None:
    base, variant = method_spec.spec("cpdgl"), method_spec.spec("cpdgl_logged")
    assert method_spec.module("cpdgl_logged") == "wsss.methods.cpdgl.method"
    assert variant.decodes
    ours, theirs = (s.networks["classifier"].hyper_parameters for s in (base, variant))
    assert {key for key in ours if ours[key] != theirs[key]} == {"gather"}
    assert variant.published == base.published


def test_the_flow_of_a_method_that_decodes() -> None:
    flow = Flow({"methods": ["toco", "cam"], "protocols": ["published"]})
    toco, cam = flow.runs
    assert "decode" in toco.stages()
    assert "decode" not in cam.stages()
    jobs = [
        SimpleNamespace(dataset="shapes", method=run.method, protocol="published", seed="0",
                        what="decode")
        for run in (toco, cam)
    ]  # fmt: skip
    named = [[Path(path).name for path in flow.maps(job)] for job in jobs]
    assert named == [["cam.zip"], ["walk.zip"]]
    assert Path(flow.scored(jobs[0])).name == "decode.zip"


def test_a_variant_that_learns_little_says_so(
    work: Path, squares: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    run = of("cpdgl_head", train={"steps": 1})
    save_index(squares, run.index)
    setup()
    train(run, "classifier")
    assert "four orders above" in capsys.readouterr().err


def test_stages_of_a_method_that_decodes() -> None:
    params = validate_params({"methods": ["toco"], "protocols": ["common", "published"]})
    common, own = (Run(params, "shapes", "toco", kind, 0).stages() for kind in params.protocols)
    assert own == [
        "classifier", "cam", "eval/seed", "decode", "eval/decode", "pseudo", "eval/pseudo",
        "segmenter", "masks", "eval/segmentation",
    ]  # fmt: skip
    assert {"affinity", "walk", "eval/walk", "decode"} <= set(common)


@pytest.mark.parametrize("preset", ["voc12", "coco14"])
@pytest.mark.parametrize("name", ["toco", "seco", "cpdgl"])
def test_images_are_scaled_at_random_whatever_the_preset_says(name: str, preset: str) -> None:
    root = Path(__file__).parents[3]
    params = load_params([root / "params.yaml", root / f"params/{preset}.yaml"])
    for protocol in ("common", "published"):
        augment = resolve_settings(params, preset, name, protocol).networks["classifier"].augment
        assert augment.long_side_px is None
        assert augment.scale == (0.5, 2.0)
