"""The network, the pictures and the settings of WeCLIP's reference values."""

from pathlib import Path

import fill
import numpy as np
import torch
import torch.nn.functional as F
from golden import Golden
from torch import Tensor

from wsss.data.normalisation import Normalisation
from wsss.inference.views import decode_augmentation
from wsss.methods.frozen.network import TABLE, FrozenNet
from wsss.methods.weclip.method import WeClip
from wsss.nets.backbone import IMAGENET
from wsss.nets.clip_vit import ClipShape, ClipViT, image_tower
from wsss.settings import DecodeParams, MethodNetworkParams, TrainParams, method_spec
from wsss.settings.resolve import RunSettings, load_params, resolve_settings
from wsss.storage import checkpoint

ROOT = Path(__file__).parents[3]
COCO = {"selected_of": 10}


def build(golden: Golden, tag: str) -> tuple[WeClip, FrozenNet]:
    """Return the method and its network with the weights and texts of a tag, without dropout."""
    case = golden.case(tag.removesuffix("_train"))
    values = {
        **dict(published("weclip").networks["classifier"].hyper_parameters),
        **(COCO if "coco" in tag else {}),
        "logit_scale": golden.case("logit_scale"),
        "box_threshold": case["box"],
        "decoder_blocks": case["layers"],
        "select_from": golden.case("train", "late_after"),
        "window": golden.case("train", "radius"),
        "dropout": 0.0,
    }
    hyper_parameters = method_spec.hyper_parameters("weclip", "classifier", **values)
    params = MethodNetworkParams(backbone="clip_toy", hyper_parameters=hyper_parameters)
    count, width, output = (golden.case(name) for name in ("classes", "width", "out"))
    shape = ClipShape(
        *(16, width, golden.case("depth"), width // 64, golden.case("table")), output=output
    )
    tower = ClipViT(shape, round_positions=True)
    tower.mean, tower.std = IMAGENET
    method = WeClip({"classifier": params}, count)
    net = FrozenNet(tower, count, method.hyper_parameters)
    load(golden, net, tag)
    return method, net.eval()


def load(golden: Golden, net: FrozenNet, tag: str) -> None:
    """Fill a network with the weights and texts of a tag."""
    path = golden.checkpoint("clip_toy")
    state = {
        f"backbone.{key}": value
        for key, value in image_tower(checkpoint.load_foreign(path), path).items()
    }
    rules, arrays = golden.json("values.json")["rules"], golden.arrays("weclip.npz")
    path = golden.checkpoint("weclip_decoder_toy")
    decoder = checkpoint.load_foreign(path)
    for name, layer in (
        ("decoder_fts_fuse", "decoder_fts_fuse.linear_fuse"),
        ("predict", "decoder.linear_pred"),
    ):
        decoder[f"{layer}.weight"] *= rules[f"{tag}_{name}"]
        decoder[f"{layer}.bias"] = torch.from_numpy(arrays[f"{tag}_bias_{name}"])
    state |= checkpoint.rename(decoder, TABLE, path)
    count, background = golden.case("classes"), golden.case("background")
    texts = torch.from_numpy(fill.tensor("clip.texts", (count + background, golden.case("out"))))
    state["classes"], state["background"] = F.normalize(texts, dim=1).split([count, background])
    net.make_room(state)
    checkpoint.fill(net, state, "the reference weights")


def pictures(sizes: list[tuple[int, int, int]]) -> Tensor:
    """Return pictures (h, w, seed), normalised in float64, as a batch."""
    mean, std = (255 * np.array(values) for values in IMAGENET)
    images = [(fill.image(*size) - mean) / std for size in sizes]
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).astype(np.float32))


def present(golden: Golden, classes: list[list[int]]) -> Tensor:
    """Return the present classes of images, 0 or 1 (B, C)."""
    labels = torch.zeros(len(classes), golden.case("classes"))
    for row, numbers in zip(labels, classes, strict=True):
        row[numbers] = 1
    return labels


def batch(golden: Golden, case: str) -> tuple[Tensor, Tensor]:
    """Return the pictures of a case, and their present classes."""
    content = golden.case(case)
    height, width = content.get("size") or [content["side"]] * 2
    sizes = [(height, width, seed) for seed in content["seeds"]]
    return pictures(sizes), present(golden, content["own"])


def published(name: str) -> RunSettings:
    """Return the published settings of a method."""
    return resolve_settings(load_params([ROOT / "params.yaml"]), "shapes", name, "published")


def optimizer_settings(golden: Golden, name: str = "weclip", rate: str = "rate") -> TrainParams:
    """Return the published optimiser with the rates and the length of the set."""
    case = golden.case("train")
    changes = {
        "lr": case[rate],
        "warmup": case["warmup"] / case["max"],
        "warmup_start": case["warmup_ratio"],
    }
    return published(name).networks["classifier"].train.model_copy(update=changes)


def thinned(gradient: Tensor) -> Tensor:
    """Return some rows and columns of a gradient as a matrix (out, in)."""
    matrix = gradient.flatten(1)
    rows, columns = (
        max(1, side // part) for side, part in zip(matrix.shape, (10, 12), strict=True)
    )
    return matrix[::rows, ::columns]


def decode_settings(golden: Golden, name: str = "weclip", suffix: str = "") -> DecodeParams:
    """Return the published settings of the decoder with the sizes and scales of the set."""
    case = golden.case("val")
    changes = {
        "long_side_px": case[f"long{suffix}"],
        "scales": tuple(map(float, case[f"scales{suffix}"])),
    }
    return published(name).decode.model_copy(update=changes)


def views(golden: Golden, params: DecodeParams) -> list[Tensor]:
    """Return the views of the picture of the set, without mirrored ones."""
    case, normalise = golden.case("val"), Normalisation(*IMAGENET)
    image = fill.image(*case["size"], case["seed"])
    return decode_augmentation(params, 16).views([image], normalise)
