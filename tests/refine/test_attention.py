"""Spreading by attention: Sinkhorn's normalisation, boxes of high scores."""

import torch

from wsss.refine.attention import (
    boxes,
    least_class_attention,
    selected_mean,
    sinkhorn,
    spread,
    transferred,
)


def attention(cells: int = 12, images: int = 2) -> torch.Tensor:
    torch.manual_seed(0)
    return (3 * torch.randn(images, cells, cells)).softmax(-1)


def test_columns_are_divided_before_rows() -> None:
    one = attention()
    columns = one / one.sum(1, keepdim=True)
    rows = columns / columns.sum(2, keepdim=True)
    assert torch.allclose(sinkhorn(one, 1), (rows + rows.mT) / 2)
    assert torch.allclose(rows.sum(2), torch.ones(2, 12))


def test_a_transition_is_symmetric_and_sums_to_nearly_one() -> None:
    transition = sinkhorn(attention(), 100)
    assert torch.equal(transition, transition.mT)
    assert torch.allclose(transition.sum(1), torch.ones(2, 12), atol=1e-3)


def test_a_box_bounds_one_region_diagonal_neighbours_included() -> None:
    scores = torch.zeros(2, 5, 6)
    scores[0, 1, 1] = scores[0, 2, 2] = 1.0
    scores[0, 4, 5] = 0.41
    scores[0, 0, 4] = 0.40  # not above the share
    inside = boxes(scores, 0.4)
    expected = torch.zeros(2, 5, 6)
    expected[0, 1:3, 1:3] = expected[0, 4, 5] = 1
    assert torch.equal(inside, expected)
    expected[0, 4, 5] = 0  # of one row and one column at the border: nothing remains
    assert torch.equal(boxes(scores, 0.4, cut=True), expected)


def test_evidence_comes_from_inside_the_boxes_alone() -> None:
    scores = torch.zeros(1, 2, 3, 4)
    scores[0, 0, 1, 1], scores[0, 0, 2, 3] = 1.0, 0.3
    once = spread(scores, attention(12, 1), 0.4)
    scores[0, 0, 2, 3] = 0
    assert torch.equal(spread(scores, attention(12, 1), 0.4), once)
    assert not once[0, 1].any()
    step = sinkhorn(attention(12, 1))[0]
    reached = (step @ step)[:, 5].reshape(3, 4)  # from the one cell with evidence
    assert torch.allclose(once[0, 0], (reached - reached.min()) / (reached - reached.min()).max())


def test_without_boxes_all_scores_are_spread() -> None:
    scores = torch.rand(2, 3, 3, 4)
    step = sinkhorn(attention())
    expected = torch.einsum("bij,bcj->bci", step @ step, scores.flatten(2)).view(2, 3, 3, 4)
    assert torch.allclose(transferred(scores, attention(), None).float(), expected, atol=1e-6)
    assert not transferred(torch.zeros(2, 1, 3, 4), attention(), None).any()


def test_stretching_does_not_enlarge_rounding_where_all_cells_attend_alike() -> None:
    scores, alike = torch.rand(2, 3, 20, 20), 1 + 0.01 * torch.rand(2, 400, 400)
    exact = spread(scores.double(), alike.double(), 0.4)
    assert torch.allclose(spread(scores, alike, 0.4).double(), exact, atol=3e-7)


def test_an_affinity_has_no_say_in_the_selection() -> None:
    blocks = torch.rand(3, 6, 12, 12)
    affinities = torch.rand(3, 1, 12, 12)
    differences = (affinities.double() - blocks.double()).sum((2, 3))
    published = differences <= differences.mean(1, keepdim=True)
    chosen = least_class_attention(blocks)
    assert torch.equal(chosen, published)
    assert chosen.any(1).all()
    assert not chosen.all(1).any()
    mean = torch.stack([maps[keep].mean(0) for maps, keep in zip(blocks, chosen, strict=True)])
    assert torch.allclose(selected_mean(blocks), mean, atol=1e-4)
    assert least_class_attention(torch.full((1, 3, 2, 2), 0.1)).all()  # equal blocks
