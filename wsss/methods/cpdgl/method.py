"""CPDGL: class prototypes and global-local contrast, based on SeCo (Yang et al., CVPR 2024).

SeCo is the same method with other weights; cpdgl.yaml and seco.yaml describe them.
Differences: the encoding of the image is also used as its first global view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, Protocol, cast

import torch
from torch import Tensor

from wsss.machine.runtime import gather
from wsss.methods.single_stage import crops, online_labels
from wsss.methods.single_stage.base import (
    Guide,
    Schedule,
    SingleStage,
    SingleStageHyperParameters,
    Views,
    crop_rule,
)
from wsss.methods.single_stage.contrast import (
    LocalForm,
    PrototypeForm,
    local_loss,
    prototype_loss,
)
from wsss.methods.single_stage.crops import CropRule
from wsss.methods.single_stage.network import (
    QUEUE_LAYOUT,
    Encoded,
    QueueNet,
    QueueNetworkHyperParameters,
    SingleStageNet,
    class_token,
    steady,
)

SEVERAL = -1  # stands for the class of an image with several classes


class CPDGLHyperParameters(SingleStageHyperParameters, QueueNetworkHyperParameters, Protocol):
    """The hyper-parameters of CPDGL and SeCo; cpdgl.yaml explains them."""

    prototypes_from: int
    last_layer_crops_from: int
    local_weight: float
    prototype_weight: float
    momentum: float
    prototype_momentum: float
    local_form: LocalForm
    prototype_form: PrototypeForm
    local_temperature: float
    prototype_temperature: float
    gather: Literal["real", "ones"]
    crop_absent_tag: int
    crop_class_weights: bool


CPDGLSchedule = Schedule[CPDGLHyperParameters]


class CPDGL(SingleStage[CPDGLHyperParameters]):
    """Contrast of crop tokens with a labelled queue of teacher tokens and with class prototypes."""

    hyper_parameter_types = {"classifier": CPDGLHyperParameters}
    published = QUEUE_LAYOUT

    def build(self, network: str) -> QueueNet:
        """Return the network."""
        return QueueNet(self.params[network].backbone, self.classes, self.hyper_parameters)

    def contrast_weights(self, parameters: CPDGLHyperParameters) -> dict[str, float]:
        """Return the full weights of the contrasts with the queue and with prototypes."""
        return {"local": parameters.local_weight, "prototype": parameters.prototype_weight}

    def contrast(
        self,
        net: SingleStageNet,
        encoded: Encoded,
        views: Views,
        guide: Guide,
        schedule: CPDGLSchedule,
    ) -> dict[str, Tensor]:
        """Return both contrasts, and update prototypes, teachers and queue."""
        net, parameters = cast("QueueNet", net), schedule.hyper_parameters
        gathered = _gathering(parameters)
        corners, tags = self.crops(views, guide, schedule)
        if schedule.step >= parameters.prototypes_from:
            tokens, classes = gathered(encoded.token.detach()), gathered(single_class(views.label))
            net.learn_prototypes(tokens, classes, parameters.prototype_momentum)
        counts = bool(schedule.weights["local"] or schedule.weights["prototype"])
        with steady(net):
            with torch.set_grad_enabled(counts):
                whole = class_token(net.backbone, views.whole)
                whole = torch.stack([encoded.token, whole], 1)
                anchors = self.anchors(net, whole, views, corners) if counts else None
            keys = self.keys(net, whole.detach(), views, corners, schedule)
        tags = tags.flatten().to(keys.device)
        net.enqueue(gathered(keys), gathered(tags))
        if parameters.gather == "ones":
            keys = gathered(keys)
        return {} if anchors is None else self.terms(net, anchors, keys, tags, schedule)

    def crops(self, views: Views, guide: Guide, schedule: CPDGLSchedule) -> tuple[Tensor, Tensor]:
        """Return the corners (B, crops, 2) of the crops and the tags (B, 2 + crops)."""
        cams = schedule.choose(guide, schedule.hyper_parameters.last_layer_crops_from)
        valid = online_labels.valid_cam(cams, views.label)
        labels = online_labels.three_way(valid, schedule.thresholds, online_labels.UNSURE)
        labels = online_labels.boxed(labels, views.box)
        return crops.tagged_crops(labels, tag_rule(schedule.hyper_parameters))

    def anchors(self, net: QueueNet, whole: Tensor, views: Views, corners: Tensor) -> Tensor:
        """Return the student's projections ((2 + crops) * B, D), image by image.

        whole: tokens of the global views (B, 2, D). corners: of the crops (B, crops, 2).
        """
        local = crops.cut(views.image, corners, self.hyper_parameters.crop_px)
        tokens = class_token(net.backbone, local.flatten(0, 1)).view(*local.shape[:2], -1)
        return net.student_head(torch.cat([whole, tokens], 1).flatten(0, 1))  # type: ignore[no-any-return]

    @torch.no_grad()
    def keys(
        self, net: QueueNet, whole: Tensor, views: Views, corners: Tensor, schedule: CPDGLSchedule
    ) -> Tensor:
        """Move the teachers, and return their projections ((2 + crops) * B, D), image by image.

        whole: tokens of the global views (B, 2, D), from the student, as published.
        """
        parameters = schedule.hyper_parameters
        momentum = parameters.momentum if schedule.step else 0.0  # they start as copies
        net.follow_encoder(momentum)
        net.follow(momentum)
        local = crops.cut(views.local, corners, parameters.crop_px)
        tokens = class_token(net.teacher, local.flatten(0, 1)).view(*local.shape[:2], -1)
        return net.teacher_head(torch.cat([whole, tokens], 1).flatten(0, 1))  # type: ignore[no-any-return]

    def terms(
        self, net: QueueNet, anchors: Tensor, keys: Tensor, tags: Tensor, schedule: CPDGLSchedule
    ) -> dict[str, Tensor]:
        """Return the two losses; the prototype loss uses the tags that the local loss has revised."""
        parameters = schedule.hyper_parameters
        candidates = torch.cat([keys, net.queue])
        tags = tags.to(anchors.dtype)
        candidate_tags = torch.cat([tags, net.queue_tags[:, 0]])
        local, revised = local_loss(
            anchors, candidates, tags, candidate_tags, parameters.local_form,
            parameters.local_temperature,
        )  # fmt: skip
        prototype = prototype_loss(
            anchors, net.prototypes.clone(), revised, parameters.prototype_form,
            parameters.prototype_temperature,
        )  # fmt: skip
        return {"local": local, "prototype": prototype}


def tag_rule(parameters: CPDGLHyperParameters) -> CropRule:
    """Return the rule by which crops are cut and tagged with classes."""
    return replace(
        crop_rule(parameters),
        class_weights=parameters.crop_class_weights,
        absent=parameters.crop_absent_tag,
    )


def single_class(label: Tensor) -> Tensor:
    """Return the class (B,), from 1, of images (B, C) with a single class; -1 for the others."""
    return torch.where(label.sum(1) == 1, label.argmax(1) + 1, SEVERAL)


def _gathering(parameters: CPDGLHyperParameters) -> Callable[[Tensor], Tensor]:
    """Return the function that gathers values of all processes or, as published, makes them ones."""
    return torch.ones_like if parameters.gather == "ones" else gather


METHOD = CPDGL
