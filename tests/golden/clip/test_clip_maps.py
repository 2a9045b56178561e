"""CLIP-ES: the image tower, GradCAM and the spreading, at toy size."""

from pathlib import Path

import fill
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import Golden
from numpy.typing import NDArray
from torch import Tensor

from wsss.inference.trained import normalisation
from wsss.inference.views import cam_augmentation
from wsss.methods.clip_es.method import ClipES
from wsss.methods.clip_es.network import ClipNet
from wsss.nets.clip_vit import ClipShape, ClipViT, image_tower
from wsss.refine.attention import boxes, sinkhorn
from wsss.settings import MethodNetworkParams, method_spec
from wsss.settings.resolve import load_params, resolve_settings
from wsss.storage import checkpoint

CLOSE = {"atol": 3e-6}  # of the largest value
MAPS = {
    "atol": 1e-5
}  # the largest scores, by which maps are divided, are 7e-5 and enlarge rounding
RESIZED = {"atol": 2e-4}  # OpenCV's bilinear resizing
ROOT = Path(__file__).parents[3]


def build(golden: Golden) -> tuple[ClipES, ClipNet]:
    """Return the method and its network with the weights and texts of the set."""
    published = method_spec.spec("clip_es").published["networks"]["clip"]["hyper_parameters"]
    values = {
        **published,
        "logit_scale": golden.case("logit_scale"),
        "box_threshold": golden.case("es", "box"),
    }
    params = MethodNetworkParams(
        backbone="clip_toy",
        hyper_parameters=method_spec.hyper_parameters("clip_es", "clip", **values),
    )
    count, width, output = (golden.case(name) for name in ("classes", "width", "out"))
    shape = ClipShape(16, width, golden.case("depth"), width // 64, 14, output=output)
    net = ClipNet(ClipViT(shape, round_positions=values["round_positions"]), count).eval()
    path = golden.checkpoint("clip_toy")
    checkpoint.fill(net.backbone, image_tower(checkpoint.load_foreign(path), path), path)
    texts = torch.from_numpy(fill.tensor("clip.texts", (count + golden.case("background"), output)))
    net.classes, net.background = F.normalize(texts, dim=1).split(
        [count, golden.case("background")]
    )
    return ClipES({"clip": params}, count), net


def picture(golden: Golden, net: ClipNet) -> tuple[Tensor, Tensor]:
    """Return the picture as the published settings resize it, and its present classes."""
    params = resolve_settings(
        load_params([ROOT / "params.yaml"]), "shapes", "clip_es", "published"
    ).cam
    case = golden.case("es")
    image = fill.image(*case["size"], case["seed"])
    (view,) = cam_augmentation(params).views([image], normalisation(net))
    present = torch.zeros(1, net.classes.shape[0])
    present[0, case["own"]] = 1
    return view, present


@pytest.fixture
def arrays(golden: Golden) -> dict[str, NDArray[np.float32]]:
    return golden.arrays("clip.npz")


@torch.inference_mode()
def test_tokens_before_the_last_block(
    golden: Golden, arrays: dict[str, NDArray[np.float32]]
) -> None:
    _, net = build(golden)
    tokens = net.encode(picture(golden, net)[0], 8).tokens[0, :, ::4]
    golden.close("clip_es tokens", tokens, arrays["es_tokens"], **CLOSE)


def test_gradcam_inside_inference(golden: Golden, arrays: dict[str, NDArray[np.float32]]) -> None:
    method, net = build(golden)
    view, present = picture(golden, net)
    own = golden.case("es", "own")
    with torch.inference_mode():
        explained = method.explained(net, view, present)
        transition = torch.linalg.matrix_power(sinkhorn(explained.attention), 2)
    chosen = [*own, *range(net.classes.shape[0], explained.probability.shape[1])]
    golden.close(
        "clip_es probability", explained.probability[0, chosen], arrays["es_probability"], **CLOSE
    )
    thinned = (0, slice(None, None, 3), slice(None, None, 3))
    golden.close("clip_es attention", explained.attention[thinned], arrays["es_attention"], **CLOSE)
    golden.close("clip_es transition", transition[thinned], arrays["es_transition"], **CLOSE)
    golden.close("clip_es maps", explained.maps[0, own], arrays["es_maps"], **MAPS)
    inside = boxes(explained.maps[0, own], golden.case("es", "box"), cut=True)
    golden.same("clip_es boxes", inside, arrays["es_boxes"])


def test_spread_maps_at_the_size_of_the_image(
    golden: Golden, arrays: dict[str, NDArray[np.float32]]
) -> None:
    method, net = build(golden)
    view, present = picture(golden, net)
    with torch.inference_mode():
        maps = method.cam_of(net, view, present)[:, golden.case("es", "own")]
    enlarged = F.interpolate(maps, tuple(golden.case("es", "size")), mode="bilinear")
    golden.close("clip_es refined", enlarged[0, :, ::3, ::3], arrays["es_refined"], **RESIZED)
