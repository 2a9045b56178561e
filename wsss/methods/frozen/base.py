"""The common part of WeCLIP and ExCEL: a decoder on a frozen CLIP that learns from CLIP's own class maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, Literal, Protocol, TypeVar, cast

from torch import Tensor, nn

from wsss.data.images import IMAGENET
from wsss.methods.base import Method, Source
from wsss.methods.clip_es.mean_features import mean_features
from wsss.methods.clip_es.network import ClipNet, image_tower
from wsss.methods.frozen import published
from wsss.methods.frozen.network import DecoderHyperParameters
from wsss.nets import clip_vit
from wsss.nets.backbone import Network
from wsss.nets.clip_vit import ClipViT
from wsss.storage.checkpoint import Layout


class FrozenHyperParameters(DecoderHyperParameters, Protocol):
    """The hyper-parameters that the methods share; weclip.yaml and excel.yaml explain them."""

    text: Literal["words", "mean_features"]
    templates: tuple[str, ...]
    attention_blocks: int
    box_threshold: float
    box_cut: bool
    pairs_weight: float
    window: int
    par_iterations: int
    refine_px: int
    label_padding: bool
    labels_with_dropout: bool
    imagenet_colours: bool


Parameters = TypeVar("Parameters", bound=FrozenHyperParameters)


class FrozenClip(Method, Generic[Parameters]):
    """A prepared network whose decoder predicts masks, and whose class maps depend on image labels."""

    @property
    def hyper_parameters(self) -> Parameters:
        """The hyper-parameters of the network."""
        return cast("Parameters", self.params["classifier"].hyper_parameters)

    def tower(self, network: str, round_positions: bool = False) -> ClipViT:
        """Return the image tower with random weights, and the colours that images are normalised by."""
        tower = image_tower(self.params[network].backbone, network, round_positions)
        if self.hyper_parameters.imagenet_colours:
            tower.mean, tower.std = IMAGENET
        return tower

    def layout(self, network: str) -> Layout:
        """Return the layout of the files that the authors' code writes."""
        shape = clip_vit.shape_of(self.params[network].backbone)
        return published.layout(shape.grid) if shape else super().layout(network)

    def give(
        self, network: str, net: Network, text: Mapping[str, Tensor] | None, images: Source
    ) -> None:
        """Give the network the vectors of the dataset's words, or else mean features of its images."""
        tower, side = cast("ClipNet", net), self.params[network].augment.crop_px
        tower.set_vectors(mean_features(tower, images, side) if text is None else text)

    def logits(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return by how much the decoder prefers each class (B, C) to background in its best cell."""
        logits = self.decode(net, images)
        return (logits[:, 1:] - logits[:, :1]).amax((2, 3))

    def cam(self, net: nn.Module, images: Tensor) -> Tensor:
        """Return the class maps (B, C, h, w) as if every class were present."""
        return self.cam_of(net, images, images.new_ones(len(images), self.classes))

    def signed_cam_of(self, net: nn.Module, images: Tensor, present: Tensor) -> Tensor:
        """Return `cam_of`: no score is negative."""
        return self.cam_of(net, images, present)
