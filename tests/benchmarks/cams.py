"""CAMs and segmentation: one image, scale and mirror at a time against batches of all of them."""

import copy
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from measure import Row, compare, difference, row
from PIL import Image

from wsss.data.index import Entry
from wsss.data.normalisation import Normalisation
from wsss.inference.cam_maps import SizeRule, cam_size
from wsss.inference.multiscale import Forward, inference, plan_batches
from wsss.inference.trained import normalisation
from wsss.inference.views import TestTimeAugmentation
from wsss.machine.runtime import Runtime
from wsss.methods.cam.method import CamNet
from wsss.nets.backbone import Network
from wsss.nets.deeplab import build_deeplab
from wsss.settings import SegmenterParams

IMAGES, SIDE, CLASSES, BATCH = 16, 160, 20, 8
SCALES = (1.0, 0.5, 1.5)
CORES = len(os.sched_getaffinity(0))  # a job has several, and a network uses them
WHY = "Where one image fills the cores already, batches save little; measured on few cores."
NETS = (("tf_efficientnet_lite0", 16), ("resnet50", 16), ("deit_small_patch16_224", 16))


def cam_inference() -> Iterator[Row]:
    """Make the CAMs of images with three networks both ways."""
    torch.set_num_threads(CORES)
    with tempfile.TemporaryDirectory() as folder:
        entries = _draw(Path(folder))
        for name, stride in NETS:
            torch.manual_seed(0)
            net = CamNet(name, stride, CLASSES, 0.0).eval()
            yield _row(f"CAM inference, {name}", entries, net, net.maps, cam_size(4))


def mask_inference() -> Iterator[Row]:
    """Predict images with DeepLab-v2 both ways."""
    torch.set_num_threads(CORES)
    params = SegmenterParams(backbone="resnet50", stride=16)
    torch.manual_seed(0)
    net = build_deeplab(params, CLASSES).eval()
    with tempfile.TemporaryDirectory() as folder:
        entries = _draw(Path(folder))
        yield _row("segmentation, DeepLab-v2 on resnet50", entries, net, net, lambda size: size)


def _draw(folder: Path) -> list[Entry]:
    generator = np.random.default_rng(0)
    entries = []
    for number in range(IMAGES):
        path = folder / f"{number:02d}.png"
        pixels = generator.integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
        entries.append(Entry(path.stem, str(path), None, (), "train", (SIDE, SIDE), ""))
    return entries


def _row(what: str, entries: list[Entry], net: Network, look: Forward, size: SizeRule) -> Row:
    normalise = normalisation(net)
    usual = copy.deepcopy(net)  # in the order of weights that PyTorch starts with
    plain_look = usual.maps if isinstance(usual, CamNet) else usual
    runtime = Runtime.start("fp32")
    runtime.place(net)
    both = compare(
        lambda: one_by_one(plain_look, entries, size, normalise),
        lambda: batched(look, entries, size, normalise, runtime),
        rounds=6,
    )
    plain, ours = (torch.stack([each.result[entry.name] for entry in entries]) for each in both)
    setting = f"{IMAGES} images of {SIDE} px, {len(SCALES)} scales, mirrored, all cores"
    return row(
        what, setting, both, difference(plain, ours, what, 1e-4), goal=1.3, why=WHY, wall=True
    )


def one_by_one(
    look: Forward, entries: list[Entry], size: SizeRule, normalise: Normalisation
) -> dict[str, torch.Tensor]:
    """Return summed maps as the published scripts make them."""
    found = {}
    for entry in entries:
        picture, total = Image.open(entry.path), torch.zeros(())
        for scale in SCALES:
            side = round(SIDE * scale)
            resized = picture.resize((side, side), Image.Resampling.BICUBIC)
            for mirrored in (False, True):
                image = torch.from_numpy(normalise(np.asarray(resized)))[None]
                with torch.no_grad():
                    maps = look(image.flip(3) if mirrored else image)
                maps = F.interpolate(maps, size(entry.size), mode="bilinear", align_corners=False)
                total = total + (maps.flip(3) if mirrored else maps)[0]
        found[entry.name] = total
    return found


def batched(
    look: Forward, entries: list[Entry], size: SizeRule, normalise: Normalisation, runtime: Runtime
) -> dict[str, torch.Tensor]:
    """Return summed maps as the pipeline makes them."""
    found: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        batches = plan_batches(entries, BATCH)
        augmentation = TestTimeAugmentation(SCALES, mirror=True, map_sizes=(size,))
        for some, (maps,) in inference(look, batches, augmentation, normalise, runtime):
            found |= {entry.name: own for entry, own in zip(some, maps, strict=True)}
    return found
