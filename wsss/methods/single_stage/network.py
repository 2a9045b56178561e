"""A transformer with two CAM heads, a decoder and a contrastive branch (ToCo, SeCo, CPDGL).

The heads sit on the last patches and on those of a middle block. What changes by itself in training,
the teachers, prototypes and the queue, belongs to the network's state, so it is saved and resumed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.nets.backbone import Network
from wsss.nets.deeplab import ASPP
from wsss.nets.vit import ViT, transformer
from wsss.storage.checkpoint import Layout

Module = TypeVar("Module", bound=nn.Module)

ENCODERS = ((r"^encoder\.", "backbone."), (r"^encoder_k\.", "teacher."))
HEADS = ((r"^proj_head\.", "student_head."), (r"^proj_head_t\.", "teacher_head."))
UNUSED = (r"encoder(_k)?\.head\..*",)  # the classifier of the ImageNet weights

# The published file of SeCo and CPDGL, with a layer of the projections that nothing goes through.
QUEUE_LAYOUT = Layout(
    (
        *ENCODERS,
        *HEADS,
        (r"^decoder\.c(\d)\.", r"decoder.branches.\1."),
        (r"^queue_label_flag$", "queue_tags"),
        (r"^queue_ptr$", "queue_next"),
    ),
    (*UNUSED, r"proj_head(_t)?\.last_layer\..*"),
)
TOCO_LAYOUT = Layout((*ENCODERS, *HEADS), UNUSED)


@dataclass(frozen=True)
class Seen:
    """What the encoder makes of images.

    token: of the class (B, D). features: of the patches (B, D, h, w); middle: of a middle block.
    """

    token: Tensor
    features: Tensor
    middle: Tensor


class LargeFOV(nn.Module):
    """ToCo's decoder: two dilated 3x3 convolutions and a 1x1."""

    def __init__(self, channels: int, classes: int, rate: int, width: int) -> None:
        super().__init__()
        near = {"padding": rate, "dilation": rate, "bias": False}
        self.conv6 = nn.Conv2d(channels, width, 3, **near)  # type: ignore[arg-type]  # of three types
        self.conv7 = nn.Conv2d(width, width, 3, **near)  # type: ignore[arg-type]  # of three types
        self.conv8 = nn.Conv2d(width, classes, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, classes, h, w)."""
        x = F.relu(self.conv7(F.relu(self.conv6(features))))
        return self.conv8(x)  # type: ignore[no-any-return]  # nn.Module call


class SummedDilations(ASPP):
    """DeepLab-v2's head on one feature map: the decoder of SeCo and CPDGL."""

    def forward(self, features: Any) -> Tensor:
        """Return logits (B, classes, h, w)."""
        return super().forward([features])


class NormedLinear(nn.Module):
    """A linear layer without bias whose rows have a fixed length (classic weight normalisation)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(out, 1), requires_grad=False)
        self.weight_v = nn.Parameter(nn.Linear(channels, out, bias=False).weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out)."""
        length = self.weight_v.norm(dim=1, keepdim=True)
        return F.linear(x, self.weight_v * (self.weight_g / length))


