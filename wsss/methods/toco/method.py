"""ToCo: Token Contrast for weakly supervised segmentation (Ru et al., CVPR 2023).

Differences: no second mirror of the input, whose box it would leave wrong; the decoder's loss is 0
where it was not a number, without pixels of one kind.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wsss.methods.single_stage import crops, online_labels
from wsss.methods.single_stage.base import Guide, Moment, SingleStage, Views
from wsss.methods.single_stage.contrast import token_contrast
from wsss.methods.single_stage.network import TOCO_LAYOUT, Seen, SingleStageNet, class_token, steady


class ToCo(SingleStage):
    """Class tokens of small crops against those of whole images: alike, or background."""

    contrasts = ("tokens",)
    network = SingleStageNet
    published = TOCO_LAYOUT

    def contrast(
        self, net: SingleStageNet, seen: Seen, views: Views, guide: Guide, now: Moment
    ) -> dict[str, Tensor]:
        """Return the token contrast; the teacher's head follows."""
        net.follow(now.settings["head_momentum"] if now.step else 0.0)
        if not now.weights["tokens"]:
            return {}
        valid = online_labels.valid_cam(guide.middle, views.label)
        corners, flags = crops.flagged_crops(
            online_labels.regions(valid, now.thresholds), now.crops
        )
        local = crops.cut(views.local, corners, now.crops.side).transpose(0, 1).flatten(0, 1)
        with steady(net):
            whole = torch.cat([seen.token, class_token(net.backbone, views.whole)])
            tokens = torch.cat([whole, class_token(net.backbone, local)])
        teacher = net.teacher_head(whole.detach())
        heat, flags = now.settings["temperature"], flags.to(tokens.device)
        return {"tokens": token_contrast(net.student_head(tokens), teacher, flags, heat)}


METHOD = ToCo
