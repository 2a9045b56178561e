"""ExCEL (Yang et al., CVPR 2025): a decoder on a frozen CLIP that learns from dense similarities to words.

A second path through CLIP's last blocks, calibrated to keep like patches together, makes patches comparable
with words: class maps without gradients. Spread by CLIP's attention and refined by PAR they are the
decoder's labels. Later the decoder's features weigh the attention and are fed back into the second path.

Differences: true masks do not steer the crops, as they do in the published code; there are no
attribute sentences unless you bring them; the pairs that later learn from the decoder use its labels at the size of
the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.data.workers import Batch
from wsss.methods.excel.network import (
    Encoded,
    ExcelNet,
    ExcelNetworkHyperParameters,
    similarity_maps,
)
from wsss.methods.frozen.base import FrozenClip, FrozenHyperParameters
from wsss.methods.frozen.labels import affinity_loss, label_maps, windowed_pairs
from wsss.methods.single_stage import online_labels
from wsss.methods.single_stage.base import Views
from wsss.methods.single_stage.dense_energy import balanced
from wsss.nets.deeplab import resize
from wsss.refine.attention import selected_mean, spread

TINY = 1e-5  # added to the largest score of the maximum of two views (published code)


class ExcelHyperParameters(FrozenHyperParameters, ExcelNetworkHyperParameters, Protocol):
    """The hyper-parameters of the network; excel.yaml explains them."""

    attributes: str
    attribute_centres: int
    guided_from: int
    pairs_from_decoder: int
    gain: float
    batch_means: bool
    mirror_maps: bool
    truncate_colours: bool


class Excel(FrozenClip[ExcelHyperParameters]):
    """Dense similarities to words, and a decoder whose features improve its own labels."""

    hyper_parameter_types = {"classifier": ExcelHyperParameters}

    def build(self, network: str) -> ExcelNet:
        """Return the frozen tower with random vectors of classes, and the decoder."""
        return ExcelNet(self.tower(network), self.classes, self.hyper_parameters)

    def losses(
        self, network: str, nets: Mapping[str, nn.Module], batch: Batch, step: int
    ) -> dict[str, Tensor]:
        """Return the decoder's cross-entropy and the loss of its affinity."""
        net, views = cast("ExcelNet", nets[network]), Views.of(batch)
        params = self.hyper_parameters
        with torch.autocast(views.image.device.type, enabled=False):
            encoded = net.encode_twice(views.image)
            dropped, features = net.features(net.decoder_inputs(encoded), encoded.grid)
            relations = self.relations(dropped)
            guide = relations if params.labels_with_dropout else self.relations(features)
            labels = self.labels(net, encoded, views, guide.detach(), step)
            logits = resize(net.decoder(dropped), (labels.shape[1], labels.shape[2]))
            by_decoder = step >= params.pairs_from_decoder
            pair_labels = self.boxed(logits.argmax(1), views) if by_decoder else labels
            pairs = windowed_pairs(pair_labels, encoded.grid, params.window)
            return {
                "decoder": balanced(logits, labels),
                "pairs": params.pairs_weight * affinity_loss(relations.sigmoid(), pairs),
            }

    def relations(self, features: Tensor) -> Tensor:
        """Return by how much cells resemble each other more than the mean (B, n, n), times the gain.

        features: (B, D, h, w); cells are compared by their cosine.
        """
        params, unit = self.hyper_parameters, F.normalize(features.flatten(2), dim=1)
        cosines = unit.transpose(1, 2) @ unit
        mean = cosines.mean() if params.batch_means else cosines.mean((1, 2), keepdim=True)
        return params.gain * (cosines - mean)

    @torch.no_grad()
    def labels(
        self, net: ExcelNet, encoded: Encoded, views: Views, relations: Tensor, step: int
    ) -> Tensor:
        """Return the labels of pixels (B, H, W) at a step (from 0), from relations of cells (B, n, n)."""
        params = self.hyper_parameters
        guide = relations if step >= params.guided_from else None
        maps = self.similarities(net, encoded, guide)
        maps = self.spread_maps(net, encoded, maps, views.label, guide)
        colours = (net.backbone.mean, net.backbone.std)
        mean, std = (views.image.new_tensor([255 * part for part in colour]) for colour in colours)
        pictures = online_labels.unit_images(views.image, mean, std, params.truncate_colours)
        iterations, shrink = params.par_iterations, params.refine_px
        return self.boxed(label_maps(pictures, maps, views.label, iterations, shrink), views)

    def boxed(self, labels: Tensor, views: Views) -> Tensor:
        """Return labels (B, H, W), unknown in the padding unless it is labelled."""
        padded = self.hyper_parameters.label_padding
        return labels if padded else online_labels.boxed(labels, views.box)

    def similarities(self, net: ExcelNet, encoded: Encoded, relations: Tensor | None) -> Tensor:
        """Return the maps (B, C, h, w) in [0, 1] of all classes; relations: fed back, if given."""
        feedback = None
        if relations is not None:
            feedback = relations.masked_fill(relations < 0, -torch.inf).softmax(2)
        dense = net.dense(encoded, feedback)
        return similarity_maps(dense, net.classes, net.background, encoded.grid)

    def spread_maps(
        self,
        net: ExcelNet,
        encoded: Encoded,
        maps: Tensor,
        present: Tensor,
        relations: Tensor | None,
    ) -> Tensor:
        """Return the spread maps (B, C, h, w) in [0, 1] of the present classes; zeros for others."""
        params = self.hyper_parameters
        attention = self.attention(net, encoded, relations)
        chosen = maps * (present > 0)[:, :, None, None]
        return spread(chosen, attention, params.box_threshold, params.box_cut)

    def attention(self, net: ExcelNet, encoded: Encoded, relations: Tensor | None) -> Tensor:
        """Return the attention between patches (B, n, n) that maps are spread by.

        relations: of cells (B, n, n). Their sigmoid weighs the mean of the blocks that attend least to the
        class token; without them it is the mean of the last blocks.
        """
        special = net.backbone.special
        last = encoded.attention[-self.hyper_parameters.attention_blocks :]
        blocks = torch.stack(last, 1)[:, :, special:, special:]
        if relations is None:
            return blocks.mean(1)
        return selected_mean(blocks) * relations.sigmoid()

    def decode(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the decoder's logits (B, 1 + C, h, w)."""
        decoder = cast("ExcelNet", net)
        encoded = decoder.encode_twice(images)
        features = decoder.features(decoder.decoder_inputs(encoded), encoded.grid)[0]
        return decoder.decoder(features)  # type: ignore[no-any-return]  # nn.Module call

    def cam_of(self, net: nn.Module, images: Tensor, present: Tensor) -> Tensor:
        """Return the spread maps (B, C, h, w) in [0, 1] of the present classes; zeros for others.

        With `mirror_maps` they come from the maximum of the maps of an image and of its mirror image.
        """
        classifier = cast("ExcelNet", net)
        with torch.autocast(images.device.type, enabled=False):
            encoded, relations = self.related(classifier, images)
            maps = self.similarities(classifier, encoded, relations)
            if self.hyper_parameters.mirror_maps:
                mirrored = self.similarities(classifier, *self.related(classifier, images.flip(3)))
                maps = torch.maximum(maps, mirrored.flip(3))
                maps = maps - maps.amin((2, 3), keepdim=True)
                maps = maps / (maps.amax((2, 3), keepdim=True) + TINY)
            return self.spread_maps(classifier, encoded, maps, present, relations)

    def related(self, net: ExcelNet, images: Tensor) -> tuple[Encoded, Tensor]:
        """Return images (B, 3, H, W) after both paths, and the relations of their cells."""
        encoded = net.encode_twice(images)
        features = net.features(net.decoder_inputs(encoded), encoded.grid)[0]
        return encoded, self.relations(features)


METHOD = Excel
