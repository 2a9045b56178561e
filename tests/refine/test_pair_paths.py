"""The losses of affinity networks: equal to plain loops over pairs, in few operations."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from wsss.refine.affinity import (
    affinity_loss,
    displacement_loss,
    path_affinities,
    paths,
    windows,
)
from wsss.refine.pair_paths import Strongest


class Counting(TorchDispatchMode):
    """Counts the operations that compute something."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        """Count an operation, unless its result is a view."""
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def strongest_in_a_loop(edges: Tensor, radius: int, margin: int) -> list[Tensor]:
    results = []
    for offset, cells in paths(radius):
        (rows, columns), _ = windows(*edges.shape[1:], offset, margin)
        crossed = [
            edges[:, rows.start + y : rows.stop + y, columns.start + x : columns.stop + x]
            for y, x in cells
        ]
        results.append(torch.stack(crossed).amax(0))
    return results


def strongest_at_once(edges: Tensor, radius: int, margin: int) -> list[Tensor]:
    lines = paths(radius)
    near = [windows(*edges.shape[1:], offset, margin) for offset, _ in lines]
    return list(Strongest.apply(edges, [cells for _, cells in lines], near))


@pytest.mark.parametrize("margin", [0, 2, 4])
@pytest.mark.parametrize("largest", [2**26, 1])
def test_the_strongest_edge_and_its_gradient_are_those_of_a_loop(
    margin: int, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsss.refine.pair_paths.LARGEST", largest)
    torch.manual_seed(0)
    values = torch.rand(2, 12, 15)
    gradients = []
    for way in (strongest_in_a_loop, strongest_at_once):
        edges = values.clone().requires_grad_()
        results = way(edges, 5, margin)
        torch.stack([(n + 1) * r.square().sum() for n, r in enumerate(results)]).sum().backward()
        gradients.append((edges.grad, [result.detach() for result in results]))
    (expected, loop), (gradient, at_once) = gradients
    assert all(torch.equal(a, b) for a, b in zip(loop, at_once, strict=True))
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5)


def test_of_equal_edges_the_first_gets_the_gradient() -> None:
    edges = torch.ones(1, 3, 3).requires_grad_()
    [right, *_] = strongest_at_once(edges, 2, 0)
    right.sum().backward()
    first = [cells[0] for offset, cells in paths(2) if offset == paths(2)[0][0]]
    assert edges.grad is not None
    assert edges.grad.sum() == right.numel()
    y, x = first[0]
    assert torch.equal(edges.grad[0, y : y + 1, x : x + 1].flatten(), torch.ones(1))


def test_the_losses_of_a_step_need_few_operations() -> None:
    torch.manual_seed(0)
    logits, field = (torch.randn(1, count, 24, 24).requires_grad_() for count in (1, 2))
    labels = torch.randint(0, 3, (1, 24, 24))
    with Counting() as counting:
        terms = affinity_loss(path_affinities(logits[:, 0].sigmoid(), 10, 9), labels, 9)
        terms |= displacement_loss(field, labels, 10, 9)
        torch.stack(list(terms.values())).sum().backward()
    assert counting.count < 2500  # one after the other, the 152 offsets need more than 30,000
