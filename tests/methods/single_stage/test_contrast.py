"""Contrastive losses: what they reward, what they leave out, and tags that they do not believe."""

import pytest
import torch
import torch.nn.functional as F

from wsss.methods.single_stage import contrast, dense_energy

FORMS = ("parent", "head", "supcon")


def around(tags: torch.Tensor, spread: float, seed: int = 0) -> torch.Tensor:
    """Return unit vectors near the centre of their tag."""
    generator = torch.Generator().manual_seed(seed)
    centres = F.normalize(torch.randn(6, 32, generator=torch.Generator().manual_seed(99)), dim=1)
    noise = torch.randn(len(tags), 32, generator=generator)
    return F.normalize(centres[tags.long() + 1] + spread * noise, dim=1)


def test_anchors_near_their_own_kind_have_a_smaller_supervised_loss() -> None:
    form = "supcon"  # of the published forms this does not hold
    tags = torch.tensor([1.0, 1, 2, 2, 3, 3])
    others = tags.repeat(4)
    near = contrast.local_loss(around(tags, 0.05), around(others, 0.05, 1), tags, others, form, 0.1)
    far = contrast.local_loss(around(tags, 2.0), around(others, 2.0, 1), tags, others, form, 0.1)
    assert near[0] < far[0]


@pytest.mark.parametrize("form", FORMS)
def test_anchors_of_which_nothing_is_known_give_nothing(form: str) -> None:
    tags, others = torch.full((4,), -1.0), torch.tensor([1.0, 2, -1, 0])
    anchors = around(others, 0.5).requires_grad_()
    loss, revised = contrast.local_loss(anchors, around(others, 0.5, 1), tags, others, form, 0.1)
    (gradient,) = torch.autograd.grad(loss, anchors)
    assert loss == 0
    assert torch.equal(revised, tags)
    assert (gradient == 0).all()


def noisy(weak: int, strong: int) -> tuple[torch.Tensor, ...]:
    """Return one anchor, and candidates of its class: few like it, many unlike it."""
    anchor = F.normalize(torch.ones(1, 8), dim=1)
    candidates = torch.cat([anchor.expand(strong, -1), -anchor.expand(weak, -1)])
    return anchor, candidates, torch.ones(1), torch.ones(weak + strong)


@pytest.mark.parametrize(("weak", "believed"), [(20, True), (22, False)])
def test_a_tag_is_not_believed_if_ten_times_as_many_are_unlike_it(
    weak: int, believed: bool
) -> None:
    for form in FORMS:
        _, revised = contrast.local_loss(*noisy(weak, 2), form, 0.08)
        assert revised.item() == (1 if believed else 0), form


def test_without_a_class_there_is_no_prototype_loss() -> None:
    anchors = around(torch.zeros(3), 0.1).requires_grad_()
    for form in ("parent", "head", "ce_margin"):
        loss = contrast.prototype_loss(anchors, torch.eye(5, 32), torch.zeros(3), form, 0.1)
        (gradient,) = torch.autograd.grad(loss, anchors)
        assert loss == 0
        assert (gradient == 0).all()


def test_as_published_a_score_of_exactly_zero_is_no_competitor() -> None:
    prototypes, anchors = torch.eye(3), torch.eye(3)[:2]
    tags = torch.tensor([1.0, 2.0])
    found = contrast.prototype_loss(anchors, prototypes, tags, "parent", 0.1)
    assert found.abs() < 1e-6  # of two classes the other's score is 0, whose weight of 1 is dropped


def test_crops_of_background_are_pushed_away_from_the_whole() -> None:
    flags = torch.tensor([[1, 1, 0]])
    teacher = F.normalize(torch.randn(2, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    student = torch.cat([teacher, teacher[:1]])
    like = contrast.token_contrast(student, teacher, flags, 0.5)
    unlike = contrast.token_contrast(torch.cat([teacher, -teacher[:1]]), teacher, flags, 0.5)
    assert unlike < like


def test_a_crop_that_is_wholly_ignored_gives_no_loss_and_finite_gradients() -> None:
    logits = torch.randn(2, 4, 12, 12, requires_grad=True)
    labels = torch.full((2, 12, 12), 255)
    nothing = torch.zeros(2, 12, 12, dtype=torch.bool)
    images = torch.rand(2, 3, 12, 12) * 255
    features = torch.randn(2, 8, 3, 3, requires_grad=True)
    terms = [
        dense_energy.balanced(logits, labels),
        dense_energy.dense_energy(images, logits, labels, nothing),
    ]
    pairs = contrast.pair_loss(features, torch.full((2, 9, 9), 255))
    assert all(term == 0 for term in terms)
    assert pairs == 0.5  # neither alike nor unlike: a constant
    for gradient in torch.autograd.grad(sum(terms) + pairs, (logits, features)):
        assert (gradient == 0).all()


def test_the_decoder_s_loss_has_no_side_that_is_not_a_number() -> None:
    logits = torch.randn(1, 4, 6, 6, requires_grad=True)
    background = dense_energy.balanced(logits, torch.zeros(1, 6, 6, dtype=torch.long))
    assert torch.isfinite(background)
    mean = F.cross_entropy(logits, torch.zeros(1, 6, 6, dtype=torch.long))
    assert torch.allclose(background, 0.5 * mean)
