"""The class-aware autoencoder of SemFormer (Chen et al., arXiv 2210.14618): pictures as classes.

A transformer's tokens become non-negative features of each class; their sum over the picture says
which classes are in it, and from them alone the picture is drawn again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.nets.backbone import Network
from wsss.nets.vit import Block, Shape, ViT
from wsss.storage.checkpoint import Layout

SMALLEST = 1e-4  # how near a cosine may come to -1 and 1 (published)
DECODER_EPS = 1e-5  # of the LayerNorms outside the pretrained transformer

# The file that SemFormer's training reads. DeiT's distillation token and head are in it and unused.
CAAE_LAYOUT = Layout(
    (
        (r"^encoder\.vit_backbone\.grid_posembed$", "backbone.pos_embed"),
        (r"^encoder\.vit_backbone\.model\.", "backbone."),
        (r"^convert\.0\.", "convert."),
        (r"^re_convert\.", "restore."),
        (r"^crs\.0\.", "semantics."),
        (r"^decoder\.mlp\.", "decoder.pixels."),
        (r"^mlp\.", "decoder.enter."),
    ),
    dropped=(r"encoder\.vit_backbone\.model\.(?:dist_token|head_dist\..*)",),
)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Return the cosine of vectors (..., E), which broadcast, kept off -1 and 1."""
    return F.cosine_similarity(first, second, dim=-1).clamp(-1 + SMALLEST, 1 - SMALLEST)


@dataclass(frozen=True)
class Coded:
    """What the autoencoder makes of pictures.

    features: of each token (B, N, K * E), class by class. embedding: their sum (B, K, E).
    """

    features: Tensor
    embedding: Tensor
    grid: tuple[int, int]


class Decoder(nn.Module):
    """Transformer blocks without positions, from tokens to the pixels of their patches."""

    def __init__(self, shape: Shape, depth: int) -> None:
        super().__init__()
        self.patch = shape.patch
        self.enter = nn.Linear(shape.width, shape.width)
        self.blocks = nn.ModuleList(
            Block(shape.width, shape.heads, eps=DECODER_EPS) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(shape.width, DECODER_EPS)
        self.pixels = nn.Linear(shape.width, 3 * shape.patch**2)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return pictures (B, 3, h * patch, w * patch) of tokens (B, h * w, D)."""
        tokens = self.enter(tokens)
        for block in self.blocks:
            tokens, _ = block(tokens)
        found: Tensor = self.pixels(self.norm(tokens))
        squares = found.transpose(1, 2).reshape(len(tokens), -1, *grid)
        return F.pixel_shuffle(squares, self.patch)


class CAAENet(Network):
    """An encoder without class tokens, features of each class, and a decoder.

    classes: with background. width: of the features of a class. depth: of the decoder.
    """

    def __init__(self, shape: Shape, classes: int, width: int, depth: int) -> None:
        super().__init__()
        self.backbone: ViT = ViT(shape, 0)
        self.classes = classes
        self.convert = nn.Linear(shape.width, classes * width, bias=False)
        self.semantics = nn.Embedding(classes, width)
        self.restore = nn.Sequential(
            nn.Linear(classes * width, shape.width, bias=False),
            nn.LayerNorm(shape.width, DECODER_EPS),
        )
        self.decoder = Decoder(shape, depth)

    def code(self, images: Tensor) -> Coded:
        """Return the class features of pictures (B, 3, H, W); surplus rows and columns are cut."""
        tokens = self.backbone(images)[0]
        grid = (tokens.shape[2], tokens.shape[3])
        features = F.relu(self.convert(tokens.flatten(2).transpose(1, 2)))
        return Coded(features, features.sum(1).reshape(len(images), self.classes, -1), grid)

    def class_semantics(self) -> Tensor:
        """Return what the embedding of each class is compared with (K, E)."""
        return F.relu(self.semantics.weight)

    def draw(self, coded: Coded, size: tuple[int, int]) -> Tensor:
        """Return the pictures (B, 3, *size) again; surplus rows and columns are 0."""
        found: Tensor = self.decoder(self.restore(coded.features), coded.grid)
        return F.pad(found, (0, size[1] - found.shape[3], 0, size[0] - found.shape[2]))

    def forward(self, images: Tensor) -> Tensor:
        """Return the similarity of each class to its semantics (B, K), in [0, 1)."""
        return cosine(self.code(images).embedding.float(), self.class_semantics())

    def learn(self, images: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return the similarities (B, K) and the pictures drawn again (B, 3, H, W).

        present: (B, K) of 0 and 1; the semantics of absent classes do not learn from a picture.
        """
        coded, semantics = self.code(images), self.class_semantics()
        chosen = torch.where(present[:, :, None] > 0, semantics, semantics.detach())
        drawn = self.draw(coded, (images.shape[2], images.shape[3]))
        return cosine(coded.embedding.float(), chosen), drawn
