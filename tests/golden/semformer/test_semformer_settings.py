"""SemFormer's trainings: initial weights, groups and steps of the optimiser, augmentation, sizes."""

import re

import fill
import numpy as np
import pytest
import torch
from golden import Golden
from networks import PUBLISHED, method, thin
from torch import Tensor, nn

from wsss.data.resize import pad_to_multiple
from wsss.inference.cam_maps import high_size
from wsss.inference.trained import normalisation
from wsss.inference.views import ViewResizing
from wsss.nets.build import load_backbone
from wsss.settings import TrainParams
from wsss.storage import checkpoint
from wsss.storage.cam_archive import grid
from wsss.training.augment import Draws, change, content
from wsss.training.optimizer import optimizer, parameter_groups, rate

SAME = {"rtol": 1e-6, "absolute": 1e-7}


def train(name: str) -> TrainParams:
    """Return the published settings of a training."""
    networks = PUBLISHED.networks
    return PUBLISHED.affinity.train if name == "affinitynet" else networks[name].train


class FourKinds(nn.Module):
    """A weight and a bias of the backbone, and of a new layer."""

    def __init__(self, start: list[list[float]]) -> None:
        super().__init__()
        self.backbone, self.head = nn.Module(), nn.Module()
        for part in (self.backbone, self.head):
            for name in ("weight", "bias"):
                part.register_parameter(name, nn.Parameter(torch.tensor(start.pop(0))))


def test_the_optimiser(golden: Golden) -> None:
    cases = golden.json("optimiser.json")
    for name in (name for name in cases if name != "parameter_groups"):
        case, params = cases[name], train(name)
        published = [case["lr"], case["weight_decay"], case["effective_momentum"], case["nesterov"]]
        ours = [params.lr, params.weight_decay, params.momentum, params.nesterov]
        golden.same(f"{name} settings", ours, published)
        net = FourKinds([list(row) for row in case["start"]])
        running = optimizer(net, params.model_copy(update={"frozen": (), "head": ()}))
        target = torch.tensor(case["target"])
        factors = {id(p): g["factor"] for g in running.param_groups for p in g["params"]}
        for step, wanted in enumerate(case["steps"]):
            at = rate(params, step, case["max_step"]) * params.lr
            rates = [factors[id(parameter)] * at for parameter in net.parameters()]
            golden.close(f"{name} rates at step {step}", rates, wanted["lr"], **SAME)
            for group in running.param_groups:
                group["lr"] = group["factor"] * at
            values = torch.stack(list(net.parameters()))
            running.zero_grad()
            (0.5 * (values - target).square()).sum().backward()
            running.step()
            found = torch.stack(list(net.parameters())).detach()
            golden.close(f"{name} weights after step {step}", found, wanted["p"], **SAME)


def test_the_groups_of_the_optimiser(golden: Golden) -> None:
    for name, groups in golden.json("optimiser.json")["parameter_groups"].items():
        net, layout, params = method().build(name), method().layout(name), train(name)
        own = {id(weight): key for key, weight in net.named_parameters()}
        kinds = {1.0: 0, params.bias_lr_scale: 1, params.head_lr_scale: 2}
        kinds |= {params.head_bias_lr_scale or 0.0: 3}
        found = {
            own[id(weight)]: (
                kinds[group["factor"]],
                group.get("weight_decay", params.weight_decay),
            )
            for group in parameter_groups(net, params)
            for weight in group["params"]
        }
        dropped = re.compile("|".join(layout.dropped))
        theirs = {key: torch.empty(0) for key in groups if not dropped.fullmatch(key)}
        ours = checkpoint.rename(theirs, layout.table)
        wanted = dict(zip(ours, (groups[key] for key in theirs), strict=True))
        assert found.keys() == wanted.keys()
        golden.same(f"{name} groups", [found[key][0] for key in wanted], list(wanted.values()))
        assert {key for key, (_, decay) in found.items() if not decay} == {
            key for key, group in wanted.items() if group in (1, 3)
        }


@pytest.mark.slow
def test_initial_weights(golden: Golden) -> None:
    expected = golden.arrays("initialisation.npz")
    manifests = golden.json("initialisation.json")["manifests"]
    for network in ("caae", "semformer"):
        state = {
            key: torch.from_numpy(value)
            for key, value in fill.state(manifests[PUBLISHED.networks[network].backbone]).items()
        }
        backbone = method().build(network).backbone
        load_backbone(backbone, state)
        own: dict[str, Tensor] = backbone.state_dict()
        if network == "caae":  # of DeiT's distillation token nothing is kept
            found = {
                "caae_grid_posembed": own["pos_embed"],
                "caae_qkv0": own["blocks.0.attn.qkv.weight"],
            }
        else:
            found = {
                "sem_grid_posembed": own["pos_embed"],
                "sem_cls_token": own["cls_token"],
                "sem_cls_posembed": own["cls_posembed"],
                "sem_norm_weight": own["norm.weight"],
            }
        for name, values in found.items():
            kept = thin(values, golden.case("strides", "initialisation", name))
            golden.close(f"initial {name}", kept, expected[name], rtol=1e-4, atol=1e-5)


def test_the_augmentation(golden: Golden) -> None:
    expected = golden.arrays("misc.npz")
    normalise = normalisation(method().build("semformer"))
    plain = PUBLISHED.networks["semformer"].augment.model_copy(update={"jitter": 0.0, "hue": 0.0})
    for number, case in enumerate(golden.json("misc.json")["semformer_train_transform"]):
        picture = fill.image(case["height"], case["width"], case["image_seed"])
        there, here = case["dst_bbox"], case["src_bbox"]
        size = tuple(case["resized_wh"][::-1])
        params = plain.model_copy(update={"crop_px": crop_side(golden)})
        at = (here["ymin"] - there["ymin"], here["xmin"] - there["xmin"])
        draws = Draws(size, case["flipped"], top=at[0], left=at[1])
        crop, _ = change(picture, None, draws, params, normalise)
        kept = thin(crop, golden.case("strides", "misc", "crop"))
        golden.close(f"crop {number}", kept, expected[f"crop{number}"], absolute=1e-5)
        box = [there[key] for key in ("ymin", "xmin", "ymax", "xmax")]
        golden.same(f"crop {number}, content", content(draws, params), box)


def crop_side(golden: Golden) -> int:
    """Return the side of the crops: the largest place of a picture in one."""
    cases = golden.json("misc.json")["semformer_train_transform"]
    return max(max(case["dst_bbox"].values()) for case in cases)


def test_sizes(golden: Golden) -> None:
    case, cam = golden.json("misc.json"), PUBLISHED.cam
    resizing = ViewResizing(multiple=cam.size_multiple)
    found = [resizing.size((side, side), scale)[0] for side, scale, _ in case["scaled_side"]]
    golden.same("scaled sides", found, [row[2] for row in case["scaled_side"]])
    sizes = [(row[0], row[1]) for row in case["strided"]]
    golden.same(
        "grids", [grid(size, cam.stride) for size in sizes], [r[2] for r in case["strided"]]
    )
    golden.same("large grids", [high_size(size) for size in sizes], [r[3] for r in case["strided"]])
    for name, wanted in case.items():
        if found_name := re.fullmatch(r"patchable_pad_(\d+)x(\d+)_to", name):
            height, width = map(int, found_name.groups())
            padded = pad_to_multiple(torch.ones(1, 1, height, width), cam.size_multiple)
            golden.same("padded size", padded.shape[2:], wanted)
            assert padded.sum() == height * width
            assert np.all(padded[0, 0, :height, :width].numpy() == 1)
