"""The network of WeCLIP+'s reference values: a frozen CLIP and a frozen DINOv2."""

import re

import fill
import torch
import torch.nn.functional as F
from frozen_clip import published
from golden import Golden
from torch import Tensor

from wsss.methods.weclip_plus.method import WeClipPlus
from wsss.methods.weclip_plus.network import PAIR_TABLE, PairNet
from wsss.nets.backbone import IMAGENET
from wsss.nets.build import load_backbone
from wsss.nets.clip_vit import ClipShape, ClipViT, image_tower
from wsss.nets.vit import ViT, dinov2
from wsss.settings import MethodNetworkParams, method_spec
from wsss.settings.networks import SecondBackboneParams
from wsss.storage import checkpoint

CHANGES = {
    "plus_coco": {"selected_of": 8, "cam_from": -1, "boxes": True},
    "plus14": {"selected_of": 12},
}
DINO = "dino_encoder."


def build(golden: Golden, tag: str) -> tuple[WeClipPlus, PairNet]:
    """Return the method and its network with the weights and texts of a tag, without dropout."""
    name = tag.removesuffix("_train")
    case, large = golden.case(name), golden.case(name, "flag") == 14
    values = {
        **dict(published("weclip_plus").networks["classifier"].hyper_parameters),
        **CHANGES.get(name, {}),
        "logit_scale": golden.case("logit_scale") / (4 if large else 1),
        "box_threshold": case["box"],
        "decoder_blocks": case["layers"],
        "own_labels_from": golden.case("train", "own_labels_after") + 1,
        "window": golden.case("train", "radius"),
        "dropout": 0.0,
    }
    hyper_parameters = method_spec.hyper_parameters("weclip_plus", "classifier", **values)
    params = MethodNetworkParams(
        backbone="clip_toy",
        second_backbone=SecondBackboneParams(backbone="vit_toy"),
        hyper_parameters=hyper_parameters,
    )
    method = WeClipPlus({"classifier": params}, golden.case("classes"))
    decoder = method.hyper_parameters
    net = PairNet(tower(golden, name), second_backbone(golden), method.classes, decoder)
    load(golden, net, tag)
    return method, net.eval()


def tower(golden: Golden, name: str) -> ClipViT:
    """Return CLIP's image tower for a case, with random weights."""
    case, width = golden.case(name), golden.case("width")
    depth, table = (case.get(key, golden.case(key)) for key in ("depth", "table"))
    shape = ClipShape(case["flag"], width, depth, width // 64, table, output=golden.case("out"))
    net = ClipViT(shape, round_positions=True)
    net.mean, net.std = IMAGENET
    return net


def second_backbone(golden: Golden) -> ViT:
    """Return DINOv2 with the weights of the set, which bear the authors' names."""
    case = golden.case("dino")
    net = ViT(dinov2(case["width"], case["depth"], case["heads"], case["table"]))
    state = checkpoint.load_foreign(
        golden.checkpoint("plus_toy", without=rf"(?!{re.escape(DINO)}).*")
    )
    load_backbone(net, {key.removeprefix(DINO): value for key, value in state.items()})
    return net


def load(golden: Golden, net: PairNet, tag: str) -> None:
    """Fill a network with the weights and texts of a tag."""
    large = net.backbone.shape.patch == 14
    path = golden.checkpoint("clip14_toy" if large else "clip_toy")
    state = {
        f"backbone.{key}": value
        for key, value in image_tower(checkpoint.load_foreign(path), path).items()
    }
    path = golden.checkpoint("plus14_toy" if large else "plus_toy", without=r".*\.mask_token")
    state |= checkpoint.rename(scaled(golden, checkpoint.load_foreign(path), tag), PAIR_TABLE, path)
    count, background = golden.case("classes"), golden.case("background")
    texts = torch.from_numpy(fill.tensor("clip.texts", (count + background, golden.case("out"))))
    state["classes"], state["background"] = F.normalize(texts, dim=1).split([count, background])
    net.make_room(state)
    checkpoint.fill(net, state, "the reference weights")


def scaled(golden: Golden, state: dict[str, Tensor], tag: str) -> dict[str, Tensor]:
    """Return the decoder's weights after the rules of a tag."""
    rules, arrays = golden.json("values.json")["rules"], golden.arrays("weclip.npz")
    for name, layer in (
        ("decoder_fts_fuse", "decoder_fts_fuse.linear_fuse"),
        ("dino_decoder_fts_fuse", "dino_decoder_fts_fuse.linear_fuse"),
        ("predict", "decoder.linear_pred"),
    ):
        state[f"{layer}.weight"] *= rules[f"{tag}_{name}"]
        state[f"{layer}.bias"] = torch.from_numpy(arrays[f"{tag}_bias_{name}"])
    return state
