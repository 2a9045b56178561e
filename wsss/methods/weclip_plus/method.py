"""WeCLIP+ (Zhang et al., TPAMI 2025): WeCLIP with a frozen DINOv2 beside the frozen CLIP.

One decoder reads the last patches of both backbones, one after the other; masks are the mean of its two
results. Its probabilities weigh CLIP's class maps before they are spread. Each branch also learns from
the other's prediction, and from a step on sure predictions replace labels.

Differences: those of WeCLIP; the image labels are those of the index, as they are there on VOC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from wsss.data.workers import Batch
from wsss.errors import ConfigError
from wsss.methods.clip_es.gradcam import GradCam, gradcam
from wsss.methods.frozen.labels import affinity, affinity_loss, windowed_pairs
from wsss.methods.frozen.network import FrozenNet, Tokens
from wsss.methods.single_stage.base import Views
from wsss.methods.single_stage.dense_energy import balanced
from wsss.methods.weclip.method import WeClip, WeClipHyperParameters
from wsss.methods.weclip_plus.losses import dice, mutual, with_sure_predictions
from wsss.methods.weclip_plus.network import SECOND, SECOND_DROPPED, Pair, PairNet
from wsss.nets.build import build_backbone
from wsss.nets.deeplab import resize
from wsss.storage.checkpoint import Layout


class WeClipPlusHyperParameters(WeClipHyperParameters, Protocol):
    """The hyper-parameters of the network; weclip.yaml and weclip_plus.yaml explain them."""

    cam_from: int
    boxes: bool
    own_labels_from: int
    own_labels_above: float
    mutual_weight: float
    dice_weight: float


class WeClipPlus(WeClip):
    """A decoder on two frozen backbones, whose branches agree and whose predictions weigh class maps."""

    hyper_parameter_types = {"classifier": WeClipPlusHyperParameters}

    @property
    def hyper_parameters(self) -> WeClipPlusHyperParameters:
        """The hyper-parameters of the network."""
        return cast("WeClipPlusHyperParameters", super().hyper_parameters)

    @property
    def box_share(self) -> float | None:
        """The share of a map's largest score above which boxes lie; None spreads all scores."""
        params = self.hyper_parameters
        return params.box_threshold if params.boxes else None

    def build(self, network: str) -> PairNet:
        """Return both frozen backbones with random weights and random vectors of classes, and the decoder.

        Raises:
            ConfigError: the settings have no second backbone.
        """
        params, second = self.hyper_parameters, self.params[network].second_backbone
        if second is None:
            raise ConfigError(
                f"networks.{network}.second_backbone: WeCLIP+'s decoder reads a second backbone, which is "
                "missing. Set it to {backbone: vit_toy}, or take the method weclip."
            )
        tower = self.tower(network, params.round_positions)
        return PairNet(tower, build_backbone(second.backbone, second.stride), self.classes, params)

    def layout(self, network: str) -> Layout:
        """Return the layout of WeCLIP's files, with the names of DINOv2 and of the layer on its tokens."""
        base = super().layout(network)
        table, dropped = (*SECOND, *base.table), (*SECOND_DROPPED, *base.dropped)
        return replace(base, table=table, dropped=dropped)

    def losses(
        self, network: str, nets: Mapping[str, nn.Module], batch: Batch, step: int
    ) -> dict[str, Tensor]:
        """Return the decoder's cross-entropy and dice, its branches' mutual loss, its affinity's loss."""
        net, views = cast("PairNet", nets[network]), Views.of(batch)
        params = self.hyper_parameters
        tokens, second = self.encode(net, views.image), net.encode_second(views.image)
        with torch.autocast(views.image.device.type, enabled=False):
            dropped, features = net.pair_features(tokens, second)
            logits, affinities = net.predict(dropped), affinity(dropped.channels)
            if params.labels_with_dropout:
                guide = affinities.detach(), probability(logits)
            else:
                guide = self.guide(net, features)
            labels = self.labels(net, tokens, views, guide[0], step, guide[1])
            pairs = windowed_pairs(labels, tokens.grid, params.window)
            return {
                **self.pixel_terms(logits, labels, step),
                "pairs": params.pairs_weight * affinity_loss(affinities, pairs),
            }

    def pixel_terms(self, logits: Pair, labels: Tensor, step: int) -> dict[str, Tensor]:
        """Return the losses of logits (B, 1 + C, h, w) on labels of pixels (B, H, W) at a step (from 0)."""
        params = self.hyper_parameters
        large = Pair(*(resize(branch, labels.shape[1:]) for branch in logits))
        targets = self.targets(labels, large.mean, step)
        return {
            "decoder": balanced(large.mean, targets),
            "mutual": params.mutual_weight * mutual(large, labels),
            "dice": params.dice_weight * dice(large.mean, targets),
        }

    def targets(self, labels: Tensor, logits: Tensor, step: int) -> Tensor:
        """Return the labels (B, H, W) with the decoder's sure predictions, from a step (from 0) on."""
        params = self.hyper_parameters
        if step < params.own_labels_from:
            return labels
        return with_sure_predictions(labels, logits, params.own_labels_above)

    @torch.no_grad()
    def guide(self, net: PairNet, features: Pair) -> tuple[Tensor, Tensor]:
        """Return the affinities of cells (B, n, n), and the probability of classes (B, C, h, w)."""
        return affinity(features.channels), probability(net.predict(features))

    def explained(self, net: FrozenNet, tokens: Tokens, present: Tensor) -> GradCam:
        """Return GradCAM's maps of the present classes (B, C), 0 or 1, from the block `cam_from`."""
        params = self.hyper_parameters
        start = tokens.blocks[params.cam_from]
        return gradcam(net, start, tokens.grid, present, params.logit_scale)

    def decode(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the mean of the decoder's logits (B, 1 + C, h, w) on both backbones."""
        decoder = cast("PairNet", net)
        tokens, second = self.encode(decoder, images), decoder.encode_second(images)
        return decoder.predict(decoder.pair_features(tokens, second)[0]).mean

    def cam_of(self, net: nn.Module, images: Tensor, present: Tensor) -> Tensor:
        """Return the spread maps (B, C, h, w) in [0, 1] of the present classes; zeros for others."""
        decoder = cast("PairNet", net)
        tokens, second = self.encode(decoder, images), decoder.encode_second(images)
        with torch.autocast(images.device.type, enabled=False):
            affinities, weights = self.guide(decoder, decoder.pair_features(tokens, second)[0])
            return self.spread_maps(decoder, tokens, present, affinities, weights)


def probability(logits: Pair) -> Tensor:
    """Return the probability of each class (B, C, h, w) by the mean of both branches, without gradient."""
    return logits.mean.detach().softmax(1)[:, 1:]


METHOD = WeClipPlus
