"""A file of WeCLIP+ in the names of the authors' code: both backbones and the decoder are in it."""

import torch
from golden import Golden

from wsss.methods.weclip_plus.method import WeClipPlus
from wsss.settings import Params
from wsss.settings.resolve import resolve_settings
from wsss.storage.checkpoint import Published


def test_the_layout_of_the_real_file_fits_the_published_settings(golden: Golden) -> None:
    settings = resolve_settings(Params(), "voc12", "weclip_plus", "published")
    method = WeClipPlus(settings.networks, 20)
    shapes = golden.json("manifest_weclip_plus_vitb_dinos_voc.json")
    with torch.device("meta"):
        net = method.build("classifier")
        state = {key: torch.zeros(shape) for key, shape in shapes.items()}
    attempt = Published("plus.pth", {"": state}).attempt(net, method.layout("classifier"))
    assert attempt.faults == 0
    assert set(attempt.names.values()) == {
        key
        for key in shapes
        if key.startswith(("encoder.visual.", "decoder", "dino_"))
        and not key.endswith("mask_token")
    }
