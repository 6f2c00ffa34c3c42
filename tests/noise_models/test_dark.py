"""Read noise, its shape, row and column noise, black level, dark current: found again on simulated sensors."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_sensor import A7S2, SimulatedSensor, Truth

from noise_models.base import CalibrationError
from noise_models.calibration.dark import DarkFit, fit_dark
from noise_models.calibration.dark_current import fit_dark_current
from noise_models.calibration.dark_sums import sum_darks
from noise_models.calibration.fidelity import compare, divergence
from noise_models.calibration.frames import group
from noise_models.calibration.probability_plot import Distortion, blocks, distorted, fit_shape, straightest
from noise_models.tukey_lambda import quantile, sigma_per_scale

D850 = Truth(13.3, 14.2, -0.2286, 1.5)


def dark_of(sensor: SimulatedSensor, count: int = 9) -> DarkFit:
    return fit_dark(sum_darks(group(sensor.darks(count), sensor)[0]))


@pytest.mark.parametrize("truth", [A7S2[100], A7S2[1600], A7S2[6400], D850], ids=["100", "1600", "6400", "d850"])
def test_found_again(truth):
    sensor = SimulatedSensor({800: truth}, seed=3, shape=(512, 384))
    fit = dark_of(sensor, 13)
    assert fit.read_sigma_dn.value == pytest.approx(truth.sigma, rel=0.02)
    assert fit.read_lambda.value == pytest.approx(truth.shape, abs=0.02)
    assert fit.row_sigma_dn.value == pytest.approx(truth.row, rel=0.05)
    bias = fit.level_dn - sensor.black - sensor.bias
    assert np.abs(bias).max() < max(0.02, 3 * fit.level_error_dn)
    assert fit.r2 > 0.99
    assert not fit.shape_refused


def test_the_fitted_law_passes_through_the_plotted_points_where_rounding_and_dither_are_large():
    fit = dark_of(SimulatedSensor({100: Truth(0.02, 0.8, 0.14, 0.2)}, seed=5, shape=(256, 256), dsnu=0.0), 17)
    law = distorted(fit.read_lambda.value, fit.read_scale_dn.value, fit.distortion, fit.plot).values
    within = np.abs(fit.plot.probability - 0.5) < 0.5 - 1e-5  # some ten values lie beyond, of 10**6
    assert np.abs(law - fit.plot.values)[within].max() < 0.15 * 0.8


@pytest.mark.slow
@pytest.mark.parametrize("truth", [A7S2[100], A7S2[1600], D850], ids=["100", "1600", "d850"])
def test_three_errors_cover_the_truth(truth):
    inside = []
    for seed in range(40):
        sensor = SimulatedSensor({800: truth}, seed=seed, shape=(96, 96))
        fit = dark_of(sensor, 5)
        inside.append(
            (
                abs(fit.read_sigma_dn.value - truth.sigma) < 3 * fit.read_sigma_dn.error,
                abs(fit.read_lambda.value - truth.shape) < 3 * fit.read_lambda.error,
                abs(fit.row_sigma_dn.value - truth.row) < 3 * fit.row_sigma_dn.error,
                np.abs(fit.level_dn - sensor.black - sensor.bias).max() < 3 * fit.level_error_dn,
            )
        )
    assert (np.mean(inside, axis=0) >= 0.95).all(), np.mean(inside, axis=0)


def test_column_noise_and_banding():
    fit = dark_of(SimulatedSensor({100: Truth(1.0, 2.0, 0.14, 0.0, 0.5)}, shape=(256, 256)))
    assert fit.column_sigma_dn.value == pytest.approx(0.5, rel=0.1)
    assert fit.row_sigma_dn.value < 3 * fit.row_sigma_dn.error + 0.05
    assert fit.column_banding > 10
    assert fit.row_banding == pytest.approx(1, abs=0.2)


def test_shape_is_refused_under_half_a_dn():
    fit = dark_of(SimulatedSensor({100: Truth(0.05, 0.35, 0.0, 0.02)}, shape=(256, 256)))
    assert "0.5 DN" in fit.shape_refused
    assert fit.read_lambda.value == pytest.approx(0.14)
    assert fit.read_sigma_dn.value == pytest.approx(0.35, rel=0.05)


def test_hot_pixels_do_not_pose_as_noise():
    sensor = SimulatedSensor({100: Truth(1.0, 3.0, 0.14, 0.0)}, shape=(256, 256))
    sensor.offsets[::13, ::17] += 400
    fit = dark_of(sensor)
    assert fit.read_sigma_dn.value == pytest.approx(3, rel=0.02)
    assert fit.read_lambda.value == pytest.approx(0.14, abs=0.03)


def test_dark_current():
    fits = []
    for exposure in (0.01, 1.0, 4.0):
        sensor = SimulatedSensor({800: A7S2[800]}, seed=1, shape=(128, 128), dark_current=8.0)
        fits.append(fit_dark(sum_darks(group(sensor.darks(6, exposure), sensor)[0])))
    rate, current = fit_dark_current(fits, A7S2[800].gain)
    assert rate is not None
    assert current is not None
    assert current.value == pytest.approx(8.0, abs=4 * current.error + 0.05)
    assert fit_dark_current(fits[:1], 1.0) == (None, None)


def test_one_dark_only_is_refused():
    with pytest.raises(CalibrationError, match=r"only one dark frame.*Shoot more"):
        dark_of(SimulatedSensor({100: A7S2[100]}, shape=(64, 64)), 1)


@pytest.mark.parametrize("shape", [0.14, 0.0, -0.2])
@pytest.mark.parametrize("frames", [2, 8])
def test_means_rounding_and_dither_are_taken_off(shape, frames):
    generator = np.random.default_rng(5)
    scale = 2 / sigma_per_scale(shape)
    values = scale * quantile(generator.random((frames, 400_000 // frames)), shape) + generator.uniform(-9, 9, 1)
    residual = np.rint(values) - np.rint(values).mean(axis=0)
    residual = (residual + generator.uniform(-0.5, 0.5, residual.shape)) * np.sqrt(frames / (frames - 1))
    fit = fit_shape(blocks(residual), Distortion(frames, rounded=True, dithered=True))
    assert fit.shape == pytest.approx(shape, abs=0.02)
    assert fit.sigma_dn == pytest.approx(2, rel=0.01)


def test_undistorted_law_is_itself():
    points = blocks(np.random.default_rng(0).normal(size=50_000))
    seen = straightest(distorted(-0.1, 2.0, Distortion(0, rounded=False, dithered=False), points))
    assert seen.shape == pytest.approx(-0.1, abs=1e-3)
    assert seen.slope == pytest.approx(2, rel=1e-3)
    assert points.weight.sum() == 50_000


def test_fidelity_prefers_the_full_model():
    sensor = SimulatedSensor({6400: A7S2[6400]}, shape=(256, 256))
    sums = sum_darks(group(sensor.darks(9), sensor)[0])
    gaussian, eld = compare(sums, fit_dark(sums))
    assert eld.kl < 0.3 * gaussian.kl
    assert eld.tail_ratio < 1.5 < gaussian.tail_ratio
    assert eld.row_ratio == pytest.approx(1, abs=0.2)


def test_divergence_of_equal_samples_is_zero_and_counts_what_it_drops():
    values = np.arange(100.0)
    assert divergence(values, values)[:3] == (0.0, 0.0, 0.0)
    assert divergence(values, values + 50)[2] == pytest.approx(0.5)


def test_divergence_of_two_samples_of_one_law_is_what_it_says_of_chance():
    generator = np.random.default_rng(3)
    found = [divergence(generator.normal(0, 4, 20_000), generator.normal(0, 4, 60_000)) for _ in range(40)]
    symmetric = [(forward + inverse) / 2 for forward, inverse, _, _ in found]
    # Twice the divergence over its scale is chi-square of some 30 bins: its mean over 40 pairs is known to 4 %; bins
    # of few values bring less than (1) says.
    assert np.mean(symmetric) == pytest.approx(np.mean([chance for *_, chance in found]), rel=0.2)
