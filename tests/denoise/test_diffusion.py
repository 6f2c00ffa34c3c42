"""The chain of Resfusion: its published schedule, its marginals, its inverse, its draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from denoise.diffusion import (
    Schedule,
    average_samples,
    clean_of,
    draw_sample,
    immiscible,
    mixed,
    resfusion_schedule,
    resnoise_of,
    reverse_step,
    run_deterministic,
    start_point,
)
from denoise.errors import DenoiseError


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def drawn(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_five_steps_of_the_published_schedule() -> None:
    schedule = resfusion_schedule(12)
    assert [schedule.root(step) for step in range(5)] == pytest.approx([0.9958, 0.9132, 0.7586, 0.5572, 0.5], abs=5e-5)
    assert schedule.beta == pytest.approx([0.0083, 0.1591, 0.3098, 0.4606, 0.1947], abs=5e-5)
    assert schedule.root(-1) == 1.0


@pytest.mark.parametrize(("length", "steps"), [(12, 5), (20, 8), (50, 19), (100, 37), (273, 100), (1000, 368)])
def test_lengths_of_the_truncated_schedules(length: int, steps: int) -> None:
    schedule = resfusion_schedule(length)
    assert schedule.steps == steps
    assert schedule.root(steps - 1) == pytest.approx(0.5, abs=0.01)


def test_a_schedule_that_is_too_short_is_refused() -> None:
    with pytest.raises(DenoiseError, match="Give 12"):
        resfusion_schedule(1)


@pytest.mark.parametrize("step", range(5))
def test_resnoise_and_clean_image_say_the_same(step: int, generator: torch.Generator) -> None:
    schedule = resfusion_schedule()
    clean, anchor, noise = (drawn(generator, 2, 3, 8, 8) for _ in range(3))
    state = mixed(clean, anchor, noise, schedule, step)
    resnoise = resnoise_of(clean, anchor, state, schedule, step)
    alpha, abar = 1 - schedule.beta[step], schedule.root(step) ** 2
    expected = noise + (1 - alpha**0.5) * (1 - abar) ** 0.5 / schedule.beta[step] * (anchor - clean)
    torch.testing.assert_close(resnoise, expected)
    torch.testing.assert_close(clean_of(resnoise, anchor, state, schedule, step), clean)
    other = resnoise_of(clean + 1, anchor, state, schedule, step)
    torch.testing.assert_close(other - resnoise, torch.full_like(noise, -schedule.resnoise_weight(step)))


def test_steps_of_the_recursion_have_the_closed_form() -> None:
    """x_t = sqrt(alpha) x_(t-1) + (1 - sqrt(alpha)) R + sqrt(beta) eps, followed through its mean and variance."""
    schedule = resfusion_schedule()
    clean, anchor = 0.3, 0.9
    mean, variance = clean, 0.0
    zero = torch.zeros(1, dtype=torch.float64)
    for step, beta in enumerate(schedule.beta):
        mean = (1 - beta) ** 0.5 * mean + (1 - (1 - beta) ** 0.5) * (anchor - clean)
        variance = (1 - beta) * variance + beta
        assert float(mixed(zero + clean, zero + anchor, zero, schedule, step)) == pytest.approx(mean)
        assert schedule.spread(step) ** 2 == pytest.approx(variance)


@pytest.mark.parametrize("step", range(5))
def test_what_the_network_is_to_give_has_unit_variance(step: int, generator: torch.Generator) -> None:
    schedule, count = resfusion_schedule(), 50_000
    clean, noise = drawn(generator, count), drawn(generator, count)
    state = mixed(clean, torch.zeros_like(clean), noise, schedule, step)
    skip, scale = schedule.scales(step)
    network = (clean - skip * state) / scale
    assert float(network.std()) == pytest.approx(1.0, abs=0.02)
    assert float((network * state).mean()) == pytest.approx(0.0, abs=0.02)


def test_with_the_exact_prediction_every_chain_ends_at_the_clean_image(generator: torch.Generator) -> None:
    schedule = resfusion_schedule()
    clean, anchor = drawn(generator, 1, 2, 16, 16), drawn(generator, 1, 2, 16, 16)
    for found in (
        draw_sample(lambda state, step: clean, anchor, schedule, generator),
        run_deterministic(lambda state, step: clean, anchor, schedule),
        run_deterministic(lambda state, step: clean, anchor, schedule, drawn(generator, 1, 2, 16, 16)),
    ):
        torch.testing.assert_close(found, clean)


def test_the_reverse_chain_keeps_the_marginals(generator: torch.Generator) -> None:
    schedule, count = resfusion_schedule(), 50_000
    clean, anchor = torch.full((count,), 0.2, dtype=torch.float64), torch.full((count,), 0.7, dtype=torch.float64)
    state = start_point(anchor, drawn(generator, count), schedule)
    for step in reversed(range(1, schedule.steps)):
        resnoise = resnoise_of(clean, anchor, state, schedule, step)
        state = reverse_step(state, resnoise, drawn(generator, count), schedule, step)
        spread = schedule.spread(step - 1)
        expected = float(mixed(clean[0], anchor[0], torch.zeros(()), schedule, step - 1))
        assert float(state.mean()) == pytest.approx(expected, abs=5 * spread / count**0.5)
        assert float(state.std()) == pytest.approx(spread, rel=5 / (2 * count) ** 0.5)


def test_samples_of_a_gaussian_have_its_posterior(generator: torch.Generator) -> None:
    """Where x0 is N(0, 1) and independent of the anchor, the exact posterior mean makes samples N(0, 1) again.

    Few steps widen or narrow them a little: 73 steps must come near what five only roughly do.
    """
    anchor = torch.full((20_000,), 0.4, dtype=torch.float64)
    found = {}
    for length in (12, 200):
        schedule = resfusion_schedule(length)

        def posterior_mean(state: Tensor, step: int, schedule: Schedule = schedule) -> Tensor:
            share = 2 * schedule.root(step) - 1
            seen = state - (1 - schedule.root(step)) * anchor
            return share * seen / (share**2 + schedule.spread(step) ** 2)

        sample = draw_sample(posterior_mean, anchor, schedule, generator)
        found[length] = (float(sample.mean()), float(sample.std()))
    assert found[200] == pytest.approx((0.0, 1.0), abs=0.03)
    assert found[12] == pytest.approx((0.0, 1.0), abs=0.35)
    assert abs(found[200][1] - 1) < abs(found[12][1] - 1)


def test_mean_and_deviation_of_samples(generator: torch.Generator) -> None:
    draws = drawn(generator, 7, 3, 4)
    mean, deviation = average_samples(iter(draws).__next__, 7)
    torch.testing.assert_close(mean, draws.mean(0))
    torch.testing.assert_close(deviation, draws.std(0))
    mean, deviation = average_samples(lambda: draws[0], 1)
    assert torch.equal(mean, draws[0])
    assert deviation.isnan().all()


def test_immiscible_noise_is_exchanged_not_changed(generator: torch.Generator) -> None:
    clean, noise = drawn(generator, 6, 2, 3), drawn(generator, 6, 2, 3)
    assigned = immiscible(clean, noise)
    assert sorted(assigned.flatten(1).sum(1).tolist()) == pytest.approx(sorted(noise.flatten(1).sum(1).tolist()))

    def cost(pairing: Tensor) -> float:
        return float((clean - pairing).float().flatten(1).norm(dim=1).sum())

    generator_of_orders = np.random.default_rng(0)
    best = min(cost(noise[torch.from_numpy(generator_of_orders.permutation(6))]) for _ in range(200))
    assert cost(assigned) <= best + 1e-5
