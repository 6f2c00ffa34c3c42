"""RAW pairs hold the noise that they state, in the sensor's geometry, for every arrangement of the colour filters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from denoise.errors import RecipeError
from denoise.training.sources.exposures import Exposure, OneCamera, VirtualCameras, choose_cameras, longest_ratio
from denoise.training.sources.raw_pairs import MOST_VARIANCE, PUBLISHED_CASES, CameraPairs
from noise_models.base import SensorSettings
from noise_models.eld import EldNoise
from noise_models.level import NoiseLevel
from noise_models.profile_shelf import load_profile

SIDE = 160


def sony(iso: float, ratio: float, *without: str) -> Exposure:
    profile = load_profile("sony-a7s2")
    model = EldNoise(profile, without=("scatter", "bias", *without))
    return Exposure(profile, SensorSettings(iso, 0.01), model, ratio)


def photos(count: int = 2, side: int = 96) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 256, (3, side, side), generator=generator, dtype=torch.uint8) for _ in range(count)]


@pytest.mark.parametrize(("iso", "ratio"), PUBLISHED_CASES)
def test_the_variance_is_the_one_stated(iso: float, ratio: float) -> None:
    exposure = sony(iso, ratio)
    clean = torch.tensor([0.05, 0.2, 0.4, 0.6])[:, None, None].expand(4, SIDE, SIDE).contiguous()
    noisy = exposure.shoot(clean, torch.Generator().manual_seed(3))
    measured = (noisy - clean).square().mean((1, 2)).numpy()
    expected = exposure.level.variance(np.array([0.05, 0.2, 0.4, 0.6]))
    count = SIDE**2
    rows = (ratio * exposure.camera.at(iso).row_sigma_dn / 15871) ** 2 / expected  # SIDE values of a row noise only
    error = np.sqrt(2.6 / count + 2 * rows**2 / SIDE)  # kurtosis of the read noise: a little above a Gaussian's
    assert (np.abs(measured / expected - 1) < 4.5 * error).all()


def test_a_row_of_the_sensor_has_one_value_in_both_its_colours() -> None:
    exposure = sony(3200, 1.0, "shot", "read", "quantise", "clip")
    noisy = exposure.shoot(torch.full((4, 6, 9), 0.3), torch.Generator().manual_seed(3))
    offsets = noisy - 0.3
    torch.testing.assert_close(offsets, offsets[:, :, :1].expand_as(offsets), atol=1e-7, rtol=0)
    torch.testing.assert_close(offsets[0], offsets[1], atol=1e-7, rtol=0)  # red and the green beside it
    torch.testing.assert_close(offsets[2], offsets[3], atol=1e-7, rtol=0)
    assert (offsets[0] - offsets[2]).abs().max() > 1e-6


def test_white_saturates_at_the_ratio_and_rounding_shows() -> None:
    exposure = sony(25600, 8.0)
    noisy = exposure.shoot(torch.full((4, 40, 40), 8.0), torch.Generator().manual_seed(3))
    assert noisy.max() == pytest.approx(8.0, rel=1e-6)
    steps = noisy * 15871 / 8
    torch.testing.assert_close(steps, steps.round(), atol=2e-3, rtol=0)


def test_all_four_arrangements_are_sampled_where_their_filters_are() -> None:
    generator = torch.Generator().manual_seed(0)
    light = torch.rand(3, 8, 6, generator=generator)
    seen = {}
    while len(seen) < 4:
        exposure = VirtualCameras().draw(generator)
        seen[exposure.camera.cfa] = exposure
    for pattern, exposure in seen.items():
        planes = exposure.mosaic(light)
        for plane, (row, column) in zip(planes, exposure.camera.positions, strict=True):
            colour = "RGB".index(pattern[2 * row + column])
            assert torch.equal(plane, light[colour, row::2, column::2])


def test_the_draws_are_physical_and_repeat() -> None:
    pairs = CameraPairs(photos(), photos(), patch=16)
    generator = torch.Generator().manual_seed(7)
    batches = [pairs.draw(8, generator=generator) for _ in range(12)]
    again = pairs.draw(8, generator=torch.Generator().manual_seed(7))
    assert torch.equal(again.noisy, batches[0].noisy)
    for batch in batches:
        assert batch.noisy.shape == (8, 4, 16, 16)
        assert batch.clean is not None
        assert batch.noise is not None
        assert batch.clean.min() >= 0
        assert batch.clean.max() <= 1
        assert torch.isfinite(batch.noisy).all()
        assert (batch.noise.variance(1.0) <= MOST_VARIANCE * (1 + 1e-9)).all()
    deviations = [np.sqrt(batch.noise.variance(1.0)[:, 0]) for batch in batches if batch.noise is not None]
    spread = np.log10(np.concatenate(deviations))
    assert spread.min() < -1.8  # from nearly clean
    assert spread.max() > -0.6  # to one photon here and there


def test_the_ratio_is_log_uniform_and_ends_where_noise_is_all() -> None:
    pairs = CameraPairs(photos(), photos(), patch=16, well_exposed=0.0)
    generator = torch.Generator().manual_seed(2)
    drawn = [pairs.draw_exposure(generator) for _ in range(400)]
    places = []
    for exposure in drawn:
        most = min(300.0, longest_ratio(replace(exposure, ratio=1.0).level, MOST_VARIANCE))
        assert 1 <= exposure.ratio <= most * (1 + 1e-9)
        if most > 1.5:
            places.append(np.log(exposure.ratio) / np.log(most))
    assert np.mean(places) == pytest.approx(0.5, abs=4 * 0.289 / len(places) ** 0.5)


def test_the_longest_ratio_solves_its_equation() -> None:
    level = NoiseLevel(np.array([3e-4]), np.array([2e-6]))
    ratio = longest_ratio(level, 0.25)
    assert ratio * 3e-4 + ratio**2 * 2e-6 == pytest.approx(0.25)


def test_validation_visits_every_case_and_repeats() -> None:
    pairs = CameraPairs(photos(), photos(2), patch=16)
    first, second = list(pairs.validation()), list(pairs.validation())
    assert len(first) == 2 * len(pairs.cases) == 8
    assert pairs.cases[3] == "iso1600-x100"
    assert all(torch.equal(one.noisy, two.noisy) for one, two in zip(first, second, strict=True))
    assert all(one.clean is not None and one.noisy.shape == one.clean.shape for one in first)


def test_dark_current_counts_as_read_noise() -> None:
    profile = load_profile("sony-a7s2")
    point = profile.points[0].model_copy(update={"dark_current_e_per_s": 40.0})
    warm = profile.model_copy(update={"points": (point,), "breaks_iso": ()})
    exposure = Exposure(warm, SensorSettings(point.iso, 0.5), EldNoise(warm, without=("scatter", "bias")))
    clean = torch.zeros(4, 200, 200)
    noisy = exposure.shoot(clean, torch.Generator().manual_seed(4))
    assert float(noisy.var()) == pytest.approx(exposure.level.read[0], rel=0.03)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(RecipeError, match="needs a camera"):
        choose_cameras("eld", None)
    with pytest.raises(RecipeError, match="leave the profile out"):
        choose_cameras("virtual", load_profile("sony-a7s2"))
    darks_only = load_profile("sony-a7s2")
    points = tuple(point.model_copy(update={"gain_dn_per_e": None}) for point in darks_only.points)
    with pytest.raises(RecipeError, match="unknown gain"):
        OneCamera(darks_only.model_copy(update={"points": points}), EldNoise(darks_only))
    with pytest.raises(RecipeError, match="at least 512"):
        CameraPairs(photos(), photos(), patch=256)
