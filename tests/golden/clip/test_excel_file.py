"""A file of ExCEL in the names of the authors' code: the same network as the reference values come from."""

import re
from pathlib import Path

import test_excel_maps as excel
import torch
import torch.nn.functional as F
from golden import Golden

from wsss.methods.frozen.published import layout
from wsss.storage import checkpoint

CALIBRATED = r"(encoder\.visual\.transformer\.resblocks\.(?:7|8|9|10|11)\.attn)\."


def published(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return CLIP's tower in the names of ExCEL's code, with the table of positions of a crop."""
    named = {}
    for key, value in state.items():
        name = re.sub(CALIBRATED + r"in_proj_", r"\1.qkv.", f"encoder.{key}")
        named[re.sub(CALIBRATED + r"out_proj\.", r"\1.proj.", name)] = value
    for key in ("qkv.weight", "qkv.bias", "proj.weight", "proj.bias"):
        named[f"encoder.visual.attn.{key}"] = named[
            f"encoder.visual.transformer.resblocks.7.attn.{key}"
        ]
    table = named["encoder.visual.positional_embedding"]
    cells = table[1:].T.reshape(1, -1, 14, 14)
    enlarged = F.interpolate(cells, (20, 20), mode="bilinear").flatten(2)[0].T
    named["encoder.visual.positional_embedding"] = torch.cat([table[:1], enlarged])
    return named


def test_a_file_in_published_names_gives_the_reference_values(
    golden: Golden, tmp_path: Path
) -> None:
    method, net = excel.build(golden)
    expected = {key: value.clone() for key, value in net.state_dict().items()}
    state = checkpoint.load_foreign(golden.checkpoint("excel_decoder_toy"))
    state |= published(checkpoint.load_foreign(golden.checkpoint("clip_toy")))
    state["encoder.token_embedding.weight"] = torch.zeros(4, 8)
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "excel.pth")
    for value in net.parameters():
        value.data.zero_()
    checkpoint.adopt(net, tmp_path / "excel.pth", layout(net.backbone.shape.grid))
    for key, value in net.state_dict().items():
        table = key == "backbone.pos_embed"  # enlarged and brought back
        golden.close(f"excel file {key}", value, expected[key], atol=1e-6 if table else 0.0)
    arrays, items = golden.arrays("clip.npz"), excel.batch(golden)
    with torch.inference_mode():
        logits = method.decode(net, items["image"])
    golden.close(
        "excel logits of a file", logits[:, ::3, ::3, ::3], arrays["ex_logits"], **excel.CLOSE
    )
