"""CAAE, the class-aware autoencoder of SemFormer (Chen et al., arXiv 2210.14618).

An encoder turns a transformer's tokens into non-negative features of each class. Their sum over the
image is an embedding of each class, and the decoder reconstructs the image from the features alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss.nets.backbone import Network
from wsss.nets.vit import Block, Shape, ViT
from wsss.storage.checkpoint import Layout

SMALLEST = 1e-4  # smallest distance of a cosine from -1 and 1 (published code)
DECODER_EPS = 1e-5  # epsilon of the LayerNorms outside the pretrained transformer (published code)

# The file that SemFormer's training reads. It also holds DeiT's unused distillation token and head.
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
    """Return the cosine of vectors (..., E), which broadcast, clamped to avoid -1 and 1."""
    return F.cosine_similarity(first, second, dim=-1).clamp(-1 + SMALLEST, 1 - SMALLEST)


@dataclass(frozen=True)
class Code:
    """The encoder's result for images.

    features: of each token (B, N, K * E), class by class. embedding: their sum over tokens (B, K, E).
    grid: tokens (h, w).
    """

    features: Tensor
    embedding: Tensor
    grid: tuple[int, int]


class Decoder(nn.Module):
    """Transformer blocks without positions that turn tokens into the pixels of their patches."""

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
        """Return images (B, 3, h * patch, w * patch) from tokens (B, h * w, D)."""
        tokens = self.enter(tokens)
        for block in self.blocks:
            tokens, _ = block(tokens)
        pixels: Tensor = self.pixels(self.norm(tokens))
        squares = pixels.transpose(1, 2).reshape(len(tokens), -1, *grid)
        return F.pixel_shuffle(squares, self.patch)


class CAAENet(Network):
    """An encoder without class tokens, features of each class, and a decoder.

    classes: with background. width: features of a class. depth: blocks of the decoder.
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

    def code(self, images: Tensor) -> Code:
        """Encode images (B, 3, H, W); rows and columns beyond whole patches are cut."""
        tokens = self.backbone(images)[0]
        grid = (tokens.shape[2], tokens.shape[3])
        features = F.relu(self.convert(tokens.flatten(2).transpose(1, 2)))
        return Code(features, features.sum(1).reshape(len(images), self.classes, -1), grid)

    def class_semantics(self) -> Tensor:
        """Return the learned vector of each class that embeddings are compared with (K, E)."""
        return F.relu(self.semantics.weight)

    def reconstruct(self, code: Code, size: tuple[int, int]) -> Tensor:
        """Return the reconstructed images (B, 3, *size); rows and columns beyond patches are 0."""
        images: Tensor = self.decoder(self.restore(code.features), code.grid)
        return F.pad(images, (0, size[1] - images.shape[3], 0, size[0] - images.shape[2]))

    def forward(self, images: Tensor) -> Tensor:
        """Return the similarity of each class's embedding to its semantics (B, K), in [0, 1)."""
        return cosine(self.code(images).embedding.float(), self.class_semantics())

    def learn(self, images: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return the similarities (B, K) and the reconstructed images (B, 3, H, W).

        present: (B, K) of 0 and 1; the semantics of absent classes get no gradient from an image.
        """
        code, semantics = self.code(images), self.class_semantics()
        semantics = torch.where(present[:, :, None] > 0, semantics, semantics.detach())
        images = self.reconstruct(code, (images.shape[2], images.shape[3]))
        return cosine(code.embedding.float(), semantics), images
