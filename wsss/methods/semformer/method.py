"""SemFormer (Chen et al., arXiv 2210.14618): masks that an autoencoder of classes judges.

CAAE learns to tell from a picture's code which classes are in it. SemFormer then learns masks such
that CAAE finds a class in what its mask keeps, and no longer in what it removes.

Differences: the published programs keep the state of the best epoch, chosen on the training images
with their labels (CAAE) or their true masks (SemFormer); here it is always the last one. DeiT's
distillation token and class head, which they carry along unused, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.data.resize import in_boxes, pad_to_multiple
from wsss.data.workers import Batch
from wsss.errors import ConfigError
from wsss.methods.base import Method
from wsss.methods.semformer.caae import CAAE_LAYOUT, SMALLEST, CAAENet, cosine
from wsss.methods.semformer.network import SEMFORMER_LAYOUT, SemFormerNet, spread_out
from wsss.nets.backbone import Network
from wsss.nets.vit import Shape, shape_of
from wsss.storage.checkpoint import Layout


def with_background(labels: Tensor) -> Tensor:
    """Return labels (B, K) of 0 and 1 with the background, which every image has, in front."""
    return F.pad(labels, (1, 0), value=1.0)


def similarity_loss(similarities: Tensor, present: Tensor) -> Tensor:
    """Return the binary cross-entropy of similarities (B, K) in [0, 1), which are no logits."""
    with torch.autocast(similarities.device.type, enabled=False):
        return F.binary_cross_entropy(similarities.float(), present)


def mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of the values that are chosen; 0 if none is."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)


def keeps(similarities: Tensor, wanted: Tensor, unwanted: Tensor) -> Tensor:
    """Return how far pictures are from showing the wanted classes alone, in [0, 1].

    similarities, wanted, unwanted: (pairs, K). The means are over the whole batch.
    """
    return (1 - mean_of(similarities, wanted) + 1 + mean_of(similarities, unwanted)) / 2


def suppression(masks: Tensor) -> Tensor:
    """Return how much of masks (B, K, h, w), absent classes too, is object and not background."""
    return masks[:, 1:].mean() + 1 - masks[:, 0].mean()


def complementation(masks: Tensor, present: Tensor, inside: Tensor) -> Tensor:
    """Return how far the mask of a class and the largest of the others are from adding up to 1.

    masks: (B, K, h, w). present: (B, K). inside: 1 where there is picture (B, 1, h, w).
    """
    image, own = present.nonzero(as_tuple=True)
    other = present[image].scatter(1, own[:, None], 0.0)
    some = other.any(1)
    image, own, other = image[some], own[some], other[some]
    if not len(image):
        return masks.new_zeros(())
    largest = masks[image].masked_fill(other[:, :, None, None] == 0, -1).amax(1)
    where = inside[image, 0]
    error = (masks[image, own] + largest - 1).square() * where
    return error.sum() / where.sum()


def content_mask(content: Tensor, side: int, crop: int, like: Tensor) -> Tensor:
    """Return 1 where crops of `crop` pixels have picture, seen at `side` pixels (B, 1, side, side).

    content: top, left, bottom, right of the picture in each crop (B, 4).
    """
    boxes = content.to(like.device) * side // crop
    return in_boxes(boxes, (side, side))[:, None].to(like.dtype)


class SemFormer(Method):
    """CAAE, then the network whose masks and attention are the CAMs."""

    def build(self, network: str) -> Network:
        """Return CAAE or SemFormer."""
        settings, width = self.params[network].settings, self.params["caae"].settings["class_width"]
        shape, classes = self._shape(network), self.classes + 1
        if network == "caae":
            return CAAENet(shape, classes, width, settings["decoder_depth"])
        return SemFormerNet(shape, classes, width, settings["grid"], settings["dropout"])

    def _shape(self, network: str) -> Shape:
        name = self.params[network].backbone
        if shape := shape_of(name):
            return shape
        raise ConfigError(
            f"SemFormer needs a transformer, and the backbone of {network} is {name}: set it to "
            "vit_toy, deit_small_patch16_224 or deit_base_distilled_patch16_224."
        )

    def layout(self, network: str) -> Layout:
        """Return the layout of the published files."""
        return CAAE_LAYOUT if network == "caae" else SEMFORMER_LAYOUT

    def losses(
        self, network: str, nets: Mapping[str, nn.Module], batch: Batch, step: int
    ) -> dict[str, Tensor]:
        """Return the weighted terms.

        batch: has content too, where the pictures are in their crops (B, 4).
        """
        critic = cast("CAAENet", nets["caae"])
        if network == "caae":
            terms = self._coding(critic, batch)
        else:
            terms = self._masking(cast("SemFormerNet", nets[network]), critic, batch)
        weights = self.params[network].settings
        return {name: weights[name] * term for name, term in terms.items()}

    def _coding(self, net: CAAENet, batch: Batch) -> dict[str, Tensor]:
        images, present = batch["image"], with_background(batch["label"])
        similarities, drawn = net.learn(images, present)
        return {
            "similarity": similarity_loss(similarities, present),
            "reconstruction": F.mse_loss(drawn, images),
        }

    def _masking(self, net: SemFormerNet, critic: CAAENet, batch: Batch) -> dict[str, Tensor]:
        images, present = batch["image"], with_background(batch["label"])
        logits, embedding = net.learn(images)
        semantics = critic.class_semantics()
        masks, inside = self.masks(logits, batch)
        image, own = present.nonzero(as_tuple=True)
        chosen = masks[image, own][:, None]
        pictures = self.at_critic(images)[image]
        codes = critic.code(torch.cat([pictures * chosen, pictures * (1 - chosen)])).embedding
        kept, left = cosine(codes.float(), semantics).chunk(2)
        alone = F.one_hot(own, self.classes + 1).to(present.dtype)
        others = present[image] - alone
        return {
            "similarity": similarity_loss(cosine(embedding.float(), semantics), present),
            "foreground": keeps(kept, alone, others),
            "background": keeps(left, others, alone),
            "suppression": suppression(masks),
            "complementation": complementation(masks, present, inside),
        }

    def masks(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return masks (B, K, A, A) at the size A of the critic, and where there is picture."""
        large = self.at_critic(logits.float())
        inside = content_mask(batch["content"], large.shape[3], batch["image"].shape[3], large)
        return large.sigmoid() * inside, inside

    def at_critic(self, maps: Tensor) -> Tensor:
        """Return images or maps (B, C, h, w) at the size of the critic (B, C, A, A)."""
        side = self.params["semformer"].settings["critic_px"]
        return F.interpolate(maps, (side, side), mode="bilinear", align_corners=True)

    def logits(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the logits of CAAE's similarities, or the largest mask logit of each class.

        SemFormer has no classifier: a class is there if a patch has it.
        """
        if isinstance(net, CAAENet):
            return torch.logit(net(images), SMALLEST)[:, 1:]
        found: Tensor = net(whole_cells(net, images))
        return found.amax((2, 3))[:, 1:]

    def cam(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return positive mask logits, times what the class tokens attend to."""
        return self.maps(cast("SemFormerNet", net), whole_cells(net, images))

    def maps(self, net: SemFormerNet, images: Tensor) -> Tensor:
        """Return the maps (B, classes, h, w) of images, filled up to whole patches."""
        layers = self.params["semformer"].settings["attention_layers"]
        logits, attention = net.look(images, layers)
        return F.relu(F.relu(logits) * spread_out(attention))[:, 1:]


def whole_cells(net: Any, images: Tensor) -> Tensor:
    """Return images (B, 3, H, W) stretched to whole patches, so that maps cover them exactly."""
    like = pad_to_multiple(images, net.backbone.shape.patch).shape[2:]
    if like == images.shape[2:]:
        return images
    return F.interpolate(images, tuple(like), mode="bilinear", align_corners=False)


METHOD = SemFormer
