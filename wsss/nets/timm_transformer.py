"""Plain vision transformers of timm (ViT, DINO, DINOv2, CLIP, SigLIP, EVA) as backbones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from wsss.data.resize import pad_to_multiple
from wsss.nets.backbone import Backbone, timm_model

POOLED_NORM = "fc_norm."  # the final norm of networks that average tokens before it


class TimmTransformer(Backbone):
    """A transformer of timm whose patches are the cells of its only feature map, at any image size.

    Class tokens and registers take part in the attention and are left out of the map. The position
    table is resized to the grid of an image; partial patches are cropped.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        pooling = "token" if "distilled" in name else ""  # these have tokens and no other pooling
        body = timm_model(name, dynamic_img_size=True, global_pool=pooling)
        self.body = body
        self.patch = int(body.patch_embed.patch_size[0])
        self.special = int(body.num_prefix_tokens)
        self.mean, self.std = tuple(body.default_cfg["mean"]), tuple(body.default_cfg["std"])
        self.channels, self.strides = (int(body.num_features),), (self.patch,)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the patch tokens after the final norm as one feature map (B, D, h, w)."""
        height, width = (side - side % self.patch for side in images.shape[2:])
        body: Any = self.body
        tokens: Tensor = body.forward_features(images[:, :, :height, :width])
        grid = (height // self.patch, width // self.patch)
        return [tokens[:, self.special :].transpose(1, 2).reshape(len(images), -1, *grid)]

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.body.blocks)

    def blocks(self, images: Tensor) -> list[Tensor]:
        """Return the patch tokens (B, D, h, w) of each block after the final norm.

        Images are padded at the right and bottom to whole patches.
        """
        padded = pad_to_multiple(images, self.patch)
        body: Any = self.body
        maps: list[Tensor] = body.forward_intermediates(padded, norm=True, intermediates_only=True)
        return maps

    def adapt(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return initial weights; the norm of averaged tokens becomes that of each token."""
        return {
            key.replace(POOLED_NORM, "norm.", 1) if key.startswith(POOLED_NORM) else key: value
            for key, value in state.items()
        }
