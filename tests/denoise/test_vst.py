"""The stabiliser against a brute-force float64 integration of Poisson-Gaussian noise."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from denoise.errors import DenoiseError, ShapeError
from denoise.vst import Stabiliser, expected_bias
from noise_models.level import NoiseLevel

RATIOS = (0.0, 0.01, 0.1, 0.3, 0.6, 1.0, 2.0, 5.0, 7.95, 10.0, 20.0, 50.0)
SIGNALS = np.array([0.0, 0.02, 0.3, 1.0, 3.0, 8.0, 20.0, 55.0, 63.5, 64.0, 150.0, 500.0, 2000.0])


@functools.cache
def reference(ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """E[f] and var[f] at SIGNALS, f(k) = 2 sqrt(max(k + 3/8 + s^2, 0)): Poisson sum times a fine Riemann sum."""
    moments = []
    for signal in SIGNALS:
        normal = np.linspace(-9, 9, 20001 if signal < 2 else 1501)  # fine where the square root has its kink
        weight = stats.norm.pdf(normal) * (normal[1] - normal[0])
        reach = 9 * np.sqrt(signal) + 25
        counts = np.arange(max(0, int(signal - reach)), int(signal + reach))
        values = counts[:, None] + 0.375 + ratio**2 + ratio * normal
        stable = 2 * np.sqrt(np.maximum(values, 0))
        share = stats.poisson.pmf(counts, signal)
        mean = share @ (stable @ weight)
        moments.append((mean, share @ ((stable - mean) ** 2 @ weight)))
    return np.array(moments).T[0], np.array(moments).T[1]


def stabiliser(ratio: float, shot: float = 1.0, dtype: torch.dtype = torch.float64) -> Stabiliser:
    return Stabiliser(NoiseLevel(np.array([shot]), np.array([(shot * ratio) ** 2])), like=torch.zeros(1, dtype=dtype))


def row(values: np.ndarray, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.as_tensor(values, dtype=dtype)[None, None, None]


@pytest.mark.parametrize("ratio", RATIOS)
def test_bias_equals_the_integral(ratio: float) -> None:
    true = reference(ratio)[0] - 2 * np.sqrt(SIGNALS + 0.375 + ratio**2)
    assert np.abs(expected_bias(SIGNALS, ratio) - true).max() < 2e-6
    for dtype in (torch.float64, torch.float32):
        tabulated = stabiliser(ratio, dtype=dtype).bias(row(SIGNALS, dtype)).numpy().ravel()
        assert np.abs(tabulated - true).max() < 3e-6


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("shot", [1.0, 3e-4])
def test_unbiased_inverse_returns_the_signal_from_the_mean(ratio: float, shot: float) -> None:
    mean = row(reference(ratio)[0] - 2 * np.sqrt(0.375 + ratio**2))
    exact = stabiliser(ratio, shot).inverse(mean, "unbiased").numpy().ravel() / shot
    assert np.abs(exact - SIGNALS).max() < 2e-5
    closed = stabiliser(ratio, shot).inverse(mean, "closed-form").numpy().ravel() / shot
    assert np.abs(closed - SIGNALS).max() < 0.04
    plain = stabiliser(ratio, shot).inverse(mean).numpy().ravel() / shot
    assert np.abs(plain - SIGNALS).max() > 0.24  # what the correction is for: a quarter of an electron


@pytest.mark.parametrize("ratio", RATIOS)
def test_unbiased_inverse_in_float32(ratio: float) -> None:
    mean = row(reference(ratio)[0] - 2 * np.sqrt(0.375 + ratio**2), torch.float32)
    exact = stabiliser(ratio, dtype=torch.float32).inverse(mean, "unbiased").numpy().ravel()
    assert np.abs(exact - SIGNALS).max() < 2e-5 + 4e-7 * (2000 + ratio**2)


@pytest.mark.parametrize("ratio", RATIOS)
def test_variance_is_one(ratio: float) -> None:
    variance = reference(ratio)[1]
    bright = SIGNALS >= 8
    assert np.abs(variance[bright] - 1).max() < 0.025
    assert np.abs(variance[SIGNALS >= 500] - 1).max() < 1e-3


def test_variance_and_mean_of_a_noisy_tensor() -> None:
    generator = np.random.default_rng(3)
    shot, sigma, side = np.array([1e-3, 2e-3]), np.array([2e-3, 1e-3]), 400
    clean = np.array([0.02, 0.1])
    electrons = generator.poisson((clean / shot)[:, None, None], (2, side, side))
    noisy = electrons * shot[:, None, None] + generator.normal(size=(2, side, side)) * sigma[:, None, None]
    x = torch.as_tensor(noisy[None], dtype=torch.float32)
    transform = Stabiliser(NoiseLevel(shot, sigma**2), like=x)
    z = transform.forward(x)
    bound = 4 / np.sqrt(2 * side**2)
    assert z.std((2, 3)).numpy().ravel() == pytest.approx([1, 1], abs=bound + 0.005)
    expected = transform.forward(row(clean, torch.float32).reshape(1, 2, 1, 1))
    corrected = transform.forward(x, corrected=True).mean((2, 3), keepdim=True)
    assert float((corrected - expected).abs().max()) < 4 / side + 0.002
    returned = transform.inverse(z.mean((2, 3), keepdim=True), "unbiased").numpy().ravel()
    error = np.sqrt(shot * clean + sigma**2) / side
    assert (np.abs(returned - clean) < 4 * error).all()


def test_the_limits_of_pure_gaussian_and_pure_poisson_noise() -> None:
    x = torch.linspace(-0.2, 1.0, 1001, dtype=torch.float32).reshape(1, 1, 1, -1)
    gaussian = Stabiliser(NoiseLevel(np.array([0.0]), np.array([0.01])), like=x)
    assert torch.allclose(gaussian.forward(x), x / 0.1, rtol=1e-6)
    assert not gaussian.bias(x).any()
    for shot in (1e-30, 1e-12, 1e-9):
        near = Stabiliser(NoiseLevel(np.array([shot]), np.array([0.01])), like=x)
        assert torch.allclose(near.forward(x), x / 0.1, rtol=1e-6)
        for kind in ("algebraic", "unbiased", "closed-form"):
            assert torch.allclose(near.inverse(x / 0.1, kind), x, atol=1e-7)
    poisson = Stabiliser(NoiseLevel(np.array([0.01]), np.array([0.0])), like=x)
    assert float(poisson.forward(x).min()) == pytest.approx(-2 * np.sqrt(0.375), rel=1e-6)
    nothing = Stabiliser(NoiseLevel(np.array([0.0]), np.array([0.0])), like=x)
    assert torch.isfinite(nothing.forward(x)).all()
    assert torch.allclose(nothing.inverse(nothing.forward(x)), x, atol=1e-7)


@settings(deadline=None, max_examples=60)
@given(st.floats(-9, -1), st.floats(-6, -0.5))
def test_forward_rises_and_inverse_undoes_it(log_shot: float, log_sigma: float) -> None:
    x = torch.linspace(0, 1, 513, dtype=torch.float32).reshape(1, 1, 1, -1)
    transform = Stabiliser(NoiseLevel(np.array([10**log_shot]), np.array([100**log_sigma])), like=x)
    z = transform.forward(x)
    assert (z.diff() > 0).all()
    assert float(z[0, 0, 0, 0]) == 0
    assert float((transform.inverse(z) - x).abs().max()) < 1e-6
    wide = torch.linspace(float(-2 * z.max()), float(z.max()), 2001).reshape(1, 1, 1, -1)
    for kind in ("algebraic", "unbiased"):
        assert (transform.inverse(wide, kind).diff() >= -1e-6).all()


def test_planes_and_images_of_a_batch_have_their_own_level() -> None:
    generator = np.random.default_rng(5)
    shot, read = generator.uniform(1e-4, 1e-2, (3, 4)), generator.uniform(1e-6, 1e-4, (3, 4))
    x = torch.rand(3, 4, 5, 6, generator=torch.Generator().manual_seed(1))
    whole = Stabiliser(NoiseLevel(shot, read), like=x)
    for image in range(3):
        for plane in range(4):
            part = x[image : image + 1, plane : plane + 1]
            alone = Stabiliser(NoiseLevel(shot[image, plane], read[image, plane]), like=x)
            for act in ("forward", "inverse", "bias"):
                together = getattr(whole, act)(x)[image, plane]
                assert torch.allclose(together, getattr(alone, act)(part)[0, 0], rtol=1e-6, atol=1e-7)
            unbiased = whole.inverse(x, "unbiased")[image, plane]
            assert torch.allclose(unbiased, alone.inverse(part, "unbiased")[0, 0], rtol=1e-6, atol=1e-7)


def test_inputs_stay_untouched_and_gradients_flow() -> None:
    x = torch.rand(1, 1, 4, 4, requires_grad=True)
    before = x.detach().clone()
    transform = Stabiliser(NoiseLevel(np.array([1e-3]), np.array([1e-5])), like=x)
    z = transform.forward(x)
    transform.inverse(z).sum().backward()
    assert torch.equal(x.detach(), before)
    assert torch.allclose(x.grad, torch.ones_like(before), atol=1e-4)


def test_wrong_use_is_refused() -> None:
    x = torch.zeros(1, 1, 2, 2)
    transform = stabiliser(1.0, dtype=torch.float32)
    with pytest.raises(DenoiseError, match="Did you mean 'unbiased'"):
        transform.inverse(x, "unbaised")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="noise level"):
        Stabiliser(NoiseLevel(np.ones((1, 1, 1)), np.ones((1, 1, 1))), like=x)
