"""A transformer with two CAM heads, a decoder and a contrastive branch (ToCo, SeCo, CPDGL).

One CAM head scores the last layer's patches, the other one an auxiliary layer's. Teachers, prototypes
and the queue belong to the network's state, so that they are saved and resumed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

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

# The published file of SeCo and CPDGL, which also holds an unused layer of the projections.
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


class NetworkHyperParameters(Protocol):
    """The hyper-parameters of both networks; toco.yaml and cpdgl.yaml explain them."""

    aux_layer: int
    rates: tuple[int, ...]
    hidden: int


class ToCoNetworkHyperParameters(NetworkHyperParameters, Protocol):
    """The hyper-parameters of ToCo's network; toco.yaml explains them."""

    decoder_width: int
    bottleneck: int
    codes: int


class QueueNetworkHyperParameters(NetworkHyperParameters, Protocol):
    """The hyper-parameters of the network of SeCo and CPDGL; cpdgl.yaml explains them."""

    queue: int
    queue_as_published: bool


@dataclass(frozen=True)
class Encoded:
    """The encoder's result for images.

    token: the class token (B, D). features: the last layer's patches (B, D, h, w). auxiliary: the
    auxiliary layer's patches (B, D, h, w).
    """

    token: Tensor
    features: Tensor
    auxiliary: Tensor


class LargeFOV(nn.Module):
    """ToCo's decoder: two dilated 3x3 convolutions and a 1x1."""

    def __init__(self, channels: int, classes: int, rate: int, width: int) -> None:
        super().__init__()
        self.conv6 = nn.Conv2d(channels, width, 3, padding=rate, dilation=rate, bias=False)
        self.conv7 = nn.Conv2d(width, width, 3, padding=rate, dilation=rate, bias=False)
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
    """A linear layer without bias whose weight rows have a fixed length (weight normalisation)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(out, 1), requires_grad=False)
        self.weight_v = nn.Parameter(nn.Linear(channels, out, bias=False).weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out)."""
        length = self.weight_v.norm(dim=1, keepdim=True)
        return F.linear(x, self.weight_v * (self.weight_g / length))


class Projection(nn.Module):
    """Three layers onto unit vectors and, if `codes` is not 0, scores of so many codes (DINO)."""

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
    """The common part of the networks. classes: without background.

    Subclasses build the decoder and the projection.
    """

    backbone: ViT
    decoder: nn.Module
    student_head: nn.Module
    teacher_head: nn.Module

    def __init__(
        self, backbone: str, classes: int, hyper_parameters: NetworkHyperParameters
    ) -> None:
        super().__init__()
        self.backbone = ViT(transformer(backbone))
        width, depth = self.backbone.shape.width, self.backbone.shape.depth
        self.auxiliary_block = hyper_parameters.aux_layer % depth
        self.classifier = nn.Conv2d(width, classes, 1, bias=False)
        self.aux_classifier = nn.Conv2d(width, classes, 1, bias=False)

    def encode(self, images: Tensor) -> Encoded:
        """Send images (B, 3, H, W) through the encoder."""
        tokens, grid = self.backbone.embed(images)
        run = self.backbone.run(tokens, keep=(self.auxiliary_block,))
        last = self.backbone.norm(run.tokens)
        auxiliary = self.backbone.as_map(run.block_tokens[self.auxiliary_block], grid)
        return Encoded(last[:, 0], self.backbone.as_map(last, grid), auxiliary)

    def scores(self, encoded: Encoded) -> tuple[Tensor, Tensor]:
        """Return scores (B, classes) of the maxima of the last and of the auxiliary layer."""
        return (
            self.classifier(encoded.features.amax((2, 3), keepdim=True)).flatten(1),
            self.aux_classifier(encoded.auxiliary.amax((2, 3), keepdim=True)).flatten(1),
        )

    def cams(self, encoded: Encoded) -> tuple[Tensor, Tensor]:
        """Return the signed class maps (B, classes, h, w) of the last and of the auxiliary layer."""
        return self.classifier(encoded.features), self.aux_classifier(encoded.auxiliary)

    def forward(self, images: Tensor) -> Tensor:
        """Return the decoder's logits (B, 1 + classes, h, w)."""
        return self.decoder(self.encode(images).features)  # type: ignore[no-any-return]

    def follow(self, momentum: float) -> None:
        """Move the projection's teacher towards the student; momentum 0 makes them equal."""
        move(self.teacher_head, self.student_head, momentum)


