"""CRT's CAMs: of one scale for images of any size, and of all scales as the stage makes them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from crt_networks import PUBLISHED, batch_of, method, network
from golden import FORWARD, Golden
from pictures import localized

from wsss.methods.base import Method
from wsss.scores.metrics import seed

HALF = {"absolute": 1e-3}  # maps in [0, 1] are stored with 16 bits


@contextmanager
def recorded(own: Method) -> Iterator[list[tuple[torch.Size, torch.Tensor]]]:
    """Note the size of the images and the maps of each look."""
    seen, look = [], own.cam

    def cam(net: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        maps = look(net, images)
        seen.append((images.shape[2:], maps))
        return maps

    own.cam = cam  # type: ignore[method-assign]
    yield seen


@pytest.mark.slow
def test_cams_of_one_scale(golden: Golden) -> None:
    expected = golden.arrays("cam_single_scale.npz")
    net, own = network(golden, auxiliary_cnn=True), method()
    for case in golden.case("cam_single_scale"):
        name = "{}x{}_s{}".format(*case["size"], case["seed"])
        images = batch_of(net, case["size"], case["seed"])
        both = torch.cat([images, images.flip(3)])
        with torch.inference_mode():
            maps = {"deits": own.cam(net, both)}
            if f"res152_{name}" in expected:
                maps["res152"] = F.relu(net.auxiliary_maps(both))
        for kind, (straight, mirrored) in maps.items():
            found = straight + mirrored.flip(2)
            golden.close(f"{kind} {name}", found, expected[f"{kind}_{name}"], **FORWARD)


@pytest.mark.slow
def test_cams_of_all_scales(golden: Golden, tmp_path: Path) -> None:
    expected, case = golden.arrays("cam_multi_scale.npz"), golden.case("cam_multi_scale")
    net, own, params = network(golden), method(), PUBLISHED.cam
    picture = (*case["size"], case["seed"])
    golden.same("scales", params.scales, case["scales"])
    with torch.inference_mode(), recorded(own) as seen:
        cam = localized(own, net, picture, params, case["classes"], tmp_path)
    for scale, (size, maps) in zip(params.scales, seen, strict=True):
        golden.same(f"size at {scale}", size, expected[f"size_scale{scale}"])
        found = maps[0] + maps[1].flip(2)
        golden.close(f"CAM at {scale}", found, expected[f"raw_scale{scale}"], **FORWARD)
    golden.same("keys", cam.labels, expected["keys"])
    golden.close("strided CAM", cam.cam, expected["cam"], **HALF)
    golden.close("CAM at full size", cam.full(), expected["high_res"], **HALF)
    labels = seed(cam.full(), cam.labels, PUBLISHED.evaluation.seed_threshold)
    wanted = golden.arrays("sem_seg.npz")["cam_label_015"]
    golden.same("seed labels", labels, wanted, share=0.999)
