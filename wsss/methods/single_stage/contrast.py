"""Contrastive losses between the tokens of whole images, of small crops, and prototypes.

Tags are classes from 1, 0 for background, -1 for crops of which nothing is known.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NOISE_RATIO = (
    10.0  # scores below the mean per one above, from which an anchor's tag is not believed
)
TINY = 1e-12  # in logarithms
MARGIN = 0.3  # that other prototypes' scores may have
FEW = 1e-4  # ToCo's, in logarithms and counts


def local_loss(
    anchors: Tensor, candidates: Tensor, tags: Tensor, others: Tensor, form: str, temperature: float
) -> tuple[Tensor, Tensor]:
    """Return the loss of anchors against candidates of the same tag (LIL, LCL), and revised tags.

    anchors: unit vectors (M, D) with tags (M,); candidates: (Q, D) with tags `others` (Q,). form:
    parent (SeCo), head (CPDGL's last revision), or supcon, the supervised contrastive loss.
    """
    scores = anchors @ candidates.T / temperature
    shifted = scores - scores.amax(1, keepdim=True).detach()
    known = tags >= 0
    alike = (tags[:, None] == others[None]) & known[:, None]
    shifted = shifted * known[:, None]
    positive = shifted * alike
    noisy = _noisy(positive.detach())
    if form == "head":
        noisy = noisy.any().expand_as(noisy)
    tags = torch.where(noisy, 0, tags)
    if form == "supcon":
        return _supervised(scores, alike & ~noisy[:, None], others), tags
    shifted = shifted * (others >= 0)
    positive = positive * ~noisy[:, None]
    weights = shifted.exp()
    weights = torch.where(weights == 1, 0.0, weights)  # as published: the largest goes as well
    mass = weights.sum(1)
    terms = positive.sum(1) - positive.shape[1] * (mass + TINY).log()
    if form == "head":
        valid = (positive != 0).any(1)
        return _mean(-terms, valid), tags
    counted = int((positive != 0).sum())
    kept = (mass > 0) & (terms < 0)
    if not counted:
        return (anchors * 0).sum(), tags
    return -(terms * kept / counted).mean(), tags


def _noisy(positive: Tensor) -> Tensor:
    """Return which anchors (M,) have mostly positives below their mean.

    positive: scores (M, Q), 0 for candidates of other tags, which count as well.
    """
    mean = positive.mean(1, keepdim=True)
    weak, strong = (positive < mean).sum(1), (positive >= mean).sum(1)
    return weak / (strong + 1e-6) > NOISE_RATIO


def _supervised(scores: Tensor, alike: Tensor, others: Tensor) -> Tensor:
    """Return the mean over anchors with positives of -log of their share (supervised contrast)."""
    log_share = scores - scores.masked_fill(others < 0, -torch.inf).logsumexp(1, keepdim=True)
    each = (log_share * alike).sum(1) / alike.sum(1).clamp(min=1)
    return _mean(-each, alike.any(1))


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of the chosen values; 0 if there are none."""
    return torch.where(chosen, values, 0.0).sum() / max(1, int(chosen.sum()))


def prototype_loss(
    anchors: Tensor, prototypes: Tensor, tags: Tensor, form: str, temperature: float
) -> Tensor:
    """Return the loss of anchors (M, D) against the prototype of their class (LIG, PCL).

    prototypes: (classes, D). form: parent (SeCo: among the classes of the batch), head (CPDGL's last
    revision), or ce_margin, cross-entropy over all classes and a margin.
    """
    chosen = tags > 0
    if not chosen.any():
        return (anchors * 0).sum()
    scores = anchors[chosen] @ prototypes.T / temperature
    own = tags[chosen].long() - 1
    positive = scores.gather(1, own[:, None])[:, 0]
    if form == "parent":
        there = torch.zeros(len(prototypes), dtype=torch.bool, device=own.device)
        there[own] = True
        weights = scores.exp()
        weights = torch.where((weights == 1) | ~there, 0.0, weights)  # as published: e^0 goes
        return -(positive - (weights.sum(1) + TINY).log()).mean()
    others = scores.scatter(1, own[:, None], 0.0).amax(1)
    margin = F.relu(others - MARGIN).mean()
    if form == "ce_margin":
        return F.cross_entropy(scores, own) + margin
    shifted = scores - scores.amax(1, keepdim=True)
    pulled = positive - (shifted.exp().sum(1) + TINY).log()
    return -pulled.sum() / (len(own) + 1e-6) + margin


def token_contrast(student: Tensor, teacher: Tensor, flags: Tensor, temperature: float) -> Tensor:
    """Return ToCo's loss (CTC) of the views of each image.

    student: (views * B, D), view by view, the two global ones first; teacher: (2 * B, D) of these.
    flags: (B, views), 1 if a view shows something, 0 if it shows background.
    """
    batch, views = flags.shape
    mine, theirs = student.reshape(views, batch, -1), teacher.reshape(2, batch, -1)
    like = (torch.einsum("ubd,vbd->ubv", theirs, mine) / temperature).exp()
    shows = flags.to(like.dtype)
    against = (like * (1 - shows)).sum(2, keepdim=True)
    each = -(like / (like + against + FEW)).log() * shows
    once = -(1 / (1 + against[..., 0] + FEW)).log()  # as published: once more for each image
    total = (each.sum(2) + once).mean(0)
    return (total / (shows.sum(1) + FEW)).mean()


def pair_loss(features: Tensor, pairs: Tensor) -> Tensor:
    """Return the loss (PTC) that makes patches (B, D, h, w) of one label alike and others not.

    pairs: (B, n, n): 1 alike, 0 not, 255 unknown.
    """
    flat = F.normalize(features.flatten(2), dim=1, eps=1e-8)
    likeness = torch.einsum("bdi,bdj->bij", flat, flat).abs()
    alike, unlike = pairs == 1, pairs == 0
    near = (likeness * alike).sum() / (alike.sum() + 1)
    far = (likeness * unlike).sum() / (unlike.sum() + 1)
    return 0.5 * (1 - near) + 0.5 * far
