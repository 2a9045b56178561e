"""CLIP-ES (Lin et al., CVPR 2023): class maps of a frozen CLIP, nothing is trained.

The classes of an image and many backgrounds compete in one softmax over the similarity of the image to
their vectors. GradCAM on the last block gives a map for each class; CLIP's own attention spreads it.

Differences: none in the published settings, but for float16 on a GPU, in which the authors' code also
computes softmax and LayerNorm of the attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import torch
from torch import Tensor, nn

from wsss.data.workers import Batch
from wsss.methods.base import Method, Source
from wsss.methods.clip_es.gradcam import gradcam
from wsss.methods.clip_es.mean_features import mean_features
from wsss.methods.clip_es.network import ClipNet, Encoded, image_tower
from wsss.nets.backbone import Network
from wsss.refine.attention import spread


class ClipHyperParameters(Protocol):
    """The hyper-parameters of the given network; clip_es.yaml explains them."""

    text: Literal["words", "mean_features"]
    templates: tuple[str, ...]
    logit_scale: float
    layers: int
    box_threshold: float
    box_cut: bool
    half: bool
    round_positions: bool


@dataclass(frozen=True)
class Explained:
    """What GradCAM yields for a batch of images.

    maps: in [0, 1] (B, C, h, w), zeros for absent classes. probability: of the present classes and all
    backgrounds (B, C + K). attention: between patches, averaged over blocks and heads (B, h * w, h * w).
    """

    maps: Tensor
    probability: Tensor
    attention: Tensor


class ClipES(Method):
    """GradCAM of a frozen CLIP, spread by its attention."""

    hyper_parameter_types = {"clip": ClipHyperParameters}

    @property
    def _hyper_parameters(self) -> ClipHyperParameters:
        return cast("ClipHyperParameters", self.params["clip"].hyper_parameters)

    def build(self, network: str) -> ClipNet:
        """Return the image tower with random vectors."""
        params, positions = self.params[network], self._hyper_parameters.round_positions
        return ClipNet(image_tower(params.backbone, network, positions), self.classes)

    def losses(
        self, network: str, nets: Mapping[str, nn.Module], batch: Batch, step: int
    ) -> dict[str, Tensor]:
        """Return no terms: nothing is trained."""
        return {}

    def give(
        self, network: str, net: Network, text: Mapping[str, Tensor] | None, images: Source
    ) -> None:
        """Give the network the vectors of the dataset's words, or else mean features of its images."""
        tower = cast("ClipNet", net)
        side = self.params[network].augment.crop_px
        tower.set_vectors(mean_features(tower, images, side) if text is None else text)

    def logits(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return by how much each class (B, C) is more similar than the most similar background."""
        tower = cast("ClipNet", net)
        vectors: Tensor = tower(images)
        background = (vectors @ tower.background.T).amax(1, keepdim=True)
        return self._hyper_parameters.logit_scale * (vectors @ tower.classes.T - background)

    def cam(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the class maps (B, C, h, w) as if every class were present."""
        return self.cam_of(net, images, images.new_ones(len(images), self.classes))

    def cam_of(self, net: nn.Module, images: Tensor, present: Tensor) -> Tensor:
        """Return the spread maps (B, C, h, w) in [0, 1] of the present classes; zeros for others."""
        explained = self.explained(cast("ClipNet", net), images, present)
        params = self._hyper_parameters
        return spread(explained.maps, explained.attention, params.box_threshold, cut=params.box_cut)

    def signed_cam_of(self, net: nn.Module, images: Tensor, present: Tensor) -> Tensor:
        """Return `cam_of`: no score is negative."""
        return self.cam_of(net, images, present)

    def explained(self, net: ClipNet, images: Tensor, present: Tensor) -> Explained:
        """Return GradCAM's maps of the present classes (B, C), 0 or 1, and what they come from."""
        params = self._hyper_parameters
        half = params.half and images.device.type == "cuda"
        with torch.no_grad():
            encoded = net.encode(images, params.layers)
        cam = gradcam(net, encoded.tokens, encoded.grid, present, params.logit_scale, half)
        attention = patch_attention(encoded, cam.attention, net.backbone.special)
        return Explained(cam.maps, cam.probability, attention)


def patch_attention(encoded: Encoded, weights: Tensor, special: int) -> Tensor:
    """Return the attention between patches (B, n, n), averaged over the last blocks.

    weights: attention of the last block (B, N, N).
    """
    mean = (encoded.attention + weights) / (encoded.blocks + 1)
    return mean[:, special:, special:]


METHOD = ClipES
