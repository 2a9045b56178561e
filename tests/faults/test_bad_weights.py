"""Checkpoints from strangers and damaged ones of ours: refused in one line, and nothing in them runs."""

from pathlib import Path

import pytest
import torch
from answer import program, wsss
from bad_weights import BAD, BAD_OURS, BAD_VECTORS, TRACE, USED, Harmful, Weights
from pond import PARAMS, RUN

from wsss.methods.base import build_method
from wsss.runs.run import Run
from wsss.runs.texts import text_vectors
from wsss.settings.networks import TEXT_TOWERS
from wsss.settings.resolve import load_params
from wsss.storage import checkpoint

NETWORK_RUN = "ponds/mctformer/common/s0"
CHOSEN = "overrides: {it: {method: mctformer, set: {networks: {classifier: {checkpoint: %s}}}}}\n"


def choose(folder: Path, file: str) -> None:
    """Let the classifier of MCTformer be a published checkpoint."""
    settings = PARAMS.replace("[supervised]", "[mctformer, supervised]") + CHOSEN % file
    (folder / "params.yaml").write_text(settings)


def right() -> dict[str, torch.Tensor]:
    """Return the tensors of that classifier under their published names."""
    run = Run.parse(NETWORK_RUN, load_params([Path("params.yaml")]))
    state = build_method(run, 2).build("classifier").state_dict()
    return {key.removeprefix("backbone."): value for key, value in state.items()}


def name_of(case: Weights) -> str:
    return case.name


@pytest.mark.parametrize("case", USED, ids=name_of)
def test_a_published_checkpoint_is_used_however_it_is_wrapped(
    case: Weights, ponds: Path, tried: None
) -> None:
    choose(ponds, case.file)
    case.make(ponds / case.file, right())
    wsss("train", NETWORK_RUN, "classifier").accepts()


@pytest.mark.parametrize("case", BAD, ids=name_of)
def test_a_hostile_or_damaged_checkpoint_is_refused_and_nothing_run(
    case: Weights, ponds: Path, tried: None
) -> None:
    choose(ponds, case.file)
    case.make(ponds / case.file, right())
    answer = wsss("train", NETWORK_RUN, "classifier")
    answer.refuses(case.said)
    assert case.file in answer.err
    assert not Path(TRACE).exists()
    assert not Path("work", NETWORK_RUN).exists()


@pytest.mark.parametrize("case", BAD_OURS, ids=name_of)
def test_a_damaged_network_of_ours_is_refused_and_kept(
    case: Weights, ponds: Path, tried: None
) -> None:
    path = ponds / "work" / RUN / "segmenter.safetensors"
    state = {key: value.clone() for key, value in checkpoint.load(path)[0].items()}
    case.make(path, state)  # of copies: what is loaded lies in the file
    before = path.read_bytes() if path.exists() else None
    wsss("predict", RUN, "photos").refuses(case.said)
    assert (path.read_bytes() if path.exists() else None) == before
    assert not Path(TRACE).exists()
    assert not Path("predictions").exists()


@pytest.mark.parametrize("case", BAD[:8], ids=name_of)
def test_a_resume_state_with_code_is_not_run(case: Weights, ponds: Path, tried: None) -> None:
    state = ponds / "work" / RUN / "state/segmenter.pt"
    state.parent.mkdir()
    case.make(state, checkpoint.load(state.parents[1] / "segmenter.safetensors")[0])
    answer = wsss("segmenter", RUN)
    answer.accepts()
    assert "training starts again" in answer.err
    assert not Path(TRACE).exists()
    assert not state.exists()


@pytest.mark.parametrize("content", [[], {}, {"header": {}}, 3, {"step": 3, "rows": []}])
def test_a_resume_state_of_another_form_costs_time_and_not_the_run(
    content: object, ponds: Path, tried: None
) -> None:
    state = ponds / "work" / RUN / "state/segmenter.pt"
    state.parent.mkdir()
    torch.save(content, state)
    answer = wsss("segmenter", RUN)
    answer.accepts()
    assert "training starts again" in answer.err


WORDS_RUN = "ponds/clip_es/common/s0"
WORDS = (
    "overrides: {it: {method: clip_es, set: {networks: {clip: {hyper_parameters: {text: words}}}}}}"
)


@pytest.mark.parametrize("case", BAD_VECTORS, ids=name_of)
def test_vectors_of_words_that_do_not_fit_are_named(
    case: Weights, ponds: Path, tried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TEXT_TOWERS, "clip_toy", "toy-clip")
    settings = PARAMS.replace("[supervised]", "[clip_es]")
    (ponds / "params.yaml").write_text(f"{settings}{WORDS}\n")
    vectors = text_vectors(Run.parse(WORDS_RUN, load_params([Path("params.yaml")])), "clip")
    assert vectors is not None
    case.make(vectors.path, {"classes": torch.eye(2, 64), "background": torch.eye(6, 64)})
    answer = wsss("train", WORDS_RUN, "clip")
    answer.refuses(case.said)
    assert str(vectors.path) in answer.err
    assert not Path(TRACE).exists()
    assert not Path("work", WORDS_RUN, "clip.safetensors").exists()


def test_the_traps_of_these_tests_would_go_off(ponds: Path) -> None:
    torch.save(Harmful(), "trap.pth")
    torch.load("trap.pth", weights_only=False)
    assert Path(TRACE).exists()


@pytest.mark.slow
def test_a_hostile_checkpoint_ends_the_program_with_exit_code_two(ponds: Path, tried: None) -> None:
    choose(ponds, "theirs.pth")
    torch.save({"state_dict": Harmful()}, "theirs.pth")
    program("train", NETWORK_RUN, "classifier").refuses("holds more than tensors")
    assert not Path(TRACE).exists()
