"""A detector that moves draws stripes: what is fixed is fixed along the track, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from noise_models import NOISE_MODELS
from noise_models.base import NoiseModelError, SensorSettings
from noise_models.fixed_pattern import FixedPattern
from noise_models.profile_shelf import load_profile
from noise_models.pushbroom import ElementSpread, PushbroomNoise

LINES = 400
SETTINGS = [SensorSettings(iso=100.0, exposure_s=0.02)]


def flat(level_dn: float, bands: int = 6, width: int = 40) -> torch.Tensor:
    return torch.full((1, bands, LINES, width), level_dn)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_finch_has_the_noise_of_its_figures() -> None:
    """Shot, dark and read noise add as variances: K^2 (S + D t + 500^2)."""
    profile = load_profile("finch-eye")
    gain = profile.gain_dn_per_e(100)
    electrons, dark = 5000.0, 140e3 * 0.02
    noisy = PushbroomNoise(profile)(flat(electrons * gain), SETTINGS, generator=generator()).double() / gain
    expected = electrons + dark + 500.0**2 + 1 / 12 / gain**2
    assert float(noisy.mean()) == pytest.approx(electrons + dark, abs=4 * (expected / noisy.numel()) ** 0.5)
    assert float(noisy.var()) == pytest.approx(expected, rel=4 * (2 / noisy.numel()) ** 0.5)
    assert profile.geometry == "pushbroom"
    assert "points.dark_current_e_per_s" in profile.provenance.unverified


def test_unequal_elements_draw_stripes_of_their_own_size() -> None:
    spread = ElementSpread(prnu=0.02, offset_dn=50.0)
    parts = {"shot", "read", "dark-current", "quantise", "clip"}
    model = PushbroomNoise(load_profile("finch-eye"), parts, spread=spread)
    noisy = model(flat(5000.0, bands=20, width=200), SETTINGS, generator=generator())
    assert torch.equal(noisy[:, :, :1].expand_as(noisy), noisy)  # every line alike
    stripes = (noisy[0, :, 0] - 5000.0).double()
    expected = 50.0**2 + (0.02 * 5000.0) ** 2
    assert float(stripes.var()) == pytest.approx(expected, rel=4 * (2 / stripes.numel()) ** 0.5)


def test_noise_that_moves_is_not_fixed() -> None:
    model = PushbroomNoise(load_profile("finch-eye"), spread=ElementSpread(prnu=0.0))
    noisy = model(flat(3000.0), SETTINGS, generator=generator())[0].double()
    columns = noisy.mean(1)
    assert float(columns.var() * LINES / noisy.var()) == pytest.approx(1.0, rel=4 * (2 / columns.numel()) ** 0.5)


def test_dead_elements_do_not_answer_and_hot_ones_shine() -> None:
    spread = ElementSpread(prnu=0.0, dead_share=0.1, hot_share=0.1, hot_dn=4000.0)
    model = PushbroomNoise(load_profile("finch-eye"), {"dark-current"}, spread=spread)
    columns = model(flat(2000.0, width=300), SETTINGS, generator=generator())[0].mean(1).flatten()
    kinds = [(columns < 1000).sum(), ((columns > 1000) & (columns < 4000)).sum(), (columns > 4000).sum()]
    shares = np.array([float(kind) for kind in kinds]) / columns.numel()
    assert shares == pytest.approx([0.1, 0.8, 0.1], abs=4 * (0.16 / columns.numel()) ** 0.5)


def test_a_measured_pattern_is_used_and_must_fit(tmp_path) -> None:
    maps = np.zeros((6, 40), np.float32)
    maps[2, 7] = 900.0
    nothing = np.zeros((6, 40), bool)
    FixedPattern(maps, np.zeros_like(maps), nothing, nothing).save(tmp_path / "maps.npz")
    path = load_profile("finch-eye").model_copy(update={"fixed_pattern": "maps.npz"}).save(tmp_path / "finch.json")
    model = NOISE_MODELS["pushbroom"](load_profile(str(path)), {"dark-current"})
    columns = model(flat(2000.0), SETTINGS, generator=generator())[0].mean(1)
    assert int(columns.argmax()) == 2 * 40 + 7
    assert float(columns[2, 7]) == pytest.approx(2900.0, abs=4 * 450 / LINES**0.5)
    with pytest.raises(NoiseModelError, match="6 bands and 40 columns"):
        model(flat(2000.0, width=41), SETTINGS, generator=generator())


def test_an_impossible_spread_is_refused() -> None:
    with pytest.raises(NoiseModelError, match=r"dead_share=1\.5"):
        ElementSpread(dead_share=1.5)
