"""WeCLIP (Zhang et al., CVPR 2024): a decoder on a frozen CLIP that learns from CLIP's own class maps.

In every step GradCAM's maps of the frozen tower, spread by its attention and by the decoder's affinity,
become labels of pixels and of pairs of cells. The decoder reads the patches of all blocks but the last.

Differences: the attention's last layer computes in float32, not in float16; image labels are those of
the index, not the classes in the true masks; the loss is finite where the published one is not a number,
if background or objects have no pixels (the gradient is the same).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from wsss.data.workers import Batch
from wsss.methods.clip_es.gradcam import GradCam, gradcam
from wsss.methods.frozen.base import FrozenClip, FrozenHyperParameters
from wsss.methods.frozen.labels import affinity, affinity_loss, label_maps, windowed_pairs
from wsss.methods.frozen.network import FrozenNet, Tokens
from wsss.methods.single_stage import online_labels
from wsss.methods.single_stage.base import Views
from wsss.methods.single_stage.dense_energy import balanced
from wsss.nets.deeplab import resize
from wsss.refine.attention import selected_mean, spread


class WeClipHyperParameters(FrozenHyperParameters, Protocol):
    """The hyper-parameters of the network; weclip.yaml explains them."""

    logit_scale: float
    selected_of: int
    select_from: int
    round_positions: bool


class WeClip(FrozenClip[WeClipHyperParameters]):
    """GradCAM inside training, and a decoder whose affinity refines its own labels."""

    hyper_parameter_types = {"classifier": WeClipHyperParameters}

    def build(self, network: str) -> FrozenNet:
        """Return the frozen tower with random vectors of classes, and the decoder."""
        params = self.hyper_parameters
        return FrozenNet(self.tower(network, params.round_positions), self.classes, params)

    def losses(
        self, network: str, nets: Mapping[str, nn.Module], batch: Batch, step: int
    ) -> dict[str, Tensor]:
        """Return the decoder's cross-entropy and the loss of its affinity."""
        net, views = cast("FrozenNet", nets[network]), Views.of(batch)
        params = self.hyper_parameters
        tokens = self.encode(net, views.image)
        with torch.autocast(views.image.device.type, enabled=False):
            dropped, features = net.features(tokens.blocks, tokens.grid)
            affinities = affinity(dropped)
            guide = affinities if params.labels_with_dropout else affinity(features)
            labels = self.labels(net, tokens, views, guide.detach(), step)
            size = (labels.shape[1], labels.shape[2])
            pairs = windowed_pairs(labels, tokens.grid, params.window)
            return {
                "decoder": balanced(resize(net.decoder(dropped), size), labels),
                "pairs": params.pairs_weight * affinity_loss(affinities, pairs),
            }

    def encode(self, net: FrozenNet, images: Tensor) -> Tokens:
        """Return the tokens and the attention of images (B, 3, H, W)."""
        params = self.hyper_parameters
        return net.encode_blocks(images, max(params.attention_blocks, params.selected_of))

    @torch.no_grad()
    def labels(
        self,
        net: FrozenNet,
        tokens: Tokens,
        views: Views,
        affinities: Tensor,
        step: int,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Return the labels of pixels (B, H, W) at a step (from 0), from affinities of cells (B, n, n).

        weights: of `spread_maps`.
        """
        params = self.hyper_parameters
        selecting = affinities if step >= params.select_from else None
        maps = self.spread_maps(net, tokens, views.label, selecting, weights)
        labels = label_maps(views.image, maps, views.label, params.par_iterations, params.refine_px)
        return labels if params.label_padding else online_labels.boxed(labels, views.box)

    def spread_maps(
        self,
        net: FrozenNet,
        tokens: Tokens,
        present: Tensor,
        affinities: Tensor | None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Return the spread maps (B, C, h, w) in [0, 1] of the present classes; zeros for others.

        present: 0 or 1 (B, C). affinities: of `attention`. weights: factors of the maps before they are
        spread (B, C, h, w).
        """
        cam = self.explained(net, tokens, present)
        attention = self.attention(net, tokens, cam, affinities)
        box_cut = self.hyper_parameters.box_cut
        return spread(cam.maps, attention, self.box_share, box_cut, weights)

    @property
    def box_share(self) -> float | None:
        """The share of a map's largest score above which boxes lie; None spreads all scores."""
        return self.hyper_parameters.box_threshold

    def explained(self, net: FrozenNet, tokens: Tokens, present: Tensor) -> GradCam:
        """Return GradCAM's maps of the present classes (B, C), 0 or 1."""
        scale = self.hyper_parameters.logit_scale
        return gradcam(net, tokens.blocks[-1], tokens.grid, present, scale)

    def attention(
        self, net: FrozenNet, tokens: Tokens, cam: GradCam, affinities: Tensor | None
    ) -> Tensor:
        """Return the attention between patches (B, n, n) that maps are spread by.

        affinities: of cells (B, n, n). They weigh the mean of the blocks that attend least to the class
        token; without them it is the mean of the last blocks.
        """
        params, blocks = self.hyper_parameters, net.patch_attention(tokens, cam.attention)
        if affinities is None:
            return blocks[:, -params.attention_blocks :].mean(1)
        return selected_mean(blocks[:, -params.selected_of :]) * affinities

    def decode(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the decoder's logits (B, 1 + C, h, w)."""
        decoder = cast("FrozenNet", net)
        tokens = self.encode(decoder, images)
        return decoder.decoder(decoder.features(tokens.blocks, tokens.grid)[0])  # type: ignore[no-any-return]

    def cam_of(self, net: nn.Module, images: Tensor, present: Tensor) -> Tensor:
        """Return the spread maps (B, C, h, w) in [0, 1] of the present classes; zeros for others."""
        classifier = cast("FrozenNet", net)
        tokens = self.encode(classifier, images)
        with torch.autocast(images.device.type, enabled=False):
            affinities = affinity(classifier.features(tokens.blocks, tokens.grid)[0])
            return self.spread_maps(classifier, tokens, present, affinities)


METHOD = WeClip
