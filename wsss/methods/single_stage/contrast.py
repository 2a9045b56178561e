"""Contrastive losses between the tokens of whole images, of small crops, and prototypes.

Tags are classes from 1; 0 is background, -1 is unknown.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

LocalForm = Literal["parent", "head", "supcon"]
PrototypeForm = Literal["parent", "head", "ce_margin"]
# An anchor with more positives below their mean per positive above it is noisy (published code).
NOISE_RATIO = 10.0
TINY = 1e-12  # avoids the logarithm of 0 (published code)
MARGIN = 0.3  # scores of other prototypes up to it cost nothing (published code)
TOCO_TINY = 1e-4  # avoids the logarithm of 0 and the division by 0 (ToCo's published code)


def local_loss(
    anchors: Tensor,
    candidates: Tensor,
    tags: Tensor,
    others: Tensor,
    form: LocalForm,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Return the contrast of anchors with candidates (LIL, LCL), and the anchors' revised tags.

    anchors: unit vectors (M, D) with tags (M,). candidates: unit vectors (Q, D) with tags `others`
    (Q,). form: parent (SeCo), head (CPDGL's last revision), or supcon (supervised contrast).
    """
    scores = anchors @ candidates.T / temperature
    shifted = scores - scores.amax(1, keepdim=True).detach()
    tagged = tags >= 0
    alike = (tags[:, None] == others[None]) & tagged[:, None]
    shifted = shifted * tagged[:, None]
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
    weights = torch.where(weights == 1, 0.0, weights)  # as published, this removes the largest too
    mass = weights.sum(1)
    terms = positive.sum(1) - positive.shape[1] * (mass + TINY).log()
    if form == "head":
        valid = (positive != 0).any(1)
        return _mean(-terms, valid), tags
    counted = int((positive != 0).sum())
    valid = (mass > 0) & (terms < 0)
    if not counted:
        return (anchors * 0).sum(), tags
    return -(terms * valid / counted).mean(), tags


def _noisy(positive: Tensor) -> Tensor:
    """Return a mask (M,) of the anchors whose positives lie mostly below their mean.

    positive: scores (M, Q); candidates of other tags count as scores of 0.
    """
    mean = positive.mean(1, keepdim=True)
    weak, strong = (positive < mean).sum(1), (positive >= mean).sum(1)
    return weak / (strong + 1e-6) > NOISE_RATIO


def _supervised(scores: Tensor, alike: Tensor, others: Tensor) -> Tensor:
    """Return the supervised contrastive loss, a mean over the anchors with positives."""
    log_share = scores - scores.masked_fill(others < 0, -torch.inf).logsumexp(1, keepdim=True)
    means = (log_share * alike).sum(1) / alike.sum(1).clamp(min=1)
    return _mean(-means, alike.any(1))


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of the values where `chosen` is true; 0 if there are none."""
    return torch.where(chosen, values, 0.0).sum() / chosen.sum().clamp(min=1)


def prototype_loss(
    anchors: Tensor, prototypes: Tensor, tags: Tensor, form: PrototypeForm, temperature: float
) -> Tensor:
    """Return the contrast of anchors (M, D) with the prototype of their class (LIG, PCL).

    prototypes: (classes, D). tags: (M,). form: parent (SeCo, among the classes of the batch), head
    (CPDGL's last revision), or ce_margin (cross-entropy over all classes, and a margin).
    """
    chosen = tags > 0
    if not chosen.any():
        return (anchors * 0).sum()
    scores = anchors[chosen] @ prototypes.T / temperature
    classes = tags[chosen].long() - 1
    positive = scores.gather(1, classes[:, None])[:, 0]
    if form == "parent":
        in_batch = torch.zeros(len(prototypes), dtype=torch.bool, device=classes.device)
        in_batch[classes] = True
        weights = scores.exp()
        weights = torch.where((weights == 1) | ~in_batch, 0.0, weights)  # as published, without e^0
        return -(positive - (weights.sum(1) + TINY).log()).mean()
    others = scores.scatter(1, classes[:, None], 0.0).amax(1)
    margin = F.relu(others - MARGIN).mean()
    if form == "ce_margin":
        return F.cross_entropy(scores, classes) + margin
    shifted = scores - scores.amax(1, keepdim=True)
    log_share = positive - (shifted.exp().sum(1) + TINY).log()
    return -log_share.sum() / (len(classes) + 1e-6) + margin


def token_contrast(student: Tensor, teacher: Tensor, flags: Tensor, temperature: float) -> Tensor:
    """Return the contrast of class tokens between the views of each image (CTC of ToCo).

    student: (views * B, D), view by view, the two global views first. teacher: (2 * B, D), of the
    global views. flags: (B, views), 1 if a view shows an object, 0 if it shows background.
    """
    batch, views = flags.shape
    student, teacher = student.reshape(views, batch, -1), teacher.reshape(2, batch, -1)
    likeness = (torch.einsum("ubd,vbd->ubv", teacher, student) / temperature).exp()
    positive = flags.to(likeness.dtype)
    negatives = (likeness * (1 - positive)).sum(2, keepdim=True)
    terms = -(likeness / (likeness + negatives + TOCO_TINY)).log() * positive
    extra = -(1 / (1 + negatives[..., 0] + TOCO_TINY)).log()  # as published, one more per image
    total = (terms.sum(2) + extra).mean(0)
    return (total / (positive.sum(1) + TOCO_TINY)).mean()


def pair_loss(features: Tensor, pairs: Tensor) -> Tensor:
    """Return the loss that makes patches (B, D, h, w) of one label alike and others unlike (PTC).

    pairs: (B, n, n): 1 alike, 0 not, 255 unknown.
    """
    flat = F.normalize(features.flatten(2), dim=1, eps=1e-8)
    likeness = torch.einsum("bdi,bdj->bij", flat, flat).abs()
    alike, unlike = pairs == 1, pairs == 0
    near = (likeness * alike).sum() / (alike.sum() + 1)
    far = (likeness * unlike).sum() / (unlike.sum() + 1)
    return 0.5 * (1 - near) + 0.5 * far
