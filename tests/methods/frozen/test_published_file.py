"""A decoder on a frozen CLIP in the names of the authors' code, taken instead of a training."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from wsss.data.index import Index, save_index
from wsss.inference.trained import restore
from wsss.machine.runtime import Runtime
from wsss.methods.base import build_method
from wsss.methods.frozen.published import positions
from wsss.runs.run import Run
from wsss.settings.resolve import validate_params
from wsss.stages.decode import decode
from wsss.stages.train import train
from wsss.storage import checkpoint
from wsss.storage.files import read_json

CPU = Runtime(torch.device("cpu"), torch.float32)
FILE = "net.pth"
NAMES = (  # ours -> the authors'
    (r"^backbone\.cls_token$", "encoder.visual.class_embedding"),
    (r"^backbone\.pos_embed$", "encoder.visual.positional_embedding"),
    (r"^backbone\.patch_embed\.proj\.", "encoder.visual.conv1."),
    (r"^backbone\.norm_pre\.", "encoder.visual.ln_pre."),
    (r"^backbone\.norm\.", "encoder.visual.ln_post."),
    (r"^backbone\.head\.weight$", "encoder.visual.proj"),
    (r"^backbone\.blocks\.", "encoder.visual.transformer.resblocks."),
    (r"^decoder\.blocks\.", "decoder.transformer.resblocks."),
    (r"^decoder\.predict\.", "decoder.linear_pred."),
    (r"^fuse\.merge\.", "decoder_fts_fuse.linear_fuse."),
    (r"^fuse\.layers\.(\d+)\.0\.", r"decoder_fts_fuse.linears_modulelist.\1.proj."),
    (r"^fuse\.layers\.(\d+)\.2\.", r"decoder_fts_fuse.linears_modulelist.\1.proj_2."),
    (r"(\.\d+)\.norm(\d)\.", r"\1.ln_\2."),
    (r"\.attn\.qkv\.", ".attn.in_proj_"),
    (r"\.attn\.proj\.", ".attn.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)


def of(name: str) -> Run:
    """Return a run that takes the file instead of a training."""
    network = {"checkpoint": FILE, "extra_knowledge": "captions", "augment": {"crop_px": 32}}
    raw = {
        "decode": {"scales": [1.0], "crf": "none"},
        "methods": [name],
        "calibration": "none",
        "overrides": {"file": {"method": name, "set": {"networks": {"classifier": network}}}},
    }
    return Run.parse(f"shapes/{name}/common/s0", validate_params(raw))


def write(run: Run, classes: int) -> dict[str, Tensor]:
    """Write a network with random weights in the authors' names; return it in ours."""
    torch.manual_seed(1)
    state = dict(build_method(run, classes).build("classifier").state_dict())
    state = {key: state[key] for key in state if key not in ("classes", "background")}
    shaped = {
        **state,
        "backbone.cls_token": state["backbone.cls_token"][0, 0],
        "backbone.pos_embed": state["backbone.pos_embed"][0],
        "backbone.head.weight": state["backbone.head.weight"].T,
    }
    torch.save(checkpoint.rename(shaped, NAMES), FILE)
    return state


@pytest.mark.parametrize("name", ["weclip", "excel"])
def test_a_file_of_the_authors_code_is_completed_and_decodes(
    work: Path, squares: Index, name: str
) -> None:
    run = of(name)
    save_index(squares, run.index)
    expected = write(run, len(squares.classes))
    train(run, "classifier")
    path = run.path("classifier.safetensors")
    method = build_method(run, len(squares.classes))
    net = restore(lambda: method.build("classifier"), path, CPU)
    state = net.state_dict()
    assert all(torch.equal(state[key], value) for key, value in expected.items())
    lengths = torch.cat([state["classes"], state["background"]]).norm(dim=1)
    assert torch.allclose(lengths, torch.ones(()), atol=1e-5)
    other = method.build("classifier").state_dict()
    assert not torch.equal(state["classes"], other["classes"])  # of the training images
    assert FILE in read_json(path.with_suffix(".json"))["inputs"]
    decode(run, (1, 1))


@pytest.mark.parametrize(("saved", "error"), [(14, 0.0), (20, 1e-5), (30, 1e-5)])
def test_an_enlarged_table_of_positions_is_brought_back(saved: int, error: float) -> None:
    table = torch.randn(1 + 14**2, 6)
    cells = table[1:].T.reshape(1, -1, 14, 14)
    larger = torch.nn.functional.interpolate(cells, (saved, saved), mode="bilinear")
    whole = torch.cat([table[:1], larger.flatten(2)[0].T])
    assert torch.allclose(positions(whole, 14)[0], table, rtol=0.0, atol=error)


@pytest.mark.parametrize("shape", [(5,), (1 + 15, 6), (10, 6, 2), ()])
def test_a_table_of_another_shape_is_left_for_the_message(shape: tuple[int, ...]) -> None:
    assert positions(torch.zeros(shape), 2).shape == (1, *shape)


def test_a_missing_layer_is_named_as_the_file_names_it(work: Path, squares: Index) -> None:
    run = of("weclip")
    save_index(squares, run.index)
    write(run, len(squares.classes))
    state = torch.load(FILE, weights_only=True)
    state["decoder.linear_pred.other"] = state.pop("decoder.linear_pred.bias")
    torch.save(state, FILE)
    message = r"1 missing \(decoder.predict.bias\); 1 left over \(decoder.linear_pred.other\)"
    with pytest.raises(checkpoint.CheckpointError, match=message):
        train(run, "classifier")
