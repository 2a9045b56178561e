"""CPDGL: class prototypes and global-local contrast, on SeCo (Yang et al., CVPR 2024).

SeCo is the same method with other weights; both are described in cpdgl.yaml and seco.yaml.
Differences: one encoding of the image serves as its first global view too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from wsss.machine.runtime import gather
from wsss.methods.single_stage import crops, online_labels
from wsss.methods.single_stage.base import Guide, Moment, SingleStage, Views
from wsss.methods.single_stage.contrast import local_loss, prototype_loss
from wsss.methods.single_stage.network import (
    QUEUE_LAYOUT,
    QueueNet,
    Seen,
    SingleStageNet,
    class_token,
    steady,
)

NO_CLASS = -1  # of an image with several


class CPDGL(SingleStage):
    """Tokens of crops against a labelled queue of a teacher's tokens, and against prototypes."""

    contrasts = ("local", "prototype")
    network = QueueNet
    published = QUEUE_LAYOUT

    def contrast(
        self, net: SingleStageNet, seen: Seen, views: Views, guide: Guide, now: Moment
    ) -> dict[str, Tensor]:
        """Return both contrasts; prototypes, teachers and queue move on."""
        own, together = cast("QueueNet", net), _gathering(now)
        corners, tags = self.crops(views, guide, now)
        if now.has_begun("prototypes"):
            tokens, classes = together(seen.token.detach()), together(single_class(views.label))
            own.learn_prototypes(tokens, classes, now.settings["prototype_momentum"])
        counts = any(now.weights[name] for name in self.contrasts)
        with steady(own):
            with torch.set_grad_enabled(counts):
                whole = class_token(own.backbone, views.whole)
                whole = torch.stack([seen.token, whole], 1)
                anchors = self.anchors(own, whole, views, corners, now) if counts else None
            keys = self.keys(own, whole.detach(), views, corners, now)
        flat = tags.flatten().to(keys.device)
        own.enqueue(together(keys), together(flat))
        if now.settings["gather"] == "ones":
            keys = together(keys)
        return {} if anchors is None else self.terms(own, anchors, keys, flat, now)

    def crops(self, views: Views, guide: Guide, now: Moment) -> tuple[Tensor, Tensor]:
        """Return the corners (B, crops, 2) of the crops and the tags (B, 2 + crops)."""
        cams = guide.final if now.has_begun("last_layer_crops") else guide.middle
        valid = online_labels.valid_cam(cams, views.label)
        sure = online_labels.three_way(valid, now.thresholds, online_labels.UNSURE)
        return crops.tagged_crops(online_labels.boxed(sure, views.box), now.crops)

    def anchors(
        self, net: QueueNet, whole: Tensor, views: Views, corners: Tensor, now: Moment
    ) -> Tensor:
        """Return the student's projections ((2 + crops) * B, D), image by image."""
        local = crops.cut(views.image, corners, now.crops.side)
        tokens = class_token(net.backbone, local.flatten(0, 1)).view(*local.shape[:2], -1)
        return net.student_head(torch.cat([whole, tokens], 1).flatten(0, 1))  # type: ignore[no-any-return]

    @torch.no_grad()
    def keys(
        self, net: QueueNet, whole: Tensor, views: Views, corners: Tensor, now: Moment
    ) -> Tensor:
        """Let the teachers follow; return their projections ((2 + crops) * B, D), image by image.

        The tokens of the global views are the student's, as published.
        """
        momentum = now.settings["momentum"] if now.step else 0.0  # first, they are copies
        net.follow_encoder(momentum)
        net.follow(momentum)
        local = crops.cut(views.local, corners, now.crops.side)
        tokens = class_token(net.teacher, local.flatten(0, 1)).view(*local.shape[:2], -1)
        return net.teacher_head(torch.cat([whole, tokens], 1).flatten(0, 1))  # type: ignore[no-any-return]

    def terms(
        self, net: QueueNet, anchors: Tensor, keys: Tensor, tags: Tensor, now: Moment
    ) -> dict[str, Tensor]:
        """Return the two losses; the second sees the tags that the first has revised."""
        found = now.settings
        candidates = torch.cat([keys, net.queue])
        tags = tags.to(anchors.dtype)
        others = torch.cat([tags, net.queue_tags[:, 0]])
        near, revised = local_loss(
            anchors, candidates, tags, others, found["local_form"], found["local_temperature"]
        )
        far = prototype_loss(
            anchors, net.prototypes.clone(), revised, found["prototype_form"],
            found["prototype_temperature"],
        )  # fmt: skip
        return {"local": near, "prototype": far}


def single_class(label: Tensor) -> Tensor:
    """Return the class (B,), from 1, of images (B, C) that have one alone; -1 for the others."""
    return torch.where(label.sum(1) == 1, label.argmax(1) + 1, NO_CLASS)


def _gathering(now: Moment) -> Callable[[Tensor], Tensor]:
    """Return what joins values of all processes, or, as published, makes ones of them."""
    return torch.ones_like if now.settings["gather"] == "ones" else gather


METHOD = CPDGL
