"""The law of a proxy's residuals, computed: what drawing shows, and gradients as differences show them."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from noise_models.gain_point import GainPoint
from noise_models.pnnp_law import Curves
from noise_models.pnnp_losses import EmpiricalLaw
from noise_models.pnnp_network import ModeProxy
from noise_models.pnnp_training import PixelNoise, PixelNoiseSource, ProxyLearner

ISO, SIGMA_DN = 800.0, 3.0
POINT = GainPoint(iso=ISO, gain_dn_per_e=0.8, read_scale_dn=1.5, read_lambda=0.1)


@pytest.fixture(scope="module")
def heavy_mode() -> ModeProxy:
    """Return a proxy with tails before the amplifier and a slope that is not even after it."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        mode = ModeProxy.begin([POINT])
        nodes = torch.linspace(-5, 5, 501)
        mode.dependent.follow(nodes, 2.0 * torch.sinh(0.7 * nodes), rounds=60)
        mode.independent.follow(nodes, 1.5 * nodes + 0.3 * nodes.square(), rounds=60)
    return mode


def mode_noise(mode: ModeProxy, fields: torch.Tensor) -> torch.Tensor:
    """Return the noise that a mode makes of two fields (2, N) at the ISO, its mean taken off, (N,) [DN]."""
    many = torch.linspace(-6, 6, 4001)
    weights = torch.softmax(-many.square() / 2, 0)
    branches = (mode.dependent, mode.independent)
    before, after = (
        branch.curve(field) - float((branch.curve(many) * weights).sum())
        for branch, field in zip(branches, fields, strict=True)
    )
    return mode.gain_at(ISO) * before + after


@pytest.mark.parametrize(("frames", "rounded"), [(0, False), (0, True), (2, True), (11, True), (5, False)])
def test_the_law_is_that_of_residuals_of_drawn_frames(heavy_mode: ModeProxy, frames: int, rounded: bool):
    mode, count, generator = heavy_mode, 200_000, torch.Generator().manual_seed(2)
    with torch.no_grad():
        law = Curves(mode).residuals(ISO, SIGMA_DN, frames, rounded=rounded)
        drawn = mode_noise(mode, torch.randn((2, max(frames, 1) * count), generator=generator))
    if rounded:
        drawn += torch.rand(len(drawn), generator=generator) - 0.5
    residual = drawn.view(-1, count)[0]
    if frames:
        residual = (residual - drawn.view(frames, count).mean(0)) * math.sqrt(frames / (frames - 1))
    if rounded:
        residual = residual + torch.rand(count, generator=generator) - 0.5
    places = torch.linspace(-4, 4, 81, dtype=torch.float64)
    found = EmpiricalLaw.of(residual / SIGMA_DN).cumulated(places.float()).double()
    expected = law.cumulated(places)
    # The largest distance of two cumulated laws: Kolmogorov's 99.99 % bound.
    assert float((found - expected).abs().max()) < 2.2 / math.sqrt(count)
    share = torch.tensor([1e-3, 1 - 1e-3], dtype=torch.float64)
    beyond = [
        float((residual / SIGMA_DN < law.quantiles(share)[0]).sum()),
        float((residual / SIGMA_DN > law.quantiles(share)[1]).sum()),
    ]
    assert beyond == pytest.approx([count * 1e-3] * 2, abs=4.5 * math.sqrt(count * 1e-3))


def test_the_law_knows_what_the_means_of_rows_and_columns_took(heavy_mode: ModeProxy):
    side, frames, stacks, generator = 16, 5, 200, torch.Generator().manual_seed(5)
    lines, found = 2 / side, []
    with torch.no_grad():
        for _ in range(stacks):
            fields = torch.randn((2, frames * side * side), generator=generator)
            noise = mode_noise(heavy_mode, fields).view(frames, side, side)
            noise = noise - noise.mean(0)
            noise = noise - noise.mean(2, keepdim=True) - noise.mean(1, keepdim=True) + noise.mean((1, 2), keepdim=True)
            found.append(noise.view(-1) * math.sqrt(frames / (frames - 1) / (1 - 1 / side) ** 2))
        drawn = EmpiricalLaw.of(torch.cat(found) / SIGMA_DN)
        known, unknown = (
            Curves(heavy_mode).residuals(ISO, SIGMA_DN, frames, rounded=False, lines=share) for share in (lines, 0.0)
        )
    places = torch.linspace(-4, 4, 81, dtype=torch.float64)
    shares = drawn.cumulated(places.float()).double()
    # The distances' own size by chance: the root of p (1 - p) / n, n values being independent.
    chance = float((shares * (1 - shares)).mean()) ** 0.5 / math.sqrt(stacks * (frames - 1) * side**2)
    right, wrong = (float((shares - law.cumulated(places)).square().mean()) ** 0.5 for law in (known, unknown))
    assert right < 2.5 * chance
    assert wrong > 2 * right


def test_the_learners_gradient_agrees_with_differences_in_float64(heavy_mode: ModeProxy):
    proxy_mode = copy.deepcopy(heavy_mode).double()
    generator = torch.Generator().manual_seed(3)
    real = EmpiricalLaw.of(3.1 * torch.randn(50_000, generator=generator, dtype=torch.float64))
    noise = PixelNoise(ISO, 0, real, 3.1, 7, True)

    class OneMode(torch.nn.Module):
        def mode(self, number: int) -> ModeProxy:
            return proxy_mode

    learner = ProxyLearner(OneMode(), [noise])  # pyright: ignore[reportArgumentType]
    batch = PixelNoiseSource([noise]).draw(1, generator=generator)

    def loss() -> torch.Tensor:
        return learner.loss(batch, generator=generator)["total"]

    loss().backward()
    step = 1e-6
    for name in ("dependent.tail.weight", "dependent.blocks.0.first.weight", "independent.head.bias"):
        parameter = proxy_mode.get_parameter(name)
        assert parameter.grad is not None
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            parameter += step * direction
            above = float(loss())
            parameter -= 2 * step * direction
            below = float(loss())
            parameter += step * direction
        slope = (above - below) / (2 * step)
        assert float((parameter.grad * direction).sum()) == pytest.approx(slope, rel=0.02), name


def test_the_far_tail_is_no_row_of_lumps(heavy_mode: ModeProxy):
    mode = copy.deepcopy(heavy_mode)
    with torch.no_grad():
        mode.dependent.follow(torch.linspace(-5, 5, 501), 2.0 * torch.sinh(1.2 * torch.linspace(-5, 5, 501)), rounds=60)
        law = Curves(mode).residuals(ISO, SIGMA_DN, 0, rounded=False)
    places = torch.linspace(8, 20, 97, dtype=torch.float64)
    masses = law.cumulated(places).diff()
    assert float(masses.min()) > 0
    # A smooth tail: from one eighth of a sigma to the next the density changes by few per cent, not from full to empty.
    assert float((masses[1:] / masses[:-1]).log().abs().max()) < 0.2
