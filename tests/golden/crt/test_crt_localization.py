"""CRT's networks for localization: maps, losses, schedule, pictures."""

import fill
import pytest
import torch
from crt_networks import LOCALIZED as PUBLISHED
from crt_networks import SMALL, gradients, thinned
from golden import FORWARD, Golden
from pictures import normalised
from torch import Tensor

from wsss.data.resize import squash
from wsss.inference.trained import normalisation
from wsss.methods.crt.localization import Localization, is_apart
from wsss.methods.crt.network import CNN, TRANSFORMER, CRTNet
from wsss.storage import checkpoint
from wsss.training.optimizer import freeze, parts, rate

EXACT, LOSS = {"atol": 1e-5}, {"rtol": 1e-4}


def method(golden: Golden) -> Localization:
    """Return the method for as many classes as the published network has."""
    classes = golden.json("manifest_wsol_deits_cub.json")["head.bias"][0]
    return Localization(PUBLISHED.networks, classes)


def network(golden: Golden) -> CRTNet:
    own = method(golden)
    net = own.build("classifier").eval()
    path = golden.checkpoint("wsol_deits_cub", wrapper="state_dict", prefix="module.")
    checkpoint.adopt(net, path, own.layout("classifier"))
    checkpoint.adopt(net, golden.checkpoint("wsol_res50_cub", SMALL), CNN)
    return net


@pytest.mark.slow
def test_both_networks(golden: Golden) -> None:
    case, net = golden.case("wsol_nets"), network(golden)
    images = normalised(net, [(*case["size"], seed) for seed in case["seeds"]])
    compare_maps(golden, net, images, case["targets"])
    compare_training(golden, net, images, case["targets"])


def compare_maps(golden: Golden, net: CRTNet, images: Tensor, targets: list[int]) -> None:
    expected, own = golden.arrays("wsol_nets.npz"), method(golden)
    with torch.inference_mode():
        logits, maps = own.logits(net, images), own.cam(net, images)
    golden.close("localization scores", logits, expected["logits"], **EXACT)
    best = logits.topk(expected["top5"].shape[1]).indices
    golden.same("best classes", best, expected["top5"])
    wanted, every = thinned(expected, "cams")
    golden.close("localization maps", maps[:, ::every], wanted, **EXACT)
    rows = torch.arange(len(maps))
    golden.close("maps of the class", maps[rows, targets], expected["cams_target"], **FORWARD)
    golden.close("maps of the best", maps[rows[:, None], best], expected["cams_top5"], **FORWARD)


def compare_training(golden: Golden, net: CRTNet, images: Tensor, targets: list[int]) -> None:
    expected, own = golden.arrays("wsol_nets.npz"), method(golden)
    freeze(net, PUBLISHED.networks["classifier"].train)  # in evaluation mode: no path is dropped
    for name, maps in (("deits", net.maps(images)), ("res50", net.auxiliary_maps(images))):
        wanted = expected[f"train_logits_{name}"]
        golden.close(f"training scores {name}", maps.mean((2, 3)).detach(), wanted, **EXACT)
        some, every = thinned(expected, f"train_map_{name}")
        golden.close(f"training maps {name}", maps[:, ::every].detach(), some, **EXACT)
    batch = {"image": images, "label": torch.zeros(len(images), own.classes)}
    batch["label"][range(len(images)), targets] = 1
    span = own.params["classifier"].hyper_parameters.span
    for name, losses in golden.json("wsol_losses.json").items():
        net.epochs_done.fill_(0 if name == "without_l1" else span - 1)
        terms = own.losses("classifier", {"classifier": net}, batch, 0)
        kinds = {"loss_vit": "transformer", "loss_cnn": "auxiliary_cnn", "loss_l1": "consistency"}
        assert ("consistency" in terms) == (name != "without_l1")
        for key, term in kinds.items():
            if term in terms:
                golden.close(f"{name} {key}", terms[term].detach(), losses[key], **LOSS)
        total = torch.stack(list(terms.values())).sum()
        golden.close(f"{name} total", total.detach(), losses["total"], **LOSS)
        gradients(golden, f"{name} deits", net, total, losses["deits"], TRANSFORMER)
        gradients(golden, f"{name} res50", net, total, losses["res50"], CNN)


def test_the_schedule(golden: Golden) -> None:
    params = PUBLISHED.networks["classifier"]
    schedule = golden.json("wsol_schedule.json")
    steps, found = 94, []  # in each epoch
    for epoch, _, _ in schedule:
        place = (epoch - 1) * steps
        rates = {rate(params.train, place + at, steps * len(schedule)) for at in (0, steps - 1)}
        assert len(rates) == 1
        together = not is_apart(epoch - 1, params.hyper_parameters.span)
        found.append([epoch, params.train.lr * rates.pop(), int(together)])
    golden.close("schedule of localization", found, schedule, rtol=1e-9)


def test_pictures_of_the_test(golden: Golden) -> None:
    expected, seeds = golden.arrays("wsol_data.npz"), golden.case("wsol_data", "seeds")
    net = method(golden).build("classifier")
    side = PUBLISHED.networks["classifier"].augment.crop_px
    pictures, every = thinned(expected, "test_image")
    sizes = expected["image_sizes_wh"].tolist()
    for (width, height), seed, wanted in zip(sizes, seeds, pictures, strict=True):
        image = squash(fill.image(height, width, seed), side, normalisation(net))
        golden.close(f"picture {seed}", image[:, ::every, ::every], wanted, absolute=1e-6)


def test_each_network_has_its_published_optimiser(golden: Golden) -> None:
    net, params = method(golden).build("classifier"), PUBLISHED.networks["classifier"].train
    freeze(net, params)
    transformer, cnn = parts(net, params)
    assert isinstance(transformer.optimizer, torch.optim.AdamW)
    assert isinstance(cnn.optimizer, torch.optim.SGD)
    names = {id(weight): name for name, weight in net.named_parameters()}
    for group in transformer.optimizer.param_groups:
        for weight in group["params"]:
            name = names[id(weight)]
            still = weight.ndim == 1 or name.endswith(("pos_embed", "cls_token"))
            assert group["weight_decay"] == (0 if still else params.weight_decay), name
    rates = {}
    cnn.set_rate(5, 10)
    for group in cnn.optimizer.param_groups:
        assert group["weight_decay"] == cnn.params.weight_decay
        rates |= {names[id(weight)]: group["lr"] for weight in group["params"]}
    assert rates.pop("auxiliary_head.weight") == 10 * cnn.params.lr
    assert set(rates.values()) == {cnn.params.lr}
    assert {name.split(".")[2] for name in rates} == {"layer3", "layer4"}
    learned = sum(len(g["params"]) for g in transformer.optimizer.param_groups)
    assert learned == len(golden.json("manifest_wsol_deits_cub.json"))
