"""Muon: steps keep their directions, have equal lengths, and go on after a stop."""

from __future__ import annotations

import pytest
import torch

from denoise.training.optimiser import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(8, 72), (72, 8), (16, 16), (1, 9)])
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(2)
    left, _, right = torch.linalg.svd(torch.randn(shape, generator=generator), full_matrices=False)
    lengths = torch.logspace(0, -1, len(left[0]))
    result = orthogonalise(left @ torch.diag(lengths) @ right)
    inside = left.T @ result @ right.T
    values = inside.diagonal()
    assert values.min() > 0.5
    assert values.max() < 1.3
    assert (inside - torch.diag(values)).abs().max() < 1e-3


def test_a_step_does_not_depend_on_the_gradient_scale() -> None:
    results = []
    for scale in (1e-4, 1e3):
        weight = torch.nn.Parameter(torch.zeros(4, 3, 3, 3))
        weight.grad = scale * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        Muon([weight], lr=0.1).step()
        results.append(weight.detach().clone())
    torch.testing.assert_close(*results)


def test_it_solves_a_least_squares_problem() -> None:
    generator = torch.Generator().manual_seed(1)
    truth, seen = torch.randn(5, 7, generator=generator), torch.randn(7, 200, generator=generator)
    weight = torch.nn.Parameter(torch.zeros(5, 7))
    optimiser = Muon([weight], lr=0.05, weight_decay=0.0)
    for step in range(300):
        optimiser.param_groups[0]["lr"] = 0.05 * (1 - step / 300)
        loss = (weight @ seen - truth @ seen).square().mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert (weight - truth).abs().max() < 0.05
