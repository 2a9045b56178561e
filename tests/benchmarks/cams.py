"""CAM inference: one image, scale and mirror at a time against batches of all of them."""

import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from measure import measure, report
from PIL import Image

from wsss.cam import cam_size
from wsss.data.augment import Normalisation
from wsss.data.index import Entry
from wsss.localize import inference, plan_batches
from wsss.methods.cam import CamNet
from wsss.nets.backbone import Backbone
from wsss.runtime import Runtime
from wsss.schema import CamParams

IMAGES, SIDE, CLASSES = 24, 160, 11
SCALES = (1.0, 0.5, 1.5)


def cam_inference() -> None:
    """Make the CAMs of 24 images with EfficientNet-Lite0 both ways."""
    torch.manual_seed(0)
    net = CamNet("tf_efficientnet_lite0", 16, CLASSES, 0.0).eval()
    with tempfile.TemporaryDirectory() as folder:
        entries = _draw(Path(folder))
        plain = measure(lambda: one_by_one(net, entries))
        runtime = Runtime.start("fp32")
        runtime.place(net)
        ours = measure(lambda: batched(net, entries, runtime))
    scale = max(float(maps.abs().max()) for maps in plain.result.values())
    difference = max(
        float((plain.result[name] - ours.result[name]).abs().max()) for name in plain.result
    )
    if difference > 1e-4 * scale:
        raise SystemExit(f"the CAMs differ by {difference / scale:.2g} of the maximum")
    agreement = f"largest difference {difference / scale:.1e} of the maximum"
    report(
        f"CAM inference, {IMAGES} images, {len(SCALES)} scales", plain, ours, agreement, wall=True
    )


def _draw(folder: Path) -> list[Entry]:
    generator = np.random.default_rng(0)
    entries = []
    for number in range(IMAGES):
        path = folder / f"{number:02d}.png"
        pixels = generator.integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
        entries.append(Entry(path.stem, str(path), None, (), "train", (SIDE, SIDE), path.stem))
    return entries


def _normalise(backbone: Backbone) -> Normalisation:
    return Normalisation(backbone.mean, backbone.std)


def one_by_one(net: CamNet, entries: list[Entry]) -> dict[str, torch.Tensor]:
    """Return summed maps as the published scripts make them."""
    normalise, found = _normalise(net.backbone), {}
    for entry in entries:
        picture, total = Image.open(entry.path), torch.zeros(CLASSES, *cam_size(4)(entry.size))
        for scale in SCALES:
            side = round(SIDE * scale)
            resized = picture.resize((side, side), Image.Resampling.BICUBIC)
            for mirrored in (False, True):
                image = torch.from_numpy(normalise(np.asarray(resized)))[None]
                with torch.no_grad():
                    maps = net.maps(image.flip(3) if mirrored else image)
                maps = F.interpolate(maps, total.shape[1:], mode="bilinear", align_corners=False)
                total += (maps.flip(3) if mirrored else maps)[0]
        found[entry.name] = total
    return found


def batched(net: CamNet, entries: list[Entry], runtime: Runtime) -> dict[str, torch.Tensor]:
    """Return summed maps as the pipeline makes them."""
    found = {}
    with torch.inference_mode():
        batches, normalise = plan_batches(entries, 8), _normalise(net.backbone)
        params = CamParams(scales=SCALES)
        for some, maps in inference(net.maps, batches, params, cam_size(4), normalise, runtime):
            found |= {entry.name: own for entry, own in zip(some, maps, strict=True)}
    return found
