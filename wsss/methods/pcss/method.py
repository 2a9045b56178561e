"""PCSS (Kwon et al., ECCV 2024): MCTformer V2 that learns shapes and not frequencies.

A second pass sees features with the magnitudes of another image. A third sees images without the
frequencies that their classes depend on; these are measured every few epochs. CAMs are MCTformer V2's.

Differences to the published code: frequencies are measured only if a later epoch uses them; a class
that was not measured keeps its latest influence, at first none; token grids need not be square.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.data.workers import Batch
from wsss.errors import ConfigError
from wsss.inference.cam_maps import over_range_cut
from wsss.methods.base import Method, Source
from wsss.methods.mctformer.network import PUBLISHED, Look, MCTformer
from wsss.methods.pcss.influence import Influence, Losses, measure
from wsss.methods.pcss.spectrum import mixed_magnitude, suppressed, with_magnitude
from wsss.nets.vit import Keep
from wsss.storage.checkpoint import Layout


class PCSSNet(MCTformer):
    """MCTformer V2, with what is known of the frequencies that its classes depend on."""

    influence: Influence


class PCSS(Method):
    """Mixed magnitudes (MPC) and suppressed frequencies (FSS) around MCTformer V2."""

    def build(self, network: str) -> PCSSNet:
        """Return the classifier.

        Raises:
            ConfigError: the crop is no even number of blocks of frequencies.
        """
        params = self.params[network]
        side, block = params.augment.crop_px, params.settings["fim_block_px"]
        if side % (2 * block):
            raise ConfigError(
                f"{network}.augment.crop_px is {side}, but PCSS needs an even number of frequency "
                f"blocks of {block} px. Set it to a multiple of {2 * block}."
            )
        net = PCSSNet.of(params, self.classes, "v2")
        net.influence = Influence(self.classes, side // block, side)
        return net

    def layout(self, network: str) -> Layout:
        """Return the layout of the authors' file, which is MCTformer's."""
        return Layout(PUBLISHED.table, absent=(r"influence\..*",))

    def losses(
        self, network: str, nets: Mapping[str, nn.Module], batch: Batch, step: int
    ) -> dict[str, Tensor]:
        """Return the losses of the labels in all passes, and of the maps between passes.

        Terms of a pass that is not made are 0.
        """
        net, settings = cast("PCSSNet", nets[network]), self.params[network].settings
        epoch = int(net.influence.epoch)
        mixing = settings["mpc_weight"] > 0
        suppressing = settings["fss_weight"] > 0 and epoch > settings["fim_first"]
        comparing = mixing and epoch >= settings["mpc_maps_from"]
        keep: Keep = "mean" if comparing else "none"
        first = net.look(batch["image"], keep, (self.mixed_block(net),))
        terms = {"labels": label_loss(net, first, batch["label"])}
        none = terms["labels"].new_zeros(())
        names = ("suppressed_labels", "suppressed_maps", "mixed_labels", "mixed_maps")
        terms |= dict.fromkeys(names, none)
        if suppressing:
            terms |= self._suppressed(net, first, batch)
        if mixing:
            terms |= self._mixed(net, first, batch, keep)
        return terms

    def _suppressed(self, net: PCSSNet, first: Look, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of the pass without the frequencies that the classes depend on."""
        images, labels = batch["image"], batch["label"]
        with torch.autocast(images.device.type, enabled=False):
            images = suppressed(images, labels, net.influence.mask())
        seen = net.look(images)
        away = distance(over_range_cut(first.patch_map), over_range_cut(seen.patch_map))
        counted = labels.any(1)[:, None, None, None]
        weight = self.params["classifier"].settings["fss_weight"]
        return {
            "suppressed_labels": label_loss(net, seen, labels),
            "suppressed_maps": weight * (away * counted).mean(),
        }

    def _mixed(self, net: PCSSNet, first: Look, batch: Batch, keep: Keep) -> dict[str, Tensor]:
        """Return the terms of the pass whose features have magnitudes of other images."""
        seen = self.look_mixed(net, batch["image"], first, keep)
        terms = {"mixed_labels": label_loss(net, seen, batch["label"])}
        if keep != "none":
            with torch.no_grad():
                before = over_range_cut(self.refined(net, first))
            weight = self.params["classifier"].settings["mpc_weight"]
            away = distance(before, over_range_cut(self.refined(net, seen)))
            terms["mixed_maps"] = weight * away.mean()
        return terms

    def look_mixed(self, net: PCSSNet, images: Tensor, first: Look, keep: Keep) -> Look:
        """Return a pass with the magnitudes of `first`, an ordinary pass, mixed between images."""
        block, ratio = self.mixed_block(net), self.params["classifier"].settings["mpc_keep"]
        grid = (first.scores.shape[2], first.scores.shape[3])
        features = net.backbone.as_map(first.kept[block], grid)
        order = self.order(len(images)).to(images.device)
        with torch.autocast(images.device.type, enabled=False):
            magnitude = mixed_magnitude(features, order, ratio)

        def change(tokens: Tensor) -> Tensor:
            with torch.autocast(images.device.type, enabled=False):
                mixed = with_magnitude(net.backbone.as_map(tokens, grid), magnitude)
            special = tokens[:, : net.backbone.special]
            return torch.cat([special, mixed.flatten(2).transpose(1, 2)], 1)

        return net.look(images, keep, change={block: change})

    def mixed_block(self, net: PCSSNet) -> int:
        """Return the block, from 0, after which magnitudes are mixed."""
        share: float = self.params["classifier"].settings["mpc_after"]
        return max(1, round(share * len(net.backbone.blocks))) - 1

    def order(self, count: int) -> Tensor:
        """Return which image each one is mixed with; itself as well."""
        return torch.randperm(count)

    def after_epoch(
        self, network: str, nets: Mapping[str, nn.Module], epoch: int, images: Source
    ) -> None:
        """Measure the influence of frequencies, in the epochs that have a round."""
        net, settings = cast("PCSSNet", nets[network]), self.params[network].settings
        influence = net.influence
        influence.epoch.fill_(epoch + 1)
        after = epoch - settings["fim_first"]
        if settings["fss_weight"] == 0 or after < 0 or after % settings["fim_every"]:
            return
        need = torch.full_like(influence.record, settings["fim_images"])
        batches = images(influence.side, settings["fim_batch"])
        count = influence.losses.shape[-1]
        losses = measure(present_losses(net), batches, need, count, settings["fim_batch"])
        influence.update(losses)

    def logits(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the scores of the class tokens."""
        return net(images)  # type: ignore[no-any-return]  # nn.Module call

    def cam(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the attention of class tokens times the patches' scores, spread by attention."""
        found = cast("PCSSNet", net)
        return self.refined(found, found.look(images, "mean"))

    def refined(self, net: PCSSNet, seen: Look) -> Tensor:
        """Return the maps (B, C, h, w) that become CAMs."""
        blocks = self.params["classifier"].settings["blocks"]
        return seen.spread(net.maps(seen, blocks, mean=True))


def label_loss(net: MCTformer, seen: Look, labels: Tensor) -> Tensor:
    """Return the losses of class tokens and patches."""
    of_tokens = F.multilabel_soft_margin_loss(seen.class_logits, labels)
    return of_tokens + F.multilabel_soft_margin_loss(net.patch_logits(seen), labels)


def present_losses(net: MCTformer) -> Losses:
    """Return the function from images to the losses that classes have if they are present (B, C)."""

    def losses(images: Tensor) -> Tensor:
        seen = net.look(images)
        return F.softplus(-seen.class_logits) + F.softplus(-net.patch_logits(seen))

    return losses


def distance(first: Tensor, second: Tensor) -> Tensor:
    """Return how far maps are apart, at every cell."""
    return (first - second).abs()


METHOD = PCSS
