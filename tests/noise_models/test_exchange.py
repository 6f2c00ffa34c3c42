"""Noise levels in the words of darktable and of DNG."""

from __future__ import annotations

import json

import numpy as np
import pytest

from noise_models.base import NoiseModelError, ProfileError
from noise_models.exchange import from_darktable, from_dng, to_darktable, to_dng
from noise_models.level import NoiseLevel
from noise_models.profile_shelf import load_profile


def test_darktable_gets_every_iso_and_gives_it_back() -> None:
    profile = load_profile("sony-a7s2")
    content = json.loads(json.dumps(to_darktable([profile, load_profile("nikon-d850")])))
    assert [entry["maker"] for entry in content["noiseprofiles"]] == ["Sony", "Nikon"]
    first = content["noiseprofiles"][0]["models"][0]["profiles"][0]
    assert first["name"] == "Sony A7S2 iso 50"
    assert len(first["a"]) == len(first["b"]) == 3
    levels = from_darktable(content, "sony", "a7s2")
    assert sorted(levels) == [point.iso for point in profile.points]
    assert levels[1600.0].shot == pytest.approx(profile.noise_level(1600).shot)
    assert levels[1600.0].read == pytest.approx(profile.noise_level(1600).read)


def test_darktables_own_layout_is_read() -> None:
    entry = {"name": "X iso 100", "iso": 100, "a": [1e-6, 2e-6, 3e-6], "b": [1e-9, -2e-9, 3e-9]}
    content = {"version": 0, "noiseprofiles": [{"maker": "X", "models": [{"model": "Y", "profiles": [entry]}]}]}
    level = from_darktable(content, "X", "Y")[100.0]
    assert level.shot.tolist() == [1e-6, 2e-6, 2e-6, 3e-6]
    assert level.read.tolist() == [1e-9, 0.0, 0.0, 3e-9]
    with pytest.raises(ProfileError, match="hold no X Z"):
        from_darktable(content, "X", "Z")
    with pytest.raises(ProfileError, match="laid out"):
        from_darktable({"profiles": []}, "X", "Y")


def test_dng_values_undo_each_other() -> None:
    level = load_profile("nikon-d850").noise_level(800)
    values = to_dng(level)
    assert len(values) == 6
    assert from_dng(values).shot == pytest.approx(level.shot)
    assert from_dng(values).read == pytest.approx(level.read)
    single = NoiseLevel(np.array([1e-4]), np.array([1e-6]))
    assert to_dng(single) == (1e-4, 1e-6)
    assert from_dng((1e-4, 1e-6)).shot.tolist() == [1e-4]


def test_values_of_another_number_are_refused() -> None:
    with pytest.raises(ProfileError, match="2 or 6"):
        from_dng((1.0, 2.0, 3.0))
    with pytest.raises(ProfileError, match="cannot stand in a DNG"):
        to_dng(NoiseLevel(np.ones(3), np.ones(3)))
    with pytest.raises(NoiseModelError):
        from_dng((1e-4, -1.0))