class ToCoNet(SingleStageNet):
    """The network of ToCo, whose projections end in scores of codes."""

    def __init__(
        self, backbone: str, classes: int, hyper_parameters: ToCoNetworkHyperParameters
    ) -> None:
        super().__init__(backbone, classes, hyper_parameters)
        width, rate = self.backbone.shape.width, hyper_parameters.rates[0]
        self.decoder = LargeFOV(width, classes + 1, rate, hyper_parameters.decoder_width)
        self.student_head = Projection(
            width, hyper_parameters.hidden, hyper_parameters.bottleneck, hyper_parameters.codes
        )
        self.teacher_head = teacher_of(self.student_head)


class QueueNet(SingleStageNet):
    """The network of SeCo and CPDGL, with a teacher of the encoder, prototypes and a queue of keys.

    queue_tags: the class of each key, from 1; 0 is background, -1 is unknown.
    """

    prototypes: Tensor
    queue: Tensor
    queue_tags: Tensor
    queue_next: Tensor

    def __init__(
        self, backbone: str, classes: int, hyper_parameters: QueueNetworkHyperParameters
    ) -> None:
        super().__init__(backbone, classes, hyper_parameters)
        width, length = self.backbone.shape.width, hyper_parameters.queue
        self.decoder = SummedDilations([width], classes + 1, hyper_parameters.rates)
        self.student_head = Projection(width, hyper_parameters.hidden, width, 0)
        self.teacher_head = teacher_of(self.student_head)
        self.teacher = teacher_of(self.backbone)
        self.register_buffer("prototypes", torch.randn(classes, width))
        over_rows = hyper_parameters.queue_as_published
        keys = F.normalize(torch.randn(length, width), dim=0 if over_rows else 1)
        self.register_buffer("queue", keys)
        self.register_buffer("queue_tags", torch.full((length, 1), 0.0 if over_rows else -1.0))
        self.register_buffer("queue_next", torch.zeros(1, dtype=torch.long))

    def follow_encoder(self, momentum: float) -> None:
        """Move the encoder's teacher towards the encoder."""
        move(self.teacher, self.backbone, momentum)

    @torch.no_grad()
    def learn_prototypes(self, tokens: Tensor, classes: Tensor, momentum: float) -> None:
        """Move the prototype of each image's class towards its token (n, D), one after another.

        classes: (n,) from 1; tokens of images with several classes (-1) are left out.
        """
        for token, number in zip(tokens, classes.tolist(), strict=True):
            if number > 0:
                row = self.prototypes[int(number) - 1]
                row.mul_(momentum).add_(token, alpha=1 - momentum)
        self.prototypes.copy_(F.normalize(self.prototypes, dim=1))

    @torch.no_grad()
    def enqueue(self, keys: Tensor, tags: Tensor) -> None:
        """Overwrite the oldest keys of the queue with keys (n, D) and their tags (n,)."""
        length = len(self.queue)
        rows = (self.queue_next + torch.arange(len(keys), device=keys.device)) % length
        self.queue[rows] = keys.to(self.queue.dtype)
        self.queue_tags[rows, 0] = tags.to(self.queue_tags.dtype)
        self.queue_next.copy_((self.queue_next + len(keys)) % length)


def class_token(encoder: ViT, images: Tensor) -> Tensor:
    """Return the class token (B, D) after the last LayerNorm."""
    return encoder.norm(encoder.run(encoder.embed(images)[0]).tokens[:, :1])[:, 0]  # type: ignore[no-any-return]


def teacher_of(student: Module) -> Module:
    """Return a copy of a module that has no gradients."""
    return copy.deepcopy(student).requires_grad_(False)


@torch.no_grad()
def move(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Blend all parameters of a teacher with its student's, and copy buffers such as statistics."""
    for weight, source in zip(teacher.parameters(), student.parameters(), strict=True):
        weight.mul_(momentum).add_(source.detach(), alpha=1 - momentum)
    for statistic, source_statistic in zip(teacher.buffers(), student.buffers(), strict=True):
        statistic.copy_(source_statistic)


@contextmanager
def steady(module: nn.Module) -> Iterator[None]:
    """Run a block in evaluation mode, so that statistics of normalisation do not change."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
