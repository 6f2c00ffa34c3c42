"""Gain modes: found where the noise steps, and never where one stage follows another in one mode."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_sensor import A7S2

from noise_models.calibration.segments import fit_segments

STOPS = 100.0 * 2 ** np.arange(9)
THIRDS = np.array([100, 125, 160, 200, 250, 320, 400, 500, 640, 800, 1000, 1250, 1600, 2000, 2500, 3200, 4000, 5000])
AMPLIFIED = np.repeat([100.0, 200, 400, 800, 1600, 3200, 6400], [2, 3, 3, 3, 3, 3, 1])


def draw(random: np.random.Generator, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw ISOs, gains and read noise of a camera with one gain mode, as a calibration would see them."""
    isos = THIRDS.astype(float) if kind == "stretched" else STOPS[: random.integers(2, 10)]
    gain = isos * 10 ** random.uniform(-3.7, -2)
    before_e, behind_dn = random.uniform(0.7, 5), 10 ** random.uniform(-0.5, 1.2)
    if kind == "line":
        sigma = np.exp(random.uniform(-1, 2) + random.uniform(0.4, 1) * np.log(gain / gain[0]))
    elif kind == "stretched":  # whole stops by the amplifier, thirds in software
        sigma = np.hypot(before_e * gain / isos * AMPLIFIED, behind_dn) * isos / AMPLIFIED
    else:
        sigma = np.hypot(before_e * gain, behind_dn)
    sigma = sigma * np.exp(random.normal(0, random.choice([0.003, 0.01, 0.02]), len(isos)))
    return isos, gain * (1 + random.normal(0, 0.005, len(isos))), sigma


@pytest.mark.parametrize("kind", ["two stages", "line", "stretched"])
def test_single_gain_cameras_are_never_split(kind):
    random = np.random.default_rng(5)
    for _ in range(15):
        isos, gain, sigma = draw(random, kind)
        assert fit_segments(isos, gain, sigma).breaks_iso == ()
        assert fit_segments(isos, isos, sigma).breaks_iso == ()


@pytest.mark.parametrize("drop", [0.5, 0.7, 0.8])
def test_a_step_of_the_noise_is_found_where_it_is(drop):
    random = np.random.default_rng(6)
    for _ in range(8):
        isos = STOPS[: random.integers(6, 10)]
        cut = int(random.integers(2, len(isos) - 1))
        sigma = np.hypot(3 * isos / 1000, 1.0) * np.where(np.arange(len(isos)) >= cut, drop, 1.0)
        sigma = sigma * np.exp(random.normal(0, 0.003, len(isos)))
        found = fit_segments(isos, isos / 1000, sigma)
        assert found.breaks_iso == (isos[cut],)
        assert len(found.lines) == 2


@pytest.mark.parametrize("isos", [(100, 200, 400, 800, 1600, 3200, 6400, 12800), (800, 1600, 3200), (1600, 3200)])
def test_a_real_dual_gain_camera(isos):
    gain, sigma = [A7S2[iso].gain for iso in isos], [A7S2[iso].sigma for iso in isos]
    assert fit_segments(isos, gain, sigma).breaks_iso == (3200.0,)
    assert fit_segments(isos, isos, sigma).breaks_iso == (3200.0,)


def test_a_step_of_the_gain_alone():
    isos = STOPS[:6]
    sigma = np.hypot(1.0, 0.002 * isos)
    steady = 1 + 0.003 * np.array([1, -1, 0, 1, -1, 0])
    assert fit_segments(isos, 1e-3 * isos * steady * np.where(isos >= 800, 1.1, 1.0), sigma).breaks_iso == (800.0,)
    assert fit_segments(isos, 1e-3 * isos * steady, sigma).breaks_iso == ()
    assert fit_segments([100], [1.0], [2.0]).breaks_iso == ()
