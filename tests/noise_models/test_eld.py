"""ELD's model: its parts, its joint draw of parameters, its row noise, its fixed pattern."""

from __future__ import annotations

import math
from collections.abc import Set
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from noise_models.base import NoiseModelError, ProfileError, SensorSettings
from noise_models.eld import PARTS, EldNoise
from noise_models.fixed_pattern import FixedPattern
from noise_models.profile import CameraProfile, Scatter
from noise_models.profile_shelf import load_profile

SIDE = 512
DARK = torch.zeros((1, 1, SIDE, SIDE))


def spoil(
    profile: CameraProfile, iso: float, *, only: Set[str] = frozenset(), seed: int = 1, clean: torch.Tensor = DARK
) -> torch.Tensor:
    """Spoil with these parts only."""
    model = EldNoise(profile, set(PARTS) - only)
    settings = [SensorSettings(iso=iso, exposure_s=0.1)] * len(clean)
    return model(clean, settings, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def sony() -> CameraProfile:
    return load_profile("sony-a7s2")


def test_without_all_parts_the_image_passes(sony: CameraProfile) -> None:
    clean = torch.linspace(-3, 900, SIDE * SIDE).view(1, 1, SIDE, SIDE)
    assert torch.equal(spoil(sony, 800, clean=clean), clean)


@pytest.mark.parametrize("iso", [100.0, 1600.0, 2000.0, 25600.0])
def test_read_noise_has_the_published_sigma_and_shape(sony: CameraProfile, iso: float) -> None:
    noise = spoil(sony, iso, only={"read"}).flatten().double().numpy()
    point = sony.at(iso)
    assert noise.std() == pytest.approx(point.read_sigma_dn, rel=4 * math.sqrt(5 / noise.size))
    law = stats.tukeylambda(point.read_lambda, scale=point.read_scale_dn)
    assert stats.kstest(noise[::5], law.cdf).pvalue > 1e-4


def test_row_noise_is_tied_across_the_colours_of_a_row(sony: CameraProfile) -> None:
    noise = spoil(sony, 1600, only={"row"})[0, 0]
    assert torch.equal(noise, noise[:, :1].expand_as(noise))
    assert float(noise[:, 0].std()) == pytest.approx(sony.at(1600).row_sigma_dn, rel=4 / math.sqrt(2 * SIDE))


def test_row_spectrum_of_the_whole_model(sony: CameraProfile) -> None:
    noise = spoil(sony, 1600, only=set(PARTS) - {"scatter"})[0, 0].double().numpy()
    spectrum = np.abs(np.fft.fft2(noise)) ** 2
    point = sony.at(1600)
    pixel = point.read_sigma_dn**2 + 1 / 12
    expected = 1 + SIDE * point.row_sigma_dn**2 / pixel
    assert spectrum[1:, 0].mean() / spectrum[1:, 1:].mean() == pytest.approx(expected, rel=4 / math.sqrt(SIDE / 2))


def test_black_level_error_is_that_of_the_iso(sony: CameraProfile) -> None:
    for iso in (125.0, 160.0, 25600.0):
        noise = spoil(sony, iso, only={"bias"})[0, 0]
        point = sony.at(iso)
        assert float(noise.mean()) == pytest.approx(point.bias_dn[0][0], abs=5 * point.bias_sigma_dn)


def test_black_level_error_stands_by_colour() -> None:
    canon = load_profile("canon-eos-700d")
    noise = spoil(canon, 6400, only={"bias"})[0, 0]
    bias = canon.at(6400).bias_dn
    for row in range(2):
        for column in range(2):
            assert torch.allclose(noise[row::2, column::2], torch.tensor(bias[row][column]))


def test_a_light_frame_has_mean_and_variance_of_the_noise_level(sony: CameraProfile) -> None:
    clean = torch.full((1, 1, SIDE, SIDE), 150.0)
    noise = (spoil(sony, 3200, only=set(PARTS) - {"scatter", "bias", "row"}, clean=clean) - clean).double()
    point = sony.at(3200)
    expected = sony.gain_dn_per_e(3200) * 150 + point.read_sigma_dn**2 + 1 / 12
    assert float(noise.var()) == pytest.approx(expected, rel=4 * math.sqrt(2.2 / noise.numel()))
    assert abs(float(noise.mean())) < 4 * math.sqrt(expected / noise.numel())


def test_parameters_stray_jointly_by_the_scatter_within_their_gain_mode() -> None:
    profile = load_profile("sony-a7s2").model_copy(update={"scatter": Scatter(ln_read=0.26, ln_row=0.29)})
    generator = torch.Generator().manual_seed(2)
    points = EldNoise(profile).draw_points([2000] * 1500, generator)
    here = profile.at(2000)
    for name, sigma in (("read_scale_dn", 0.26), ("row_sigma_dn", 0.29)):
        logs = np.log([getattr(point, name) / getattr(here, name) for point in points])
        assert logs.mean() == pytest.approx(0, abs=4 * sigma / math.sqrt(1500))
        assert logs.std() == pytest.approx(sigma, rel=4 / math.sqrt(3000))
    assert {point.read_lambda for point in points} == {here.read_lambda}
    assert {point.gain_dn_per_e for point in points} == {here.gain_dn_per_e}
    assert EldNoise(profile, {"scatter"}).draw_points([2000], generator) == [here]


def test_dark_current_grows_with_exposure(sony: CameraProfile) -> None:
    points = tuple(point.model_copy(update={"dark_current_e_per_s": 30.0}) for point in sony.points)
    warm = sony.model_copy(update={"points": points})
    noise = spoil(warm, 3200, only={"shot", "dark-current"})  # 0.1 s
    gain = warm.gain_dn_per_e(3200)
    expected = 3.0
    assert float(noise.mean()) == pytest.approx(gain * expected, rel=4 / math.sqrt(expected * noise.numel()))
    assert float(noise.double().var()) == pytest.approx(gain**2 * expected, rel=0.02)


def test_the_fixed_pattern_is_cut_in_phase_with_the_colour_filters(sony: CameraProfile, tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:40, 0:60]
    shading = (10.0 * (rows % 2) + (columns % 2)).astype(np.float32) + 100.0 * (rows // 2 * 2)
    dead = np.zeros((40, 60), bool)
    FixedPattern(shading, np.zeros((40, 60), np.float32), dead, dead).save(tmp_path / "map.npz")
    profile = CameraProfile.load(sony.model_copy(update={"fixed_pattern": "map.npz"}).save(tmp_path / "sony-a7s2.json"))
    tops = set()
    for seed in range(20):
        noise = spoil(profile, 800, only={"fixed-pattern"}, seed=seed, clean=torch.zeros((1, 1, 10, 12)))[0, 0]
        assert torch.all(noise[0::2, 0::2] % 20 == 0)
        assert torch.all((noise[1::2, 1::2] - 11) % 20 == 0)
        tops.add(float(noise[0, 0]))
    assert len(tops) > 5
    with pytest.raises(NoiseModelError, match="fixed pattern has 60x40"):
        spoil(profile, 800, only={"fixed-pattern"})


def test_a_camera_of_unknown_gain_serves_for_the_dark_only(sony: CameraProfile) -> None:
    points = tuple(point.model_copy(update={"gain_dn_per_e": None}) for point in sony.points)
    profile = sony.model_copy(update={"points": points})
    with pytest.raises(ProfileError, match="dark frames alone"):
        EldNoise(profile)
    assert float(spoil(profile, 800, only={"read", "row", "quantise"}).std()) > 3


def test_exact_counting_agrees_with_the_fast_one(sony: CameraProfile) -> None:
    clean = torch.rand((1, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(1)) * 60
    settings = [SensorSettings(iso=1600, exposure_s=0.01)]
    deviations = []
    for exact in (True, False):
        model = EldNoise(sony, set(PARTS) - {"shot"}, exact=exact)
        noise = model(clean, settings, generator=torch.Generator().manual_seed(6)) - clean
        deviations.append(float((noise.double() ** 2).mean()))
    expected = sony.gain_dn_per_e(1600) * float(clean.double().mean())
    assert deviations == pytest.approx([expected, expected], rel=4 * math.sqrt(3 / clean.numel()))