class Projection(nn.Module):
    """Three layers onto unit vectors, and, if there are codes, a score for each of these (DINO)."""

    def __init__(self, channels: int, hidden: int, out: int, codes: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(),
            nn.Linear(hidden, out),
        )  # fmt: skip
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last_layer: nn.Module = NormedLinear(out, codes) if codes else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (n, out) of unit length, or scores (n, codes)."""
        return self.last_layer(F.normalize(self.mlp(tokens), dim=1))  # type: ignore[no-any-return]


class SingleStageNet(Network):
    """The network of ToCo; `settings` are those of the method's YAML. classes: without background."""

    backbone: ViT

    def __init__(self, backbone: str, classes: int, settings: dict[str, Any]) -> None:
        super().__init__()
        self.backbone = ViT(transformer(backbone))
        width, depth = self.backbone.shape.width, self.backbone.shape.depth
        self.middle = settings["aux_layer"] % depth
        self.classifier = nn.Conv2d(width, classes, 1, bias=False)
        self.aux_classifier = nn.Conv2d(width, classes, 1, bias=False)
        self.decoder = self.build_decoder(width, classes + 1, settings)
        codes = settings.get("codes", 0)
        out = settings["bottleneck"] if codes else width  # else compared with the tokens themselves
        self.student_head = Projection(width, settings["hidden"], out, codes)
        self.teacher_head = teacher_of(self.student_head)

    def build_decoder(self, width: int, classes: int, settings: dict[str, Any]) -> nn.Module:
        """Return the decoder of features with `width` channels. classes: with background."""
        return LargeFOV(width, classes, settings["rates"][0], settings["decoder_width"])

    def see(self, images: Tensor) -> Seen:
        """Return what the encoder makes of images (B, 3, H, W)."""
        tokens, grid = self.backbone.embed(images)
        seen = self.backbone.run(tokens, keep=(self.middle,))
        final = self.backbone.norm(seen.tokens)
        middle = self.backbone.as_map(seen.kept[self.middle], grid)
        return Seen(final[:, 0], self.backbone.as_map(final, grid), middle)

    def scores(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """Return scores (B, classes) of the final and of the middle patches: of their maxima."""
        return (
            self.classifier(seen.features.amax((2, 3), keepdim=True)).flatten(1),
            self.aux_classifier(seen.middle.amax((2, 3), keepdim=True)).flatten(1),
        )

    def cams(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """Return the signed class maps (B, classes, h, w) of the final and of the middle patches."""
        return self.classifier(seen.features), self.aux_classifier(seen.middle)

    def forward(self, images: Tensor) -> Tensor:
        """Return the decoder's logits (B, 1 + classes, h, w)."""
        return self.decoder(self.see(images).features)  # type: ignore[no-any-return]

    def follow(self, momentum: float) -> None:
        """Move the teachers towards the students; momentum 0 makes them equal."""
        move(self.teacher_head, self.student_head, momentum)


class QueueNet(SingleStageNet):
    """The network of SeCo and CPDGL: with a teacher of the encoder, prototypes and a queue of keys.

    queue_tags: the class of each key, from 1; 0 is background, -1 says nothing.
    """

    prototypes: Tensor
    queue: Tensor
    queue_tags: Tensor
    queue_next: Tensor

    def __init__(self, backbone: str, classes: int, settings: dict[str, Any]) -> None:
        super().__init__(backbone, classes, settings)
        self.teacher = teacher_of(self.backbone)
        width, length = self.backbone.shape.width, settings["queue"]
        self.register_buffer("prototypes", torch.randn(classes, width))
        over_rows = settings["queue_as_published"]
        keys = F.normalize(torch.randn(length, width), dim=0 if over_rows else 1)
        self.register_buffer("queue", keys)
        self.register_buffer("queue_tags", torch.full((length, 1), 0.0 if over_rows else -1.0))
        self.register_buffer("queue_next", torch.zeros(1, dtype=torch.long))

    def build_decoder(self, width: int, classes: int, settings: dict[str, Any]) -> nn.Module:
        """Return the decoder of features with `width` channels. classes: with background."""
        return SummedDilations([width], classes, settings["rates"])

    def follow_encoder(self, momentum: float) -> None:
        """Move the encoder's teacher towards the encoder."""
        move(self.teacher, self.backbone, momentum)

    @torch.no_grad()
    def learn_prototypes(self, tokens: Tensor, classes: Tensor, momentum: float) -> None:
        """Move the prototype of each image's class towards its token (n, D), one after another.

        classes: (n,) from 1; others than one class are left out.
        """
        for token, number in zip(tokens, classes.tolist(), strict=True):
            if number > 0:
                row = self.prototypes[int(number) - 1]
                row.mul_(momentum).add_(token, alpha=1 - momentum)
        self.prototypes.copy_(F.normalize(self.prototypes, dim=1))

    @torch.no_grad()
    def enqueue(self, keys: Tensor, tags: Tensor) -> None:
        """Write keys (n, D) and their tags (n,) over the oldest of the queue."""
        length = len(self.queue)
        rows = (self.queue_next + torch.arange(len(keys), device=keys.device)) % length
        self.queue[rows] = keys.to(self.queue.dtype)
        self.queue_tags[rows, 0] = tags.to(self.queue_tags.dtype)
        self.queue_next.copy_((self.queue_next + len(keys)) % length)


def class_token(encoder: ViT, images: Tensor) -> Tensor:
    """Return the token (B, D) of the class after the final LayerNorm."""
    return encoder.norm(encoder.run(encoder.embed(images)[0]).tokens[:, :1])[:, 0]  # type: ignore[no-any-return]


def teacher_of(student: Module) -> Module:
    """Return a copy of a module that has no gradients."""
    return copy.deepcopy(student).requires_grad_(False)


@torch.no_grad()
def move(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Blend all parameters of a teacher with its student's; buffers, such as statistics, are copied."""
    for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
        old.mul_(momentum).add_(new.detach(), alpha=1 - momentum)
    for kept, now in zip(teacher.buffers(), student.buffers(), strict=True):
        kept.copy_(now)


@contextmanager
def steady(module: nn.Module) -> Iterator[None]:
    """Run a block with statistics of normalisation that stay, whatever images it sees."""
    was = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was)
