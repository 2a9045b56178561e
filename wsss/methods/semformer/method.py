"""SemFormer (Chen et al., arXiv 2210.14618): an autoencoder of classes is the critic of masks.

CAAE learns to predict the classes of an image from its code. SemFormer then learns masks such that
CAAE finds a class inside the class's mask and not outside.

Differences: the published programs keep the best epoch, chosen by the labels (CAAE) or the true masks
(SemFormer) of the training images; here the last epoch is kept. DeiT's distillation token and class
head, which the published networks hold unused, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

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


class CAAEHyperParameters(Protocol):
    """The hyper-parameters of CAAE; semformer.yaml explains them."""

    class_width: int
    decoder_depth: int
    similarity: float
    reconstruction: float


class SemFormerHyperParameters(Protocol):
    """The hyper-parameters of SemFormer's network; semformer.yaml explains them."""

    grid: int
    dropout: float
    critic_px: int
    attention_layers: int
    similarity: float
    foreground: float
    background: float
    suppression: float
    complementation: float


def with_background(labels: Tensor) -> Tensor:
    """Return labels (B, classes) of 0 and 1 with the background in front, which is always present."""
    return F.pad(labels, (1, 0), value=1.0)


def similarity_loss(similarities: Tensor, present: Tensor) -> Tensor:
    """Return the binary cross-entropy of similarities (B, K), which are probabilities in [0, 1)."""
    with torch.autocast(similarities.device.type, enabled=False):
        return F.binary_cross_entropy(similarities.float(), present)


def mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of the values where `chosen` is 1; 0 if there are none."""
    return (values * chosen).sum() / chosen.sum().clamp(min=1)


def keep_loss(similarities: Tensor, target: Tensor, others: Tensor) -> Tensor:
    """Return 0 if images are similar to their target classes alone, up to 1 if to the others alone.

    similarities: in [0, 1) (pairs, K). target, others: 0 and 1 (pairs, K). Means are over the batch.
    """
    return (1 - mean_of(similarities, target) + 1 + mean_of(similarities, others)) / 2


def suppression(masks: Tensor) -> Tensor:
    """Return the mean of all object masks, absent classes included, plus 1 minus the background's.

    masks: in [0, 1] (B, K, h, w).
    """
    return masks[:, 1:].mean() + 1 - masks[:, 0].mean()


def complementation(masks: Tensor, present: Tensor, inside: Tensor) -> Tensor:
    """Return the squared error of a class's mask plus the other classes' largest mask against 1.

    masks: in [0, 1] (B, K, h, w). present: 0 and 1 (B, K). inside: 1 where a crop is image
    (B, 1, h, w).
    """
    image, label = present.nonzero(as_tuple=True)
    others = present[image].scatter(1, label[:, None], 0.0)
    several = others.any(1)
    image, label, others = image[several], label[several], others[several]
    if not len(image):
        return masks.new_zeros(())
    largest = masks[image].masked_fill(others[:, :, None, None] == 0, -1).amax(1)
    where = inside[image, 0]
    error = (masks[image, label] + largest - 1).square() * where
    return error.sum() / where.sum()


def content_mask(content: Tensor, side: int, crop: int, like: Tensor) -> Tensor:
    """Return 1 where crops of `crop` pixels are image, resized to `side` pixels (B, 1, side, side).

    content: box (top, left, bottom, right) of the image in each crop (B, 4).
    """
    boxes = content.to(like.device) * side // crop
    return in_boxes(boxes, (side, side))[:, None].to(like.dtype)


class SemFormer(Method):
    """CAAE, then the network whose masks and attention are the CAMs."""

    hyper_parameter_types = {"caae": CAAEHyperParameters, "semformer": SemFormerHyperParameters}

    @property
    def _caae(self) -> CAAEHyperParameters:
        return cast("CAAEHyperParameters", self.params["caae"].hyper_parameters)

    @property
    def _semformer(self) -> SemFormerHyperParameters:
        return cast("SemFormerHyperParameters", self.params["semformer"].hyper_parameters)

    def build(self, network: str) -> Network:
        """Return CAAE or SemFormer."""
        shape, classes, width = self._shape(network), self.classes + 1, self._caae.class_width
        if network == "caae":
            return CAAENet(shape, classes, width, self._caae.decoder_depth)
        return SemFormerNet(shape, classes, width, self._semformer.grid, self._semformer.dropout)

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

        batch: also content, the box of the image in each crop (B, 4).
        """
        critic = cast("CAAENet", nets["caae"])
        if network == "caae":
            return self._caae_losses(critic, batch)
        return self._mask_losses(cast("SemFormerNet", nets[network]), critic, batch)

    def _caae_losses(self, net: CAAENet, batch: Batch) -> dict[str, Tensor]:
        images, present = batch["image"], with_background(batch["label"])
        similarities, reconstructed = net.learn(images, present)
        return {
            "similarity": self._caae.similarity * similarity_loss(similarities, present),
            "reconstruction": self._caae.reconstruction * F.mse_loss(reconstructed, images),
        }

    def _mask_losses(self, net: SemFormerNet, critic: CAAENet, batch: Batch) -> dict[str, Tensor]:
        images, present = batch["image"], with_background(batch["label"])
        logits, embedding = net.learn(images)
        semantics = critic.class_semantics()
        masks, inside = self.masks(logits, batch)
        image, label = present.nonzero(as_tuple=True)
        mask = masks[image, label][:, None]
        pictures = self.at_critic(images)[image]
        codes = critic.code(torch.cat([pictures * mask, pictures * (1 - mask)])).embedding
        foreground, background = cosine(codes.float(), semantics).chunk(2)
        target = F.one_hot(label, self.classes + 1).to(present.dtype)
        others = present[image] - target
        similarity = similarity_loss(cosine(embedding.float(), semantics), present)
        weights = self._semformer
        return {
            "similarity": weights.similarity * similarity,
            "foreground": weights.foreground * keep_loss(foreground, target, others),
            "background": weights.background * keep_loss(background, others, target),
            "suppression": weights.suppression * suppression(masks),
            "complementation": weights.complementation * complementation(masks, present, inside),
        }

    def masks(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return masks in [0, 1] (B, K, A, A) and 1 where crops are image, at the critic's side A."""
        large = self.at_critic(logits.float())
        inside = content_mask(batch["content"], large.shape[3], batch["image"].shape[3], large)
        return large.sigmoid() * inside, inside

    def at_critic(self, maps: Tensor) -> Tensor:
        """Resize images or maps (B, C, h, w) to the critic's input (B, C, A, A)."""
        size = (self._semformer.critic_px, self._semformer.critic_px)
        return F.interpolate(maps, size, mode="bilinear", align_corners=True)

    def logits(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return logits (B, classes): of CAAE's similarities, or the largest mask logit of each class.

        SemFormer has no classifier: a class is present if it is present in a patch.
        """
        if isinstance(net, CAAENet):
            return torch.logit(net(images), SMALLEST)[:, 1:]
        segmenter = cast("SemFormerNet", net)
        mask_logits: Tensor = segmenter(whole_patches(segmenter, images))
        return mask_logits.amax((2, 3))[:, 1:]

    def cam(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return positive mask logits times the class tokens' attention (B, classes, h, w)."""
        segmenter = cast("SemFormerNet", net)
        return self.maps(segmenter, whole_patches(segmenter, images))

    def maps(self, net: SemFormerNet, images: Tensor) -> Tensor:
        """Return the maps (B, classes, h, w) of images, which are padded to whole patches."""
        logits, attention = net.attended(images, self._semformer.attention_layers)
        return F.relu(F.relu(logits) * spread_out(attention))[:, 1:]


def whole_patches(net: SemFormerNet, images: Tensor) -> Tensor:
    """Resize images (B, 3, H, W) up to whole patches, so that maps cover them exactly."""
    size = pad_to_multiple(images, net.backbone.shape.patch).shape[2:]
    if size == images.shape[2:]:
        return images
    return F.interpolate(images, tuple(size), mode="bilinear", align_corners=False)


METHOD = SemFormer
