"""A decoder on the tokens of a frozen CLIP and of a second frozen backbone, such as DINOv2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from wsss.data.resize import resize_to_multiple
from wsss.methods.frozen.network import TABLE, DecoderHyperParameters, FrozenNet, FuseHead, Tokens
from wsss.nets.backbone import Backbone
from wsss.nets.clip_vit import ClipViT
from wsss.nets.deeplab import resize
from wsss.storage.checkpoint import KeyTable

# The names that WeCLIP+'s code gives to DINOv2 and to the layer on its tokens -> ours.
SECOND: KeyTable = (
    (r"^dino_decoder_fts_fuse\.", "second_fuse."),
    (r"^dino_encoder\.register_tokens$", "second_backbone.reg_token"),
    (r"^dino_encoder\.", "second_backbone."),
)
# It stands for hidden patches in DINOv2's own training.
SECOND_DROPPED = (r"dino_encoder\.mask_token",)
PAIR_TABLE: KeyTable = (*SECOND, *TABLE)  # of all that the decoder reads


@dataclass(frozen=True)
class Pair:
    """Maps (B, D, h, w) of one kind from both backbones: fused features, or logits."""

    clip: Tensor
    second: Tensor

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the map of CLIP, then the map of the second backbone."""
        return iter((self.clip, self.second))

    @property
    def channels(self) -> Tensor:
        """The channels of both maps (B, 2 D, h, w)."""
        return torch.cat([self.clip, self.second], 1)

    @property
    def mean(self) -> Tensor:
        """The mean of both maps (B, D, h, w)."""
        return (self.clip + self.second) / 2


class PairNet(FrozenNet):
    """Two frozen backbones, whose last patches one decoder reads one after the other."""

    def __init__(
        self,
        backbone: ClipViT,
        second_backbone: Backbone,
        classes: int,
        hyper_parameters: DecoderHyperParameters,
    ) -> None:
        super().__init__(backbone, classes, hyper_parameters, inputs=1)
        self.second_backbone = second_backbone.requires_grad_(False).eval()
        channels = second_backbone.channels[-1]
        self.second_fuse = FuseHead(1, channels, hyper_parameters.width, hyper_parameters.dropout)

    def train(self, mode: bool = True) -> PairNet:
        """Set the mode of the decoder; statistics of the second backbone stay as they are."""
        super().train(mode)
        self.second_backbone.eval()
        return self

    @torch.no_grad()
    def encode_second(self, images: Tensor) -> Tensor:
        """Return the second backbone's last features (B, D, h', w') of images (B, 3, H, W).

        Images are in the colours of the first backbone, and are shrunk to whole cells of the second.
        """
        second = self.second_backbone
        whole = resize_to_multiple(recoloured(images, self.backbone, second), second.strides[-1])
        return second(whole)[-1].float()  # type: ignore[no-any-return]  # nn.Module call

    def pair_features(self, tokens: Tokens, second: Tensor) -> tuple[Pair, Pair]:
        """Return fused features (B, width, h, w) of both backbones, with and without dropout.

        second: of `encode_second`; its fused features are resized to the cells of CLIP.
        """
        clip = self.features(tokens.blocks[-1:], tokens.grid)
        cells = second.flatten(2).transpose(1, 2)
        fused = self.second_fuse([cells], second.shape[2:])
        dropped, features = (
            Pair(first, resize(other, tokens.grid))
            for first, other in zip(clip, fused, strict=True)
        )
        return dropped, features

    def predict(self, features: Pair) -> Pair:
        """Return the decoder's logits (B, 1 + C, h, w) of the features of both backbones."""
        return Pair(*(self.decoder(branch) for branch in features))


def recoloured(images: Tensor, given: Backbone, target: Backbone) -> Tensor:
    """Return images (B, 3, H, W) normalised by the colours of `target` instead of `given`.

    Images stay as they are where both have the same colours.
    """
    if (given.mean, given.std) == (target.mean, target.std):
        return images
    means, stds = (
        images.new_tensor([getattr(given, key), getattr(target, key)])[:, :, None, None]
        for key in ("mean", "std")
    )
    return (images * stds[0] + means[0] - means[1]) / stds[1]
