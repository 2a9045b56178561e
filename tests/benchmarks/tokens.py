"""PCSS: frequencies measured, a training step and a CAM, plainly as specified against ours."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from measure import Row, difference, row
from measure import compare as in_turns
from torch import Tensor

from wsss.inference.cam_maps import over_range_cut
from wsss.methods.pcss.influence import without_blocks
from wsss.methods.pcss.method import PCSS, PCSSNet, present_losses
from wsss.methods.pcss.spectrum import removed_blocks
from wsss.settings import AugmentParams, MethodNetworkParams, method_spec

CLASSES, SIDE, BLOCK, IMAGES = 20, 96, 16, 4
WHY = "The network's passes, the same both ways, take most of the time."
SETTING = f"{IMAGES} images of {SIDE} px"


def pcss() -> Iterator[Row]:
    """Do each part both ways with DeiT-S on images of 96 px."""
    torch.manual_seed(0)
    settings = method_spec.hyper_parameters("pcss", "classifier", drop_path=0.0)
    params = MethodNetworkParams(
        backbone="deit_small_patch16_224",
        stride=16,
        augment=AugmentParams(crop_px=SIDE),
        hyper_parameters=settings,
    )
    method = PCSS({"classifier": params}, CLASSES)
    net = method.build("classifier").eval()
    net.influence.epoch.fill_(3)
    net.influence.update(torch.rand(CLASSES, SIDE // BLOCK, SIDE // BLOCK))
    images = torch.randn(IMAGES, 3, SIDE, SIDE)
    labels = (torch.rand(IMAGES, CLASSES) < 0.2).float()
    yield measured(net, images, labels)
    yield step(method, net, images, labels)
    yield cam(method, net)


def compare(
    what: str,
    setting: str,
    plain: Callable[[], Tensor],
    ours: Callable[[], Tensor],
    most: float,
) -> Row:
    """Return the line of both ways."""
    plain(), ours()
    both = in_turns(plain, ours, rounds=5)
    said = difference(both[0].result, both[1].result, what, most)
    return row(what, setting, both, said, goal=1, why=WHY)


def measured(net: PCSSNet, images: Tensor, labels: Tensor) -> Row:
    """Measure the influence of every block on the classes of a batch."""
    count = SIDE // BLOCK

    @torch.no_grad()
    def plain() -> Tensor:
        found = torch.zeros(CLASSES, count, count)
        shifted = torch.fft.fftshift(torch.fft.fft2(images), dim=(-2, -1))
        for above, left in np.ndindex(count, count // 2 + 1):
            mask = torch.ones(SIDE, SIDE)
            blocks = removed_blocks(above, left, count)
            for r, c in blocks:
                mask[r * BLOCK : (r + 1) * BLOCK, c * BLOCK : (c + 1) * BLOCK] = 0
            changed = torch.fft.ifft2(torch.fft.ifftshift(shifted * mask, dim=(-2, -1))).real
            seen = net.encode(changed, "mean")
            losses = F.softplus(-seen.class_logits) + F.softplus(-net.patch_logits(seen))
            for r, c in blocks:
                found[:, r, c] = (losses * labels).sum(0)
        return found

    def ours() -> Tensor:
        with torch.no_grad():
            return without_blocks(present_losses(net), images, labels > 0, count, 64)

    return compare("PCSS, influence of frequencies", SETTING, plain, ours, 1e-4)


def step(method: PCSS, net: PCSSNet, images: Tensor, labels: Tensor) -> Row:
    """Do one training step with all three passes, up to the gradients."""
    order = torch.arange(IMAGES).roll(1)
    method.order = lambda count: order  # type: ignore[method-assign]

    def gradients(terms: Callable[[], Tensor]) -> Tensor:
        net.zero_grad()
        terms().backward()
        return torch.cat([w.grad.flatten() for w in net.parameters() if w.grad is not None])

    def ours() -> Tensor:
        batch = {"image": images, "label": labels}
        terms = method.losses("classifier", {"classifier": net}, batch, 0)
        return torch.stack(list(terms.values())).sum()

    return compare(
        "PCSS, a training step",
        SETTING,
        lambda: gradients(lambda: plain_loss(method, net, images, labels, order)),
        lambda: gradients(ours),
        2e-3,  # of phases: see the golden tests
    )


def plain_loss(method: PCSS, net: PCSSNet, images: Tensor, labels: Tensor, order: Tensor) -> Tensor:
    """Return the loss by the letter: whole spectra, attention and maps in every pass."""
    block, side = method.mixed_block(net), images.shape[-1]
    keep = labels @ (1 - net.influence.mask()).flatten(1) / labels.sum(1, keepdim=True)
    keep = keep.reshape(-1, 1, side, side)
    shifted = torch.fft.fftshift(torch.fft.fft2(images), dim=(-2, -1))
    damped = torch.fft.ifft2(torch.fft.ifftshift(shifted * keep, dim=(-2, -1))).real
    present = (labels.sum(1) > 0)[:, None, None, None]
    damped = torch.where(present, damped, images)
    first = net.encode(images, "mean", keep=(block,))
    grid = first.scores.shape[2:]
    magnitude = torch.fft.fft2(net.backbone.as_map(first.block_tokens[block], grid)).abs()
    magnitude = 0.3 * magnitude + 0.7 * magnitude.detach()[order]

    def change(tokens: Tensor) -> Tensor:
        phase = torch.fft.fft2(net.backbone.as_map(tokens, grid)).angle()
        mixed = torch.fft.ifft2(torch.polar(magnitude, phase)).real
        return torch.cat([tokens[:, :CLASSES], mixed.flatten(2).transpose(1, 2)], 1)

    third, second = net.encode(damped, "mean"), net.encode(images, "mean", change={block: change})
    total = torch.zeros(())
    for seen in (first, second, third):
        for scores in (seen.class_logits, net.patch_logits(seen)):
            total = total + F.multilabel_soft_margin_loss(scores, labels)
    maps = [over_range_cut(seen.patch_map) for seen in (first, third)]
    total = total + 2 * ((maps[0] - maps[1]).abs() * present).mean()
    fine = [over_range_cut(method.refined(net, seen)) for seen in (first, second)]
    return total + 2 * (fine[0].detach() - fine[1]).abs().mean()


def cam(method: PCSS, net: PCSSNet) -> Row:
    """Make the CAM of one image and its mirror image."""
    image = torch.randn(1, 3, 224, 320)

    @torch.inference_mode()
    def plain() -> Tensor:
        total = torch.zeros(())
        for picture, flip in ((image, False), (image.flip(3), True)):
            seen = net.encode(picture, "heads")
            seen.attention = [weights.mean(1) for weights in seen.attention]
            count = CLASSES
            tokens = torch.stack([w[:, :count, count:] for w in seen.attention]).mean(0)
            fused = tokens * seen.patch_map.flatten(2)
            affinity = torch.stack([w[:, count:, count:] for w in seen.attention]).sum(0)
            maps = (affinity @ fused.transpose(1, 2)).transpose(1, 2).reshape(seen.scores.shape)
            total = total + (maps.flip(3) if flip else maps)
        return total

    @torch.inference_mode()
    def ours() -> Tensor:
        straight, mirrored = method.cam(net, torch.cat([image, image.flip(3)])).chunk(2)
        return straight + mirrored.flip(3)

    return compare("PCSS, a CAM", "224x320 px, mirrored", plain, ours, 1e-4)
