"""Camera profiles: what they yield, what they refuse, and what lies on the shelf."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noise_models.base import ProfileError
from noise_models.fixed_pattern import FixedPattern
from noise_models.profile import CameraProfile, GainPoint, Provenance, StandardErrors
from noise_models.profile_shelf import find_profile, list_profiles, load_profile, profile_of
from noise_models.tukey_lambda import scale_from_sigma

SHIPPED_IDS = {
    "canon-eos-5d-mark-iv",
    "canon-eos-700d",
    "canon-eos-70d",
    "nikon-d850",
    "sony-a7m4",
    "sony-a7s2",
    "sony-a7s2-eld-line",
    "xiaomi-redmi-k30",
    "finch-eye",
}


def point(iso: float, **changes: Any) -> GainPoint:
    values: dict[str, Any] = {
        "iso": iso,
        "gain_dn_per_e": iso / 1000,
        "read_scale_dn": scale_from_sigma(0.02 * iso, -0.1),
        "read_lambda": -0.1,
        "row_sigma_dn": 0.002 * iso,
    }
    return GainPoint.model_validate(values | changes)


def camera(**changes: Any) -> CameraProfile:
    values: dict[str, Any] = {
        "make": "Acme",
        "model": "One",
        "bit_depth": 12,
        "black_dn": ((200, 201), (202, 203)),
        "white_dn": 4095,
        "points": (point(100), point(400), point(800), point(3200)),
        "breaks_iso": (800,),
        "provenance": Provenance(date="2026-01-01"),
    }
    return CameraProfile.model_validate(values | changes)


@pytest.fixture
def empty_shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DENOISE_PROFILES", str(tmp_path))
    return tmp_path


def test_a_profile_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    profile = camera(points=(point(100, errors=StandardErrors(gain_dn_per_e=0.01)), point(800)))
    path = profile.save(tmp_path / "deep" / "acme-one.json")
    again = CameraProfile.load(path)
    assert again == profile
    assert profile.id == "acme-one"
    assert [entry.name for entry in path.parent.iterdir()] == ["acme-one.json"]
    written = json.loads(path.read_text())["points"][0]
    assert written["read_sigma_dn"] == pytest.approx(2.0)


def test_points_are_sorted_by_iso() -> None:
    assert [each.iso for each in camera(points=(point(800), point(100))).points] == [100, 800]


@given(st.floats(100, 400))
def test_a_power_law_is_interpolated_exactly(iso: float) -> None:
    found = camera().at(iso)
    assert found.gain_dn_per_e == pytest.approx(iso / 1000, rel=2e-3)
    assert found.read_sigma_dn == pytest.approx(0.02 * iso, rel=2e-3)
    assert found.row_sigma_dn == pytest.approx(0.002 * iso, rel=2e-3)


def test_lambda_and_black_level_error_are_straight_in_ln_iso() -> None:
    low = point(100, read_lambda=0.1, bias_dn=((0, 1), (2, 3)), column_sigma_dn=0.0)
    high = point(400, read_lambda=-0.1, bias_dn=((4, 5), (6, 7)), column_sigma_dn=1.0)
    found = camera(points=(low, high), breaks_iso=()).at(200)
    assert found.read_lambda == pytest.approx(0.0)
    assert found.bias_dn == ((2, 3), (4, 5))
    assert found.column_sigma_dn == pytest.approx(0.5)
    assert found.dark_current_e_per_s is None


@pytest.mark.parametrize("iso", [99.0, 401.0, 500.0, 799.0, 3300.0])
def test_nothing_is_said_outside_what_was_measured(iso: float) -> None:
    with pytest.raises(ProfileError, match=r"ISO .* acme-one.json covers ISO 100-400 and 800-3200\. .*--noise blind"):
        camera().at(iso)


@pytest.mark.parametrize("iso", [0.0, -1.0, math.nan, math.inf])
def test_an_iso_is_a_positive_number(iso: float) -> None:
    with pytest.raises(ProfileError, match="positive"):
        camera().at(iso)


def test_gain_modes_are_numbered_from_the_lowest() -> None:
    assert [camera().gain_mode(iso) for iso in (100, 400, 799, 800, 3200)] == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("cfa", "order"),
    [("RGGB", (0, 1, 2, 3)), ("GRBG", (1, 0, 3, 2)), ("GBRG", (2, 3, 0, 1)), ("BGGR", (3, 2, 1, 0))],
)
def test_the_noise_level_stands_in_the_houses_plane_order(cfa: str, order: tuple[int, ...]) -> None:
    level = camera(cfa=cfa).noise_level(400)
    span = 4095 - (200 + np.array(order))
    variance = 8.0**2 + 0.8**2 + 1 / 12
    assert level.shot == pytest.approx(0.4 / span)
    assert level.read == pytest.approx(variance / span**2)
    assert level.source == "profile acme-one"


def test_a_mono_camera_has_one_plane() -> None:
    assert camera(geometry="mono", cfa="MONO").noise_level(400).shot.shape == (1,)


def test_plane_order_is_that_of_the_mosaic_layout() -> None:
    from denoise import cfa as layout

    for name in ("RGGB", "GRBG", "GBRG", "BGGR"):
        assert camera(cfa=name).positions == layout.positions(name)


def test_darks_alone_leave_the_gain_unknown_and_refused() -> None:
    profile = camera(points=(point(100, gain_dn_per_e=None), point(400, gain_dn_per_e=None)), breaks_iso=())
    assert not profile.knows_gain
    assert profile.at(200).gain_dn_per_e is None
    for asked in (profile.noise_level, profile.gain_dn_per_e):
        with pytest.raises(ProfileError, match=r"dark frames alone.*--flats"):
            asked(200)


def test_exposures_are_drawn_where_the_camera_was_measured() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = [camera().draw(generator) for _ in range(2000)]
    for settings in draws:
        camera().at(settings.iso)
        assert 1e-3 <= settings.exposure_s <= 0.25
    assert np.mean([settings.iso >= 800 for settings in draws]) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(2000))
    assert camera().draw(torch.Generator().manual_seed(5)) == camera().draw(torch.Generator().manual_seed(5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"white_dn": 150}, "white_dn 150 must be above black_dn"),
        ({"white_dn": 5000}, "does not fit into bit_depth 12"),
        ({"black_dn": ((-1, 0), (0, 0))}, "must not be negative"),
        ({"points": ()}, "points"),
        ({"points": (point(100), point(100), point(900))}, "ISO 100 more than once"),
        ({"breaks_iso": (800, 400)}, "must ascend"),
        ({"breaks_iso": (5000,)}, "leave no point"),
        ({"cfa": "MONO"}, "does not go with"),
        ({"cfa": "RGBG"}, "cfa"),
        ({"modell": "x"}, "Did you mean 'model'"),
        ({"schema_version": 7}, "schema 7, but this version reads up to 1.*Update"),
        ({"schema_version": 0}, "schema_version 0"),
        ({"white_dn": math.nan}, "finite"),
        ({"points": (point(100, gain_dn_per_e=1e12),)}, "gain_dn_per_e at ISO 100 is .* more than the whole range"),
        ({"points": (point(100, row_sigma_dn=9000.0),)}, "row_sigma_dn at ISO 100"),
    ],
)
def test_a_profile_of_nonsense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        camera(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"read_scale_dn": -1.0}, "greater than or equal to 0"),
        ({"row_sigma_dn": -0.1}, "row_sigma_dn = -0.1"),
        ({"read_lambda": -0.5}, "greater than -0.5"),
        ({"gain_dn_per_e": 0.0}, "greater than 0"),
        ({"read_scale_dn": math.nan}, "finite"),
        ({"read_sigma_dn": 9.0}, "Change all three together"),
        ({"read_sigma_dn": "much"}, "Change all three together"),
        ({"row_sigma": 1.0}, "Did you mean 'row_sigma_dn'"),
        ({"bias_dn": (1, 2, 3, 4)}, "bias_dn"),
    ],
)
def test_a_point_of_nonsense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        point(100, **changes)


@pytest.mark.parametrize("content", ["{", "[]", "3", '{"make": "A"}', ""])
def test_a_file_that_is_no_profile_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(ProfileError, match=r"broken\.json"):
        CameraProfile.load(path)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="denoise calibrate"):
        CameraProfile.load(tmp_path / "none.json")


def test_a_fixed_pattern_lies_beside_its_profile(tmp_path: Path) -> None:
    maps = np.arange(24, dtype=np.float32).reshape(4, 6)
    pattern = FixedPattern(maps, maps * 0.01, maps > 20, maps < 2, dark_shading_dn_per_iso=maps * 1e-3)
    pattern.save(tmp_path / "acme-one.npz")
    profile = camera(fixed_pattern="acme-one.npz")
    again = CameraProfile.load(profile.save(tmp_path / "acme-one.json"))
    loaded = again.load_fixed_pattern()
    assert again == profile
    assert loaded is not None
    assert loaded.shape == (4, 6)
    assert loaded.shading_dn(100, 1) == pytest.approx(maps * 1.1)
    assert loaded.hot.sum() == 3
    (tmp_path / "acme-one.npz").unlink()
    with pytest.raises(ProfileError, match="beside its profile"):
        again.load_fixed_pattern()


def test_a_photograph_reads_only_the_maps_of_its_gain_mode(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).normal(size=(2, 40, 60)).astype(np.float32)
    pattern = FixedPattern(maps, maps[0], maps[0] > 2, maps[0] < -2, dark_shading_dn_per_iso=maps * 1e-3)
    pattern.save(tmp_path / "acme-one.npz")
    for mode in (0, 1):
        alone = FixedPattern.load(tmp_path / "acme-one.npz", mode=mode)
        assert alone.dark_shading_dn.shape == (1, 40, 60)
        np.testing.assert_array_equal(alone.shading_dn(400, mode), pattern.shading_dn(400, mode))
        np.testing.assert_array_equal(alone.hot | alone.dead, pattern.hot | pattern.dead)
    whole = (tmp_path / "acme-one.npz").read_bytes()
    middle = len(whole) // 2
    (tmp_path / "acme-one.npz").write_bytes(whole[:middle] + bytes(99) + whole[middle + 99 :])
    with pytest.raises(ProfileError, match="beside its profile"):
        FixedPattern.load(tmp_path / "acme-one.npz")


def test_maps_of_different_sizes_are_refused() -> None:
    with pytest.raises(ProfileError, match="as large as the sensor"):
        FixedPattern(np.zeros((4, 4), np.float32), np.zeros((4, 5), np.float32), *np.zeros((2, 4, 4), bool))


def test_the_shipped_profiles_are_sound(empty_shelf: Path) -> None:
    profiles = {profile.id: profile for profile in list_profiles()}
    assert set(profiles) == SHIPPED_IDS
    for profile in profiles.values():
        assert profile.knows_gain
        assert profile.provenance.sources
        assert (profile.noise_level(profile.points[0].iso).shot > 0).all()


def test_the_a7s2_is_the_published_table(empty_shelf: Path, data_root: Path) -> None:
    published = json.loads((data_root / "camera_parameters" / "pmn_camera_params.json").read_text())["per_iso"]
    bias = json.loads((data_root / "camera_parameters" / "pmn_sonya7s2_BLE_iso.json").read_text())
    profile = load_profile("sony-a7s2")
    assert len(profile.points) == len(published) == 28
    for found in profile.points:
        values = published[f"SonyA7S2_{found.iso:g}"]
        assert found.gain_dn_per_e == values["Kmax"]
        assert (found.read_scale_dn, found.read_lambda, found.row_sigma_dn) == (
            values["sigTL"],
            values["lam"],
            values["sigR"],
        )
        assert found.bias_dn[0][0] == pytest.approx(bias[f"{found.iso:g}"])
        # The published Gaussian sigma was fitted apart: it agrees with scale and lambda to 1.1 %.
        assert found.read_sigma_dn == pytest.approx(values["sigGs"], rel=0.0111)
    assert profile.at(1600).read_sigma_dn == pytest.approx(6.30, rel=0.01)
    assert profile.at(2000).read_sigma_dn == pytest.approx(2.65, rel=0.01)
    with pytest.raises(ProfileError, match="changes its gain mode"):
        profile.at(1800)


@pytest.mark.parametrize(
    ("name", "iso", "gain", "scale", "row", "shape"),
    [
        ("nikon-d850", 100, 0.415039, 0.114429, 0.028859, -8 / 70),
        ("nikon-d850", 6400, 26.562517, 10.6642, 1.605978, -10 / 70),
        ("canon-eos-70d", 6400, 26.079808, 21.1635, 4.2248, -6 / 70),
        ("canon-eos-700d", 100, 0.447629, 2.8756, 0.27922, 9 / 70),
        ("canon-eos-5d-mark-iv", 100, 0.218190, 1.1000, 0.21759, 10.5 / 70),
        ("sony-a7s2-eld-line", 6400, 6.010629, 4.0318, 1.4251, -8 / 70),
    ],
)
def test_elds_cameras_lie_on_the_published_lines(
    empty_shelf: Path, name: str, iso: float, gain: float, scale: float, row: float, shape: float
) -> None:
    found = load_profile(name).at(iso)
    assert found.gain_dn_per_e == pytest.approx(gain, rel=1e-5)
    assert found.read_scale_dn == pytest.approx(scale, rel=1e-2)
    assert found.row_sigma_dn == pytest.approx(row, rel=1e-2)
    assert found.read_lambda == pytest.approx(shape, abs=0.5 / 70 + 1e-9)


@pytest.mark.parametrize(
    ("make", "model", "expected"),
    [
        ("SONY", "ILCE-7SM2", "sony-a7s2"),
        ("Sony", "a7s2", "sony-a7s2"),
        ("NIKON CORPORATION", "NIKON D850", "nikon-d850"),
        ("Canon", "Canon EOS 5D Mark IV", "canon-eos-5d-mark-iv"),
        ("SONY", "ILCE-7SM3", None),
        ("Canon", "D850", None),
        ("", "", None),
    ],
)
def test_a_profile_is_found_by_make_and_model_and_never_guessed(
    empty_shelf: Path, make: str, model: str, expected: str | None
) -> None:
    found = find_profile(make, model)
    assert (found.id if found else None) == expected
    if expected is None:
        with pytest.raises(ProfileError, match="denoise calibrate"):
            profile_of(make, model)


def test_the_users_profile_goes_before_the_shipped_one(empty_shelf: Path) -> None:
    own = load_profile("sony-a7s2").model_copy(update={"provenance": Provenance(date="2030-01-01")})
    own.save(empty_shelf / "sony-a7s2.json")
    found = find_profile("Sony", "A7S2")
    assert found is not None
    assert found.provenance.date == "2030-01-01"
    assert len(list_profiles()) == len(SHIPPED_IDS)


def test_a_broken_file_on_the_shelf_is_named(empty_shelf: Path) -> None:
    (empty_shelf / "mine.json").write_text("{}")
    with pytest.raises(ProfileError, match=r"mine\.json"):
        find_profile("Sony", "A7S2")


def test_an_unknown_id_is_answered_with_the_nearest(empty_shelf: Path) -> None:
    with pytest.raises(ProfileError, match="Did you mean 'nikon-d850'"):
        load_profile("nikon-d580")
