"""ToCo: Token Contrast for weakly supervised segmentation (Ru et al., CVPR 2023).

Differences: the input is not mirrored a second time, which would make its box wrong; the decoder's
loss is 0 where the published one is not a number, if background or objects have no pixels.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from wsss.methods.single_stage import crops, online_labels
from wsss.methods.single_stage.base import (
    Guide,
    Schedule,
    SingleStage,
    SingleStageHyperParameters,
    Views,
    crop_rule,
)
from wsss.methods.single_stage.contrast import token_contrast
from wsss.methods.single_stage.network import (
    TOCO_LAYOUT,
    Encoded,
    SingleStageNet,
    ToCoNet,
    ToCoNetworkHyperParameters,
    class_token,
    steady,
)


class ToCoHyperParameters(SingleStageHyperParameters, ToCoNetworkHyperParameters, Protocol):
    """The hyper-parameters of ToCo; toco.yaml explains them."""

    tokens_weight: float
    head_momentum: float
    temperature: float


class ToCo(SingleStage[ToCoHyperParameters]):
    """Contrast of the class tokens of small crops and of whole images."""

    hyper_parameter_types = {"classifier": ToCoHyperParameters}
    published = TOCO_LAYOUT

    def build(self, network: str) -> ToCoNet:
        """Return the network."""
        return ToCoNet(self.params[network].backbone, self.classes, self.hyper_parameters)

    def contrast_weights(self, parameters: ToCoHyperParameters) -> dict[str, float]:
        """Return the full weight of the token contrast."""
        return {"tokens": parameters.tokens_weight}

    def contrast(
        self,
        net: SingleStageNet,
        encoded: Encoded,
        views: Views,
        guide: Guide,
        schedule: Schedule[ToCoHyperParameters],
    ) -> dict[str, Tensor]:
        """Return the token contrast, and move the projection's teacher."""
        parameters = schedule.hyper_parameters
        net.follow(parameters.head_momentum if schedule.step else 0.0)
        if not schedule.weights["tokens"]:
            return {}
        rule, valid = crop_rule(parameters), online_labels.valid_cam(guide.auxiliary, views.label)
        regions = online_labels.regions(valid, schedule.thresholds)
        corners, flags = crops.flagged_crops(regions, rule)
        local = crops.cut(views.local, corners, rule.side).transpose(0, 1).flatten(0, 1)
        with steady(net):
            whole = torch.cat([encoded.token, class_token(net.backbone, views.whole)])
            tokens = torch.cat([whole, class_token(net.backbone, local)])
        teacher, student = net.teacher_head(whole.detach()), net.student_head(tokens)
        flags = flags.to(tokens.device)
        return {"tokens": token_contrast(student, teacher, flags, parameters.temperature)}


METHOD = ToCo
