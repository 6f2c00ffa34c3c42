"""From dark frames to a proxy: taken apart, learned, measured, kept, gone on with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from simulated_sensor import SimulatedSensor, Truth

from noise_models.base import CalibrationError
from noise_models.calibration.dark import residuals
from noise_models.calibration.dark_sums import DarkSums, sum_darks
from noise_models.calibration.decouple import decouple, pixel_noise
from noise_models.calibration.estimate import calibrate
from noise_models.calibration.fidelity import compare_held, held_back
from noise_models.calibration.frames import Frame, FrameFile, group
from noise_models.calibration.proxy import read_pixels, with_proxy
from noise_models.calibration.readers import ImageReader
from noise_models.gain_point import GainPoint
from noise_models.pnnp_losses import EmpiricalLaw
from noise_models.pnnp_network import NoiseProxy
from noise_models.pnnp_training import PixelNoise, PixelNoiseSource, ProxyLearner, start_from

TRUTH = {800: Truth(0.8, 3.0, 0.1, 0.6, column=0.4)}


def sums_of(sensor: SimulatedSensor, frames: int = 7) -> DarkSums:
    return sum_darks(group(sensor.darks(frames), sensor)[0])


def test_the_parts_of_dark_frames_add_up_and_are_each_what_they_say():
    sensor = SimulatedSensor(TRUTH, seed=1, shape=(256, 256))
    sums = sums_of(sensor)
    parts = decouple(sums)
    whole = parts.frame_dn + parts.rows_dn[:, :, None] + parts.columns_dn[:, None, :] + parts.pixel_dn
    assert np.allclose(whole, sums.sample_dn, atol=1e-4)
    truth, count = TRUTH[800], len(parts.rows_dn)
    lost = math.sqrt(1 - 1 / count)  # the mean frame takes its share of every part
    pixel = math.hypot(truth.sigma, 1 / math.sqrt(12))
    assert parts.pixel_dn.std() / lost == pytest.approx(pixel, rel=0.02)
    rows, columns = (values.std() / lost for values in (parts.rows_dn, parts.columns_dn))
    assert rows == pytest.approx(math.hypot(truth.row, pixel / 16), rel=0.08)
    assert columns == pytest.approx(math.hypot(truth.column, pixel / 16), rel=0.08)
    # The calibration's residuals are the pixel part, scaled to the noise's own size.
    residual, _ = residuals(sums)
    assert np.corrcoef(residual.ravel()[::7], parts.pixel_dn.ravel()[::7])[0, 1] > 0.99999


def test_pixel_noise_is_dithered_and_as_large_as_the_noise():
    sums = sums_of(SimulatedSensor(TRUTH, seed=2, shape=(192, 192)))
    noise = pixel_noise(sums, 0)
    assert noise.rounded
    assert noise.frames == 6
    added = 1 / 12 + 1 / 12 * 6 / 5  # by rounding, and by dither on residuals that were scaled
    assert noise.sigma_dn == pytest.approx(math.sqrt(3.0**2 + added), rel=0.02)
    assert bool((noise.law.values.diff() > 0).double().mean() > 0.95)


class LoudSensor(SimulatedSensor):
    """One pixel in ten is three and a half times as noisy, another one each time."""

    def read(self, path: Path) -> Frame:
        _, iso, _, _, _ = path.name.split("_")
        truth, (height, width) = self.truth[int(iso)], self.shape
        spread = np.where(self.generator.random(self.shape) < 0.1, 3.5, 1.0) / math.sqrt(0.9 + 0.1 * 3.5**2)
        noise = truth.sigma * spread * self.generator.standard_normal(self.shape)
        noise += truth.row * self.generator.standard_normal((height, 1)) + self.black
        return Frame(np.rint(noise + 0.3 * np.arange(width) / width).astype(np.uint16), self.describe(path))


def begun(points: list[GainPoint]) -> NoiseProxy:
    return NoiseProxy.begin([points])


def trained(points: Sequence[GainPoint], noises: Sequence[PixelNoise], steps: int) -> NoiseProxy:
    """Return a proxy after some steps of a plain loop; the toolkit's own stands above this package."""
    proxy = begun(list(points))
    start_from(proxy, noises)
    learner, source = ProxyLearner(proxy, noises), PixelNoiseSource(noises)
    optimiser = torch.optim.AdamW(learner.parameters(), lr=0.001, weight_decay=0.0)
    chance = torch.Generator().manual_seed(4)
    for step in range(steps):
        for group_ in optimiser.param_groups:
            group_["lr"] = 0.001 * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        loss = learner.loss(source.draw(1, generator=chance), generator=chance)["total"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    proxy.centre()
    return proxy


def test_some_steps_on_a_mixture_leave_gaussian_and_tukey_lambda_behind():
    sensor = LoudSensor({1600: Truth(1.6, 5.0, 0.0, 0.5)}, seed=3, shape=(256, 256))
    stacks = group(sensor.darks(9), sensor)
    found = calibrate(stacks, maps=False)
    frames = read_pixels(found, stacks, lambda text: None)
    measured = with_proxy(found, trained(found.profile.points, frames.noises, 150), frames.held)
    gaussian, eld, pnnp = measured.evidence.fidelity[1600.0]
    assert (gaussian.model, eld.model, pnnp.model) == ("gaussian", "eld", "pnnp")
    assert pnnp.kl < gaussian.kl / 3
    assert pnnp.kl < eld.kl / 2
    assert pnnp.tail_ratio == pytest.approx(1.0, abs=0.3)
    assert gaussian.tail_ratio > 10
    assert pnnp.correlation[0] == pytest.approx(pnnp.real_correlation[0], abs=0.012)


@pytest.mark.data
def test_real_dark_frames_are_nearer_to_the_proxy_than_to_tukey_lambda(data_root: Path):
    folder = data_root / "dark" / "emva_ccd12"
    if not folder.is_dir():
        pytest.skip("dark/emva_ccd12 is not among the real data")
    files = [FrameFile(path, "dark", exposure_s=1e-4) for path in sorted(folder.glob("d_s_000*"))]
    stacks = group(files, ImageReader())
    found = calibrate(stacks, maps=False)
    frames = read_pixels(found, stacks, lambda text: None)
    measured = with_proxy(found, trained(found.profile.points, frames.noises, 300), frames.held)
    _, eld, pnnp = measured.evidence.fidelity[100.0]
    assert pnnp.kl < eld.kl


def test_the_comparison_with_its_own_law_is_no_more_than_chance():
    sums = sums_of(SimulatedSensor(TRUTH, seed=5, shape=(192, 192)))
    from noise_models.calibration.dark import fit_dark

    held = held_back(sums, fit_dark(sums))
    assert held is not None

    def pixels(shape: tuple[int, int], iso: float, seed: int) -> np.ndarray:
        from noise_models.tukey_lambda import quantile, scale_from_sigma

        share = np.random.default_rng(seed + 7).random(shape)
        return (scale_from_sigma(3.0, 0.1) * quantile(share, 0.1)).astype(np.float32)

    gaussian, eld, pnnp = compare_held(held, pixels)
    chance = 30 / held.real_dn.size  # (bins - 1) / 2N for each of the divergences, and as much to spare
    assert pnnp.kl < chance
    assert eld.kl < chance
    assert gaussian.correlation[0] == pytest.approx(0.0, abs=4 / held.real_dn.size**0.5)


def test_the_source_gives_the_same_batch_for_the_same_chance_and_every_iso_once():
    laws = [EmpiricalLaw.of(torch.randn(5000, generator=torch.Generator().manual_seed(seed))) for seed in range(3)]
    noises = [PixelNoise(100.0 * 2**index, 0, law, 1.0, 0, False) for index, law in enumerate(laws)]
    source = PixelNoiseSource(noises)
    first, again = (source.draw(3, generator=torch.Generator().manual_seed(6)) for _ in range(2))
    assert sorted(first.which.tolist()) == [0, 1, 2]
    assert torch.equal(first.which, again.which)
    assert torch.equal(first.real_quantiles, again.real_quantiles)
    # Beyond the ten outermost values nothing is asked.
    assert float(first.shares.min()) >= 10 / 5000 - 1e-9


def test_no_noise_is_refused():
    point = GainPoint(iso=100, gain_dn_per_e=1.0, read_scale_dn=1.0, read_lambda=0.1)
    with pytest.raises(CalibrationError, match="--darks"):
        ProxyLearner(begun([point]), [])
