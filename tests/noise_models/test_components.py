"""Moments, spectra and shapes of every component against theory; tolerances from the sample size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from noise_models import components
from noise_models.base import NoiseModelError
from noise_models.tukey_lambda import sigma_per_scale

BATCH, SIDE = 2, 384
PIXELS = BATCH * SIDE * SIDE
SIGMAS = 4.0


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(level_dn: float) -> Tensor:
    return torch.full((BATCH, 1, SIDE, SIDE), level_dn)


def check_moments(noise: Tensor, sigma: float, kurtosis: float = 3.0) -> None:
    """Check mean 0 and this sigma within four standard errors."""
    values = noise.double().flatten()
    assert abs(float(values.mean())) < SIGMAS * sigma / np.sqrt(len(values))
    assert float(values.var()) == pytest.approx(sigma**2, rel=SIGMAS * np.sqrt((kurtosis - 1) / len(values)))


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(("level_dn", "gain"), [(0.4, 0.1), (3.0, 1.0), (200.0, 0.5), (900.0, 12.0)])
def test_shot_noise_has_variance_gain_times_signal(level_dn: float, gain: float, exact: bool) -> None:
    noisy = components.shot(flat(level_dn), gain, generator=generator(), exact=exact)
    electrons = level_dn / gain
    check_moments(noisy - level_dn, np.sqrt(gain * level_dn), kurtosis=3 + 1 / electrons)
    whole = noisy / gain
    assert torch.allclose(whole, whole.round(), atol=1e-4 * electrons)


def test_shot_noise_leaves_what_lies_below_black() -> None:
    clean = torch.linspace(-5, -0.1, 64).view(1, 1, 8, 8)
    assert torch.equal(components.shot(clean, 2.0, generator=generator()), clean)


def test_every_image_has_its_own_gain() -> None:
    noisy = components.shot(flat(100.0), [0.5, 8.0], generator=generator())
    for image, gain in zip(noisy, (0.5, 8.0), strict=True):
        assert float(image.double().var()) == pytest.approx(100 * gain, rel=SIGMAS * np.sqrt(2 / image.numel()) + 1e-3)


def test_gaussian_read_noise() -> None:
    check_moments(components.add_gaussian_read(flat(0.0), 3.0, generator=generator()), 3.0)


@pytest.mark.parametrize(("shape", "kurtosis"), [(-0.15, 18.0), (0.0, 4.2), (1e-7, 4.2), (0.14, 3.0)])
def test_tukey_lambda_read_noise(shape: float, kurtosis: float) -> None:
    noise = components.add_tukey_lambda_read(flat(0.0), 2.0, shape, generator=generator())
    check_moments(noise, 2.0 * sigma_per_scale(shape), kurtosis)


def power(noise: Tensor) -> np.ndarray:
    """Return the mean power spectrum of images, divided by the number of pixels."""
    spectrum = np.abs(np.fft.fft2(noise[:, 0].double().numpy())) ** 2
    return spectrum.mean(0) / (SIDE * SIDE)


def test_white_noise_has_a_flat_spectrum() -> None:
    spectrum = power(components.add_tukey_lambda_read(flat(0.0), 1.0, 0.1, generator=generator()))
    expected = sigma_per_scale(0.1) ** 2
    for band in (spectrum[1:, 0], spectrum[0, 1:], spectrum[1:, 1:].ravel()):
        assert band.mean() == pytest.approx(expected, rel=SIGMAS / np.sqrt(BATCH * len(band) / 2))


@pytest.mark.parametrize("along", ["rows", "columns"])
def test_row_and_column_noise_stand_on_one_line_of_the_spectrum(along: str) -> None:
    add = components.add_rows if along == "rows" else components.add_columns
    noise = add(flat(0.0), 0.7, generator=generator())
    spectrum = power(noise)
    line, rest = (spectrum[1:, 0], spectrum[:, 1:]) if along == "rows" else (spectrum[0, 1:], spectrum[1:, :])
    assert line.mean() == pytest.approx(0.7**2 * SIDE, rel=SIGMAS / np.sqrt(BATCH * SIDE / 2))
    assert rest.max() < 1e-6 * line.mean()


def test_row_noise_is_one_value_for_each_sensor_row_after_packing() -> None:
    noise = components.add_rows(flat(0.0), 1.0, generator=generator())[:, 0]
    red, green_of_red_row = noise[:, 0::2, 0::2], noise[:, 0::2, 1::2]
    green_of_blue_row, blue = noise[:, 1::2, 0::2], noise[:, 1::2, 1::2]
    assert torch.equal(red, green_of_red_row)
    assert torch.equal(green_of_blue_row, blue)
    assert torch.equal(red, red[..., :1].expand_as(red))
    alike = np.corrcoef(red[..., 0].flatten().numpy(), blue[..., 0].flatten().numpy())[0, 1]
    assert abs(alike) < SIGMAS / np.sqrt(BATCH * SIDE / 2)


def test_row_noise_has_its_sigma() -> None:
    rows = components.add_rows(torch.zeros((4, 1, 4000, 2)), 2.5, generator=generator())[..., 0]
    check_moments(rows, 2.5)


def test_bias_stands_at_its_position_and_odd_sizes_are_served() -> None:
    bias = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    noisy = components.add_bias(torch.zeros((1, 1, 5, 7)), bias)[0, 0]
    for row in range(2):
        for column in range(2):
            assert torch.all(noisy[row::2, column::2] == bias[row, column])


def test_dark_current_is_poisson_in_electrons() -> None:
    noisy = components.add_dark_current(flat(0.0), 2.5, 4.0, generator=generator())
    check_moments(noisy - 10.0, 4.0 * np.sqrt(2.5), kurtosis=3 + 1 / 2.5)


def test_fixed_pattern_scales_light_and_adds_in_the_dark() -> None:
    prnu = torch.full((SIDE, SIDE), 0.02)
    dead = torch.zeros((SIDE, SIDE), dtype=torch.bool)
    dead[3, 4] = True
    answered = components.respond(flat(100.0), prnu, dead)
    assert float(answered[0, 0, 0, 0]) == pytest.approx(102.0)
    assert float(answered[1, 0, 3, 4]) == 0.0
    shading = torch.randn((SIDE, SIDE), generator=generator())
    assert torch.equal(components.shade(flat(0.0), shading)[1, 0], shading)


def test_rounding_adds_a_twelfth() -> None:
    smooth = components.add_gaussian_read(flat(0.0), 3.0, generator=generator())
    for error in (
        components.quantise(smooth) - smooth,
        components.quantise_uniform(smooth, generator=generator(2)) - smooth,
    ):
        check_moments(error, np.sqrt(1 / 12), kurtosis=1.8)
        assert float(error.abs().max()) <= 0.5 + 1e-5
    assert torch.equal(components.quantise(smooth), components.quantise(smooth).round())


def test_the_converter_reports_from_zero_to_white() -> None:
    clipped = components.clip_to_converter(torch.tensor([[[[-900.0, 0.0, 99_999.0]]]]), 512, 16383)
    assert clipped.flatten().tolist() == [-512.0, 0.0, 16383.0 - 512.0]


def test_a_converter_rounds_with_its_black() -> None:
    values = torch.linspace(-3, 3, 24).view(1, 1, 4, 6)
    black = ((10.25, 10.5), (11.0, 12.75))
    reported = values.clone()
    components.report_(reported, black, 13.0)
    raw = reported + torch.tensor(black).repeat(2, 3)
    assert torch.allclose(raw, raw.round(), atol=1e-5)
    assert float(raw.max()) <= 13.0
    assert float((reported - values).abs()[raw < 13].max()) <= 0.5 + 1e-5


DRAWS: dict[str, Callable[[torch.Generator], Tensor]] = {
    "shot": lambda g: components.shot(flat(20.0), 2.0, generator=g),
    "gaussian": lambda g: components.add_gaussian_read(flat(0.0), 1.0, generator=g),
    "tukey-lambda": lambda g: components.add_tukey_lambda_read(flat(0.0), 1.0, -0.1, generator=g),
    "rows": lambda g: components.add_rows(flat(0.0), 1.0, generator=g),
    "columns": lambda g: components.add_columns(flat(0.0), 1.0, generator=g),
    "dark-current": lambda g: components.add_dark_current(flat(0.0), 1.0, 1.0, generator=g),
    "uniform": lambda g: components.quantise_uniform(flat(0.0), generator=g),
}


@pytest.mark.parametrize("name", DRAWS)
def test_the_same_seed_is_the_same_noise_and_another_is_not(name: str) -> None:
    first, again, other = (DRAWS[name](generator(seed)) for seed in (7, 7, 8))
    assert first.dtype == torch.float32
    assert first.shape == (BATCH, 1, SIDE, SIDE)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize(
    "call",
    [
        lambda g: components.shot(flat(1.0), 0.0, generator=g),
        lambda g: components.shot(flat(1.0), [1.0, 1.0, 1.0], generator=g),
        lambda g: components.add_rows(flat(1.0), -1.0, generator=g),
        lambda g: components.add_gaussian_read(flat(1.0), float("nan"), generator=g),
        lambda g: components.add_tukey_lambda_read(flat(1.0), 1.0, -0.5, generator=g),
    ],
)
def test_impossible_parameters_are_refused(call: Callable[[torch.Generator], Tensor]) -> None:
    with pytest.raises(NoiseModelError):
        call(generator())


def test_inputs_are_left_alone() -> None:
    clean = flat(30.0)
    for call in (
        lambda: components.shot(clean, 1.0, generator=generator()),
        lambda: components.add_tukey_lambda_read(clean, 1.0, 0.0, generator=generator()),
        lambda: components.add_rows(clean, 1.0, generator=generator()),
        lambda: components.add_bias(clean, torch.ones(2, 2)),
    ):
        call()
        assert torch.equal(clean, flat(30.0))
