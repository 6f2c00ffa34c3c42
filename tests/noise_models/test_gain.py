"""Photon transfer: on simulated sensors of known gain, and on two real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from simulated_sensor import A7S2, SimulatedSensor, Truth

from noise_models.base import CalibrationError
from noise_models.calibration.dark import fit_dark
from noise_models.calibration.dark_sums import sum_darks
from noise_models.calibration.flat_sums import sum_flats, tiles
from noise_models.calibration.frames import FrameFile, from_csv, group
from noise_models.calibration.gain import GainFit, fit_gain
from noise_models.calibration.linearity import fit_linearity
from noise_models.calibration.readers import ImageReader
from noise_models.calibration.regions import Region

IMX686 = Truth(4.37, 4.0, 0.102, 0.4)


def gain_of(sensor: SimulatedSensor, **levels) -> GainFit:
    stacks = group([*sensor.darks(4), *sensor.flats(**levels)], sensor)
    dark = fit_dark(sum_darks(stacks[0]))
    sums = [sum_flats(stack, dark.level_dn, sensor.white) for stack in stacks[1:]]
    return fit_gain(sums, [dark.level_dn] * len(sums), sensor.white, dark.pixel_variance_dn2)


@pytest.mark.parametrize("iso", [100, 1600, 6400])
def test_gain_is_found_within_one_per_cent(iso):
    fit = gain_of(SimulatedSensor({iso: A7S2[iso]}, seed=iso, shape=(320, 320)))
    assert fit.gain_dn_per_e.value == pytest.approx(A7S2[iso].gain, rel=0.01)
    assert fit.gain_dn_per_e.error < 0.01 * A7S2[iso].gain
    assert fit.worst_residual_percent < 2
    assert abs(fit.curvature.value) < 4 * fit.curvature.error


def test_ten_bit_sensor():
    sensor = SimulatedSensor({3200: IMX686}, shape=(320, 320), black=64, white=1023, bit_depth=10)
    assert gain_of(sensor).gain_dn_per_e.value == pytest.approx(IMX686.gain, rel=0.01)


def test_saturated_levels_are_left_out():
    sensor = SimulatedSensor({100: A7S2[100]}, shape=(192, 192))
    fit = gain_of(sensor, levels=(0.1, 0.3, 0.5, 0.69, 0.9, 1.5))
    assert fit.levels == 4
    assert fit.gain_dn_per_e.value == pytest.approx(A7S2[100].gain, rel=0.015)


def test_brightnesses_told_apart_by_nothing_but_the_light():
    sensor = SimulatedSensor({1600: A7S2[1600]}, shape=(192, 192))
    electrons = [share * (sensor.white - sensor.black) / A7S2[1600].gain for share in (0.05, 0.1, 0.2, 0.35, 0.5, 0.65)]
    files = [  # one round of all brightnesses, then another
        FrameFile(Path(f"{turn}{index}") / f"flat_1600_0.01_{light}_{turn}", "flat")
        for turn in (0, 1)
        for index, light in enumerate(electrons)
    ]
    stacks = group([*sensor.darks(4), *files], sensor)
    assert len(stacks) == 2
    dark = fit_dark(sum_darks(stacks[0]))
    sums = sum_flats(stacks[1], dark.level_dn, sensor.white)
    fit = fit_gain([sums], [dark.level_dn], sensor.white, dark.pixel_variance_dn2)
    assert fit.levels == 6
    assert not sums.steady
    assert fit.gain_dn_per_e.value == pytest.approx(A7S2[1600].gain, rel=0.015)
    assert fit_linearity([sums], [dark.level_dn], fit.saturation_dn) is None


def test_all_saturated_is_refused_with_the_remedy():
    with pytest.raises(CalibrationError, match=r"saturated.*less light"):
        gain_of(SimulatedSensor({100: A7S2[100]}, shape=(64, 64)), levels=(1.2, 1.5))


def test_flats_that_are_dark_are_refused():
    with pytest.raises(CalibrationError, match="more light"):
        gain_of(SimulatedSensor({100: A7S2[100]}, shape=(64, 64)), levels=(0.002, 0.004, 0.01))


def test_tiles_cover_every_pixel_once():
    for size in ((10, 31), (48, 96), (2000, 3001)):
        count = np.zeros(size, int)
        for place in tiles(*size):
            count[place] += 1
        assert (count == 1).all()


@pytest.mark.data
def test_real_ccd_of_the_emva_reference_set(data_root):
    folder = data_root / "dark" / "emva_ccd12"
    if not folder.is_dir():
        pytest.skip("dark/emva_ccd12 is not among the real data")
    stacks = group(from_csv(folder / "frames.csv"), ImageReader())
    dark = fit_dark(sum_darks(max((s for s in stacks if s.kind == "dark"), key=len)))
    flats = [stack for stack in stacks if stack.kind == "flat"]
    sums = [sum_flats(stack, dark.level_dn, 4095.0) for stack in flats]
    fit = fit_gain(sums, [dark.level_dn] * len(sums), 4095.0, dark.pixel_variance_dn2)
    assert fit.gain_dn_per_e.value == pytest.approx(0.279, rel=0.03)
    assert fit.worst_residual_percent < 1.5
    linear = fit_linearity(sums, [dark.level_dn] * len(sums), fit.saturation_dn)
    assert linear is not None
    assert linear.light_unit == "photons"
    assert np.abs(linear.residual_percent[linear.used]).max() < 1.5


@pytest.mark.data
@pytest.mark.parametrize(
    ("tap", "box", "overscan", "read_dn"),
    [
        ("A", "0:520,50:1024", "0:520,1024:1074", 3.84),
        ("B", "0:520,1128:2102", "0:520,1078:1128", 3.71),
        ("C", "520:1040,50:1024", "520:1040,1024:1074", 3.98),
        ("D", "520:1040,1128:2102", "520:1040,1078:1128", 4.03),
    ],
)
def test_real_flight_ccd_by_tap(data_root, tap, box, overscan, read_dn):
    """The taps differ: 3.89 DN is their mean, and the overscan, where no pixel lies, says the same of each.

    An interference sits in opposite phase in the only two frames, so that half the variance of their difference is 4 %
    too large a sigma (4.03, 3.87, 4.17, 4.24 DN); what counts is the noise within one frame.
    """
    pytest.importorskip("astropy", reason="FITS needs the extra [astro]")
    folder = data_root / "dark" / "esis_ccd"
    if not folder.is_dir():
        pytest.skip("dark/esis_ccd is not among the real data")

    def frame(number: int, kind) -> FrameFile:
        return FrameFile(Path(folder / f"ESIS1_0{number}.fit.gz"), kind)

    files = [frame(4803, "flat"), frame(4804, "flat"), frame(4860, "dark"), frame(4861, "dark")]
    stacks = group(files, ImageReader(), region=Region.parse(f"{tap}={box}"))
    dark = fit_dark(sum_darks(stacks[0]))
    fit = fit_gain([sum_flats(stacks[1], dark.level_dn, 65535.0)], [dark.level_dn], 65535.0, dark.pixel_variance_dn2)
    assert 1 / fit.gain_dn_per_e.value == pytest.approx(2.5, rel=0.04)
    assert dark.read_sigma_dn.value == pytest.approx(read_dn, abs=0.02)
    beyond = group(files[2:], ImageReader(), region=Region.parse(overscan))[0]
    single = [frame.mosaic - frame.mosaic.mean(axis=1, keepdims=True) for frame in beyond]
    width = single[0].shape[1]
    of_overscan = np.sqrt(np.mean(np.square(single)) * width / (width - 1) - 1 / 12)
    assert dark.read_sigma_dn.value == pytest.approx(of_overscan, rel=0.02)
