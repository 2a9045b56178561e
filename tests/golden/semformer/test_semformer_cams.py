"""SemFormer's CAMs: of one scale, and of all as the stage makes them."""

from pathlib import Path

import fill
import pytest
import torch
from golden import FORWARD, Golden
from networks import PUBLISHED, method, semformer, thin
from pictures import localized

from wsss.inference.trained import normalisation
from wsss.inference.views import ViewResizing

HALF = {"absolute": 1e-3}  # maps in [0, 1] are stored with 16 bits


@pytest.mark.slow
def test_cams(golden: Golden, tmp_path: Path) -> None:
    expected, cases = golden.arrays("cam_inference.npz"), golden.json("cam_inference.json")
    net, own = semformer(golden), method()
    resizing = ViewResizing(multiple=PUBLISHED.cam.size_multiple)
    for number, case in cases.items():
        picture = (case["height"], case["width"], case["image_seed"])
        classes = [label - 1 for label in case["classes_1based"]]
        for kind, scales in (("all", PUBLISHED.cam.scales), ("one", (1.0,))):
            params = PUBLISHED.cam.model_copy(update={"scales": scales})
            with torch.inference_mode():
                cam = localized(own, net, picture, params, classes, tmp_path)
            name = f"{number}_{kind}"
            golden.same(f"{name} keys", [0, *(cam.labels + 1)], expected[f"{name}_keys"])
            golden.close(f"{name} cam", cam.cam, expected[f"{name}_cam"], **HALF)
            high = thin(cam.full(), golden.case("strides", "cam_inference", "hr_cam"))
            golden.close(f"{name} hr_cam", high, expected[f"{name}_hr_cam"], **HALF)
        for scale, shape in zip(PUBLISHED.cam.scales, case["cam_shape_per_scale"], strict=True):
            images = resizing.view([fill.image(*picture)], scale, normalisation(net))
            with torch.inference_mode():
                straight, mirrored = own.cam(net, torch.cat([images, images.flip(3)]))
            golden.same(f"{number} grid at {scale}", straight.shape, shape)
            both = {"": straight, "_flip": mirrored.flip(2)}
            for suffix, maps in both.items():
                name = f"{number}_cam_s{scale}{suffix}"
                if name in expected:
                    golden.close(name, maps[classes], expected[name], **FORWARD)
