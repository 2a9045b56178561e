"""PCSS (Kwon et al., ECCV 2024): MCTformer V2 that learns shapes instead of frequencies.

MPC: a second forward pass mixes the magnitudes of the features with another image's. FSS: a third one
encodes images without the frequencies that their classes depend on; these are measured every few
epochs (FIM). CAMs are computed as in MCTformer V2.

Differences: frequencies are measured only if a later epoch uses them; a class that was not measured
keeps its latest influence, which is 0 at first; token grids need not be square.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.data.workers import Batch
from wsss.errors import ConfigError
from wsss.inference.cam_maps import over_range_cut
from wsss.methods.base import Method, Source
from wsss.methods.mctformer.network import PUBLISHED, Encoded, MCTformer
from wsss.methods.pcss.influence import Influence, Losses, measure
from wsss.methods.pcss.spectrum import mixed_magnitude, suppressed, with_magnitude
from wsss.nets.vit import AttentionKind
from wsss.storage.checkpoint import Layout


class ClassifierHyperParameters(Protocol):
    """The hyper-parameters of the classifier; pcss.yaml explains them."""

    drop_path: float
    blocks: int
    mpc_weight: float
    mpc_after: float
    mpc_keep: float
    mpc_maps_from: int
    fss_weight: float
    fim_first: int
    fim_every: int
    fim_images: int
    fim_block_px: int
    fim_batch: int


class PCSSNet(MCTformer):
    """MCTformer V2 with the measured influence of frequencies on its classes."""

    influence: Influence


class PCSS(Method):
    """MCTformer V2 trained with mixed magnitudes (MPC) and suppressed frequencies (FSS)."""

    hyper_parameter_types = {"classifier": ClassifierHyperParameters}

    @property
    def _hyper_parameters(self) -> ClassifierHyperParameters:
        return cast("ClassifierHyperParameters", self.params["classifier"].hyper_parameters)

    def build(self, network: str) -> PCSSNet:
        """Return the classifier.

        Raises:
            ConfigError: the crop is not an even number of frequency blocks.
        """
        params = self.params[network]
        side, block = params.augment.crop_px, self._hyper_parameters.fim_block_px
        if side % (2 * block):
            raise ConfigError(
                f"{network}.augment.crop_px is {side}, but PCSS needs an even number of frequency "
                f"blocks of {block} px. Set it to a multiple of {2 * block}."
            )
        net = PCSSNet.of(params, self.classes, "v2", self._hyper_parameters.drop_path)
        net.influence = Influence(self.classes, side // block, side)
        return net

    def layout(self, network: str) -> Layout:
        """Return the layout of the authors' file, which names tensors as MCTformer's."""
        return Layout(PUBLISHED.table, absent=(r"influence\..*",))

    def losses(
        self, network: str, nets: Mapping[str, nn.Module], batch: Batch, step: int
    ) -> dict[str, Tensor]:
        """Return the label losses of all forward passes, and the distances between their maps.

        The terms of a pass that is left out are 0.
        """
        net, hyper_parameters = cast("PCSSNet", nets[network]), self._hyper_parameters
        epoch = int(net.influence.epoch)
        mixing = hyper_parameters.mpc_weight > 0
        suppressing = hyper_parameters.fss_weight > 0 and epoch > hyper_parameters.fim_first
        comparing = mixing and epoch >= hyper_parameters.mpc_maps_from
        keep: AttentionKind = "mean" if comparing else "none"
        first = net.encode(batch["image"], keep, (self.mixed_block(net),))
        terms = {"labels": label_loss(net, first, batch["label"])}
        zero = terms["labels"].new_zeros(())
        names = ("suppressed_labels", "suppressed_maps", "mixed_labels", "mixed_maps")
        terms |= dict.fromkeys(names, zero)
        if suppressing:
            terms |= self._suppressed(net, first, batch)
        if mixing:
            terms |= self._mixed(net, first, batch, keep)
        return terms

    def _suppressed(self, net: PCSSNet, first: Encoded, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of the pass without the frequencies that the classes depend on."""
        images, labels = batch["image"], batch["label"]
        with torch.autocast(images.device.type, enabled=False):
            images = suppressed(images, labels, net.influence.mask())
        encoded = net.encode(images)
        distances = distance(over_range_cut(first.patch_map), over_range_cut(encoded.patch_map))
        labelled = labels.any(1)[:, None, None, None]
        return {
            "suppressed_labels": label_loss(net, encoded, labels),
            "suppressed_maps": self._hyper_parameters.fss_weight * (distances * labelled).mean(),
        }

    def _mixed(
        self, net: PCSSNet, first: Encoded, batch: Batch, keep: AttentionKind
    ) -> dict[str, Tensor]:
        """Return the terms of the pass with mixed magnitudes."""
        encoded = self.encode_mixed(net, batch["image"], first, keep)
        terms = {"mixed_labels": label_loss(net, encoded, batch["label"])}
        if keep != "none":
            with torch.no_grad():
                target = over_range_cut(self.refined(net, first))
            distances = distance(target, over_range_cut(self.refined(net, encoded)))
            terms["mixed_maps"] = self._hyper_parameters.mpc_weight * distances.mean()
        return terms

    def encode_mixed(
        self, net: PCSSNet, images: Tensor, first: Encoded, keep: AttentionKind
    ) -> Encoded:
        """Encode images (B, 3, H, W) with mixed magnitudes.

        first: the ordinary forward pass of the same images, whose magnitudes are mixed.
        """
        block, ratio = self.mixed_block(net), self._hyper_parameters.mpc_keep
        grid = (first.scores.shape[2], first.scores.shape[3])
        features = net.backbone.as_map(first.block_tokens[block], grid)
        order = self.order(len(images)).to(images.device)
        with torch.autocast(images.device.type, enabled=False):
            magnitude = mixed_magnitude(features, order, ratio)

        def change(tokens: Tensor) -> Tensor:
            with torch.autocast(images.device.type, enabled=False):
                mixed = with_magnitude(net.backbone.as_map(tokens, grid), magnitude)
            special = tokens[:, : net.backbone.special]
            return torch.cat([special, mixed.flatten(2).transpose(1, 2)], 1)

        return net.encode(images, keep, change={block: change})

    def mixed_block(self, net: PCSSNet) -> int:
        """Return the block, from 0, after which magnitudes are mixed."""
        count = len(net.backbone.blocks)
        return max(1, round(self._hyper_parameters.mpc_after * count)) - 1

    def order(self, count: int) -> Tensor:
        """Return the index of the image that each image is mixed with (count,); it may be itself."""
        return torch.randperm(count)

    def after_epoch(
        self, network: str, nets: Mapping[str, nn.Module], epoch: int, images: Source
    ) -> None:
        """Measure the influence of frequencies after the epochs that have a measurement."""
        net, hyper_parameters = cast("PCSSNet", nets[network]), self._hyper_parameters
        influence = net.influence
        influence.epoch.fill_(epoch + 1)
        after = epoch - hyper_parameters.fim_first
        if hyper_parameters.fss_weight == 0 or after < 0 or after % hyper_parameters.fim_every:
            return
        need = torch.full_like(influence.record, hyper_parameters.fim_images)
        batches = images(influence.side, hyper_parameters.fim_batch)
        count = influence.losses.shape[-1]
        losses = measure(present_losses(net), batches, need, count, hyper_parameters.fim_batch)
        influence.update(losses)

    def logits(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the scores (B, classes) of the class tokens."""
        return net(images)  # type: ignore[no-any-return]  # nn.Module call

    def cam(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the attention of class tokens times the patches' scores, spread by attention."""
        classifier = cast("PCSSNet", net)
        return self.refined(classifier, classifier.encode(images, "mean"))

    def refined(self, net: PCSSNet, encoded: Encoded) -> Tensor:
        """Return the maps (B, C, h, w) that become CAMs."""
        return encoded.spread(net.maps(encoded, self._hyper_parameters.blocks, mean=True))


def label_loss(net: MCTformer, encoded: Encoded, labels: Tensor) -> Tensor:
    """Return the sum of the label losses of class tokens and patches. labels: 0 or 1 (B, C)."""
    token_loss = F.multilabel_soft_margin_loss(encoded.class_logits, labels)
    return token_loss + F.multilabel_soft_margin_loss(net.patch_logits(encoded), labels)


def present_losses(net: MCTformer) -> Losses:
    """Return the function that computes each class's loss as if the class were present."""

    def losses(images: Tensor) -> Tensor:
        encoded = net.encode(images)
        return F.softplus(-encoded.class_logits) + F.softplus(-net.patch_logits(encoded))

    return losses


def distance(first: Tensor, second: Tensor) -> Tensor:
    """Return the absolute difference of two maps at every cell."""
    return (first - second).abs()


METHOD = PCSS
