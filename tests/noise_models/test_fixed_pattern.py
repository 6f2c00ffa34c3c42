"""Maps of what stays the same: dark shading, DSNU, PRNU, hot and dead pixels."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_sensor import A7S2, SimulatedSensor, Truth

from noise_models.calibration.estimate import calibrate
from noise_models.calibration.fixed_pattern import rounded
from noise_models.calibration.frames import group

QUIET = Truth(0.5, 2.0, 0.14, 0.05)


def test_shading_hot_and_dead_pixels_and_prnu_are_found():
    sensor = SimulatedSensor({100: QUIET}, seed=2, shape=(256, 256), dsnu=1.0, prnu=0.01)
    glow = 6 * np.exp(-np.hypot(*np.mgrid[0:256, 0:256]) / 60)
    sensor.offsets += glow - glow.mean()
    sensor.offsets[40, 50] = sensor.offsets[201, 99] = 300
    sensor.response[100, 31] = 0.1
    found = calibrate(group([*sensor.darks(17), *sensor.flats(count=8)], sensor))
    pattern, evidence = found.fixed_pattern, found.evidence.pattern
    assert pattern is not None
    assert evidence is not None
    assert pattern.hot[40, 50]
    assert pattern.hot[201, 99]
    assert pattern.hot.sum() <= 3
    assert pattern.dead[100, 31]
    assert pattern.dead.sum() == 1
    assert evidence.dsnu_dn[0] == pytest.approx(1.0, rel=0.1)
    assert evidence.prnu == pytest.approx(0.01, rel=0.1)
    ordinary = ~pattern.hot
    before = (sensor.offsets - sensor.offsets.mean())[ordinary].std()
    after = (sensor.offsets - pattern.shading_dn(100, 0))[ordinary].std()
    assert after < 0.5 < 1 < before


def test_hot_pixels_do_not_raise_the_black_level():
    plain = SimulatedSensor({100: QUIET}, seed=4, shape=(256, 256), dsnu=0.0)
    spoilt = SimulatedSensor({100: QUIET}, seed=4, shape=(256, 256), dsnu=0.0)
    spoilt.offsets[::32, ::32] = 400  # 64 pixels of position 0, 0: 1.6 DN on its mean
    points = [calibrate(group(sensor.darks(9), sensor)).profile.points[0] for sensor in (plain, spoilt)]
    assert np.allclose(points[0].bias_dn, points[1].bias_dn, atol=0.02)  # the same noise but for rounding
    assert np.abs(np.subtract(points[1].bias_dn, spoilt.bias)).max() < 4 * points[1].errors.bias_dn


def test_a_hot_pixel_leaves_no_mark_on_the_shading_around_it():
    sensor = SimulatedSensor({100: QUIET}, seed=6, shape=(256, 256), dsnu=0.0)
    sensor.offsets[128, 128] = 2000
    pattern = calibrate(group(sensor.darks(17), sensor)).fixed_pattern
    assert pattern is not None
    around = pattern.shading_dn(100, 0)[120:138, 120:138][~pattern.hot[120:138, 120:138]]
    # 2 DN of noise in 16 frames over 225 pixels is 0.03 DN; a hot pixel within the box would lift it by 8.9 DN.
    assert np.abs(around).max() < 0.25
    assert pattern.shading_dn(100, 0)[128, 128] == pytest.approx(2000, abs=20)


def test_shading_grows_with_iso():
    means = {100: Truth(0.5, 1.0, 0.14, 0.05), 200: Truth(1.0, 1.4, 0.14, 0.05), 400: Truth(2.0, 2.0, 0.14, 0.05)}
    sensor = SimulatedSensor(means, shape=(128, 128), dsnu=0.0)
    slope = np.linspace(-0.02, 0.02, 128)[:, None] * np.ones(128)
    plain = sensor.read

    def read(path):
        sensor.offsets = slope * float(path.name.split("_")[1])
        return plain(path)

    sensor.read = read
    pattern = calibrate(group(sensor.darks(9), sensor)).fixed_pattern
    assert pattern is not None
    assert np.abs(pattern.shading_dn(400, 0) - slope * 400).mean() < 0.4
    assert np.abs(pattern.shading_dn(100, 0) - slope * 100).mean() < 0.4


def test_no_pattern_is_made_of_noise():
    sensor = SimulatedSensor({6400: A7S2[6400]}, shape=(192, 192), dsnu=0.0)
    pattern = calibrate(group(sensor.darks(9), sensor)).fixed_pattern
    assert pattern is not None
    assert pattern.shading_dn(6400, 0).std() < 0.2 * A7S2[6400].sigma
    assert pattern.hot.sum() == 0


def test_rounding_keeps_a_thirtysecond_of_a_dn():
    values = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    assert np.abs(rounded(values.copy()) - values).max() <= 1 / 64
    assert np.abs(rounded(values.copy(), 100.0) - values).max() <= 1 / 6400
