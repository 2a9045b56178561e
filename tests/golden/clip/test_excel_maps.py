"""ExCEL: both paths of the tower, similarity maps, the decoder, labels and losses, at toy size."""

import fill
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import Golden
from torch import Tensor

from wsss.methods.excel.method import Excel
from wsss.methods.excel.network import Encoded, ExcelNet
from wsss.methods.frozen.labels import affinity_loss, windowed_pairs
from wsss.methods.frozen.network import TABLE
from wsss.methods.single_stage.base import Views
from wsss.methods.single_stage.dense_energy import balanced
from wsss.nets.backbone import IMAGENET
from wsss.nets.clip_vit import ClipShape, ClipViT, image_tower
from wsss.nets.deeplab import resize
from wsss.refine.attention import least_class_attention, transferred
from wsss.settings import MethodNetworkParams, method_spec
from wsss.storage import checkpoint

CLOSE = {"atol": 3e-6}  # of the largest value
DECODER = {"absolute": 5e-4}  # where one pixel of 204,800 is decided otherwise it moves by 7e-5
SIDE = 320
STAGES = {"early": 0, "late": 14000}


def build(golden: Golden) -> tuple[Excel, ExcelNet]:
    """Return the method and its network with the weights and texts of the set, without dropout."""
    published = method_spec.spec("excel").published["networks"]["classifier"]["hyper_parameters"]
    values = {**published, "box_threshold": golden.case("ex", "box"), "dropout": 0.0}
    hyper_parameters = method_spec.hyper_parameters("excel", "classifier", **values)
    params = MethodNetworkParams(backbone="clip_toy", hyper_parameters=hyper_parameters)
    count, width, output = (golden.case(name) for name in ("classes", "width", "out"))
    shape = ClipShape(16, width, golden.case("depth"), width // 64, 14, output=output)
    tower = ClipViT(shape)
    tower.mean, tower.std = IMAGENET
    method = Excel({"classifier": params}, count)
    net = ExcelNet(tower, count, method.hyper_parameters)
    path = golden.checkpoint("clip_toy")
    state = {
        f"backbone.{k}": v for k, v in image_tower(checkpoint.load_foreign(path), path).items()
    }
    path = golden.checkpoint("excel_decoder_toy")
    state |= checkpoint.rename(checkpoint.load_foreign(path), TABLE, path)
    background = golden.case("background")
    texts = torch.from_numpy(fill.tensor("clip.texts", (count + background, output)))
    state["classes"], state["background"] = F.normalize(texts, dim=1).split([count, background])
    net.make_room(state)
    checkpoint.fill(net, state, "the reference weights")
    return method, net.eval()


def batch(golden: Golden) -> dict[str, Tensor]:
    """Return the pictures of the set, normalised in float64, and their present classes."""
    mean, std = (255 * np.array(values) for values in IMAGENET)
    seeds, classes = golden.case("ex", "seeds"), golden.case("ex", "own")
    images = np.stack([(fill.image(SIDE, SIDE, seed) - mean) / std for seed in seeds])
    label = torch.zeros(len(seeds), golden.case("classes"))
    for row, numbers in zip(label, classes, strict=True):
        row[numbers] = 1
    return {
        "image": torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32)),
        "label": label,
    }


def encode(method: Excel, net: ExcelNet, items: dict[str, Tensor]) -> tuple[Encoded, Tensor]:
    """Return pictures after both paths, and the relations of their cells."""
    with torch.inference_mode():
        return method.related(net, items["image"])


def test_both_paths_and_the_decoder(golden: Golden) -> None:
    arrays = golden.arrays("clip.npz")
    method, net = build(golden)
    encoded, relations = encode(method, net, batch(golden))
    with torch.inference_mode():
        dense = F.normalize(net.dense(encoded, None), dim=1)
        inputs = torch.stack(net.decoder_inputs(encoded))
        attention = torch.stack(encoded.attention)
        features, _ = net.features(net.decoder_inputs(encoded), encoded.grid)
        logits = net.decoder(features)
        maps = [method.similarities(net, encoded, guide) for guide in (None, relations)]
    golden.close("excel dense", dense[:, ::8, ::2], arrays["ex_dense"], **CLOSE)
    golden.close("excel attention", attention[:, :, ::20, ::20], arrays["ex_attention"], **CLOSE)
    golden.close("excel inputs", inputs[:, :, ::40, ::8], arrays["ex_inputs"], **CLOSE)
    golden.close("excel features", features[:, ::16, ::4, ::4], arrays["ex_fused"], **CLOSE)
    golden.close("excel logits", logits[:, ::3, ::3, ::3], arrays["ex_logits"], **CLOSE)
    golden.close("excel affinity", relations.sigmoid()[:, ::20, ::20], arrays["ex_p"], **CLOSE)
    for name, scores in zip(("ex_maps", "ex_maps_feedback"), maps, strict=True):
        cells = scores.flatten(2).transpose(1, 2)[:, ::8]  # without the class token
        golden.close(f"excel {name}", cells, arrays[name], **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_labels_and_losses(golden: Golden, stage: str) -> None:
    arrays, values = golden.arrays("clip.npz"), golden.json("values.json")
    method, net = build(golden)
    params, items = method.hyper_parameters, batch(golden)
    encoded, relations = encode(method, net, items)
    guide = relations if stage == "late" else None
    with torch.inference_mode():
        attention = method.attention(net, encoded, guide)
        maps = method.similarities(net, encoded, guide)
        moved = transferred(maps, attention, params.box_threshold, params.box_cut)
        labels = method.labels(net, encoded, Views.of(items), relations, STAGES[stage])
        features, _ = net.features(net.decoder_inputs(encoded), encoded.grid)
        decoder = balanced(resize(net.decoder(features), (SIDE, SIDE)), labels)
    for image, numbers in enumerate(golden.case("ex", "own")):
        for number in numbers:
            name = f"ex_refined_{stage}_{image}_{number}"
            golden.close(f"excel {name}", moved[image, number], arrays[name], **CLOSE)
    stored = arrays[f"ex_labels_{stage}"]
    golden.same(f"excel {stage} labels", labels[:, ::4, ::4], stored, share=1 - 5 / stored.size)
    golden.close(f"excel {stage} decoder", decoder, values[f"segmentation_{stage}"], **DECODER)
    pairs = windowed_pairs(torch.from_numpy(stored).long(), encoded.grid, params.window)
    counts = [int((pairs == kind).sum()) for kind in (0, 1, 255)]
    golden.same(f"excel {stage} pair counts", counts, values[f"pairs_{stage}"])
    loss = affinity_loss(relations.sigmoid(), pairs)
    golden.close(f"excel {stage} pairs", loss, values[f"affinity_{stage}"][0], rtol=1e-6)
    if stage == "late":
        special = net.backbone.special
        last = torch.stack(encoded.attention[-params.attention_blocks :], 1)
        chosen = least_class_attention(last[:, :, special:, special:])
        golden.same("excel selected blocks", chosen, values["selection_kept"])


@pytest.mark.slow
def test_losses_of_both_stages(golden: Golden) -> None:
    values = golden.json("values.json")
    method, net = build(golden)
    items = batch(golden)
    for stage, step in STAGES.items():
        terms = method.losses("classifier", {"classifier": net}, items, step)
        golden.close(
            f"excel {stage} decoder in a step",
            terms["decoder"],
            values[f"segmentation_{stage}"],
            **DECODER,
        )
        pairs = terms["pairs"] / method.hyper_parameters.pairs_weight
        golden.close(
            f"excel {stage} pairs in a step", pairs, values[f"affinity_{stage}"][0], rtol=4e-3
        )
