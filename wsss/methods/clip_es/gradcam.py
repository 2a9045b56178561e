"""GradCAM of a frozen CLIP: which patches make an image resemble each of its classes.

The classes of an image and many backgrounds compete in one softmax; a map of a class comes from the
gradient of its probability at the input of the last block's attention.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss.methods.clip_es.network import ClipNet
from wsss.refine.attention import over_largest


@dataclass(frozen=True)
class GradCam:
    """What GradCAM yields for a batch of images.

    maps: in [0, 1] (B, C, h, w), zeros for absent classes. probability: of the present classes and all
    backgrounds (B, C + K). attention: of the last block, averaged over heads (B, N, N).
    """

    maps: Tensor
    probability: Tensor
    attention: Tensor


def gradcam(
    net: ClipNet,
    tokens: Tensor,
    grid: tuple[int, int],
    present: Tensor,
    logit_scale: float,
    half: bool = False,
) -> GradCam:
    """Return the maps of the present classes (B, C), 0 or 1, even in inference mode.

    tokens: before the last block (B, 1 + h * w, D). grid: (h, w). logit_scale: factor of similarities
    before the softmax. half: compute the last block in float16.
    """
    with differentiable(tokens.device.type, half):
        tokens = tokens.float().clone()
        normal = net.last.norm1(tokens).detach().requires_grad_()
        vectors, weights = net.last_block(tokens, normal)
        scores = logit_scale * similarities(net, vectors, present > 0)
        with torch.autocast(tokens.device.type, enabled=False):
            probability = (scores.half() if half else scores.float()).softmax(1)
        maps = class_maps(probability, normal, present > 0, net.backbone.special)
    maps = over_largest(over_largest(maps.reshape(*maps.shape[:2], *grid)))
    return GradCam(maps, probability.detach(), weights.detach().float())


def similarities(net: ClipNet, vectors: Tensor, present: Tensor) -> Tensor:
    """Return the similarity of vectors (B, D) to classes and backgrounds (B, C + K); absent ones -inf."""
    similarity = vectors @ torch.cat([net.classes, net.background]).T
    counts = F.pad(present, (0, len(net.background)), value=True)
    return similarity.masked_fill(~counts, -torch.inf)


@contextmanager
def differentiable(device: str, half: bool) -> Iterator[None]:
    """Compute gradients, even in inference mode; matrix products in float16 if `half`, else float32."""
    precision = torch.autocast(device, torch.float16, enabled=half)
    with torch.inference_mode(False), torch.enable_grad(), precision:
        yield


def class_maps(probability: Tensor, tokens: Tensor, present: Tensor, special: int) -> Tensor:
    """Return the positive part of GradCAM's maps (B, C, n) of the present classes (B, C).

    probability: of classes and backgrounds (B, C + K), computed from `tokens` (B, special + n, D). One
    backward pass serves one class of every image.
    """
    counts = present.sum(1)
    order = present.int().sort(dim=1, descending=True, stable=True).indices
    patches = tokens.detach()[:, special:]
    maps = patches.new_zeros(*present.shape, patches.shape[1])
    for number in range(int(counts.max())):
        chosen, images = order[:, number], counts > number
        total = probability.gather(1, chosen[:, None])[images].sum()
        (gradient,) = torch.autograd.grad(total, tokens, retain_graph=True)
        weights = gradient[:, special:].mean(1, keepdim=True)
        scores = F.relu((weights * patches).sum(2))
        maps[images, chosen[images]] = scores[images].to(maps.dtype)
    return maps
