"""A file of WeCLIP in the names of the authors' code: the same network as the reference values come from."""

from pathlib import Path

import fill
import frozen_clip
import torch
from golden import Golden

from wsss.methods.frozen.network import FrozenNet
from wsss.methods.frozen.published import layout
from wsss.methods.weclip.method import WeClip
from wsss.nets.clip_vit import SHAPES, ClipViT
from wsss.settings import MethodNetworkParams, method_spec
from wsss.storage import checkpoint
from wsss.storage.checkpoint import Published

CLOSE = {"atol": 1e-5}  # of the largest value
TAG = "weclip"
REAL = "vit_base_patch16_clip_224"


def test_a_file_in_published_names_gives_the_reference_values(
    golden: Golden, tmp_path: Path
) -> None:
    method, net = frozen_clip.build(golden, TAG)
    expected = {key: value.clone() for key, value in net.state_dict().items()}
    rules, arrays = golden.json("values.json")["rules"], golden.arrays("weclip.npz")
    tower = checkpoint.load_foreign(golden.checkpoint("clip_toy"))
    state = checkpoint.load_foreign(golden.checkpoint("weclip_decoder_toy"))
    for name, layer in (
        ("decoder_fts_fuse", "decoder_fts_fuse.linear_fuse"),
        ("predict", "decoder.linear_pred"),
    ):
        state[f"{layer}.weight"] *= rules[f"{TAG}_{name}"]
        state[f"{layer}.bias"] = torch.from_numpy(arrays[f"{TAG}_bias_{name}"])
    state |= {f"encoder.{key}": value for key, value in tower.items()}
    state |= {
        key: torch.from_numpy(fill.tensor(key, (4, 8)))
        for key in golden.json("manifest_weclip_vitb_voc.json")
        if not key.startswith(("encoder.visual.", "decoder"))  # the text tower and PAR's kernel
    }
    state["encoder.visual.positional_embedding_new"] = torch.zeros(1201, 128, dtype=torch.float16)
    torch.save(state, tmp_path / "weclip.pth")
    for value in net.parameters():
        value.data.zero_()
    checkpoint.adopt(net, tmp_path / "weclip.pth", layout(net.backbone.shape.grid))
    found = net.state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    images, _ = frozen_clip.batch(golden, "weclip")
    with torch.inference_mode():
        logits = method.decode(net, images)
    golden.close(
        "weclip logits of a file", logits[:, ::3, ::2, ::2], arrays["weclip_logits"], **CLOSE
    )


def test_the_layout_of_the_real_file_fits_the_published_settings(golden: Golden) -> None:
    published = method_spec.spec("weclip").published["networks"]["classifier"]["hyper_parameters"]
    values = method_spec.hyper_parameters("weclip", "classifier", **published)
    params = MethodNetworkParams(backbone=REAL, stride=16, hyper_parameters=values)
    method = WeClip({"classifier": params}, 20)
    shapes = golden.json("manifest_weclip_vitb_voc.json")
    with torch.device("meta"):
        net = FrozenNet(ClipViT(SHAPES[REAL]), 20, method.hyper_parameters)
        state = {key: torch.zeros(shape) for key, shape in shapes.items()}
    attempt = Published("weclip.pth", {"": state}).attempt(net, method.layout("classifier"))
    assert attempt.faults == 0
    assert set(attempt.names.values()) == {
        key for key in shapes if key.startswith(("encoder.visual.", "decoder"))
    }
