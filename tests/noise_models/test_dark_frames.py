"""Real dark frames as the noise: windows in phase, steps filled, patterns kept."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from noise_models.base import NoiseModelError, ProfileError, SensorSettings
from noise_models.dark_frames import DarkFrameNoise, reconstruct
from noise_models.profile import CameraProfile
from noise_models.profile_shelf import load_profile
from noise_models.simulate import simulate_dark

SETTINGS = [SensorSettings(iso=800, exposure_s=0.01)]


@pytest.fixture(scope="module")
def sony() -> CameraProfile:
    return load_profile("sony-a7s2")


def test_windows_stay_in_phase_with_the_colour_filters(sony: CameraProfile) -> None:
    rows, columns = np.mgrid[0:32, 0:48]
    frame = (512 + 10 * (rows % 2) + (columns % 2) + 100 * (rows // 2)).astype(np.uint16)
    model = DarkFrameNoise(sony, {800.0: [frame]}, {"reconstruct"})
    seen = set()
    for seed in range(12):
        noise = model(torch.zeros((1, 1, 7, 9)), SETTINGS, generator=torch.Generator().manual_seed(seed))[0, 0]
        corner = int(noise[0, 0])
        assert corner % 100 == 0
        top = corner // 100 * 2
        assert torch.all(noise[:, 0] == torch.from_numpy(frame[top : top + 7, 0].astype(np.float32)) - 512)
        assert torch.all(noise[:, 1] - noise[:, 0] == 1)
        seen.add(corner)
    assert len(seen) > 3


def test_filled_steps_give_back_the_law_that_was_rounded(sony: CameraProfile) -> None:
    point = sony.at(800)  # sigma 3.5 DN
    generator = torch.Generator().manual_seed(3)
    law = stats.tukeylambda(point.read_lambda, loc=point.bias_dn[0][0], scale=point.read_scale_dn)
    whole = np.round(law.rvs(size=200_000, random_state=np.random.default_rng(1))).astype(np.float32)
    filled = reconstruct(torch.from_numpy(whole).view(400, 500), point, generator).double().numpy().ravel()
    assert np.abs(filled - whole).max() <= 0.5 + 1e-4
    assert stats.kstest(filled[::4], law.cdf).pvalue > 1e-4
    assert len(np.unique(filled)) > 100_000


def test_outliers_stay_as_they_were_read(sony: CameraProfile) -> None:
    dark = torch.zeros((4, 4))
    dark[1, 2] = 900.0
    filled = reconstruct(dark, sony.at(800), torch.Generator().manual_seed(1))
    assert float(filled[1, 2]) == 900.0
    assert float(filled[0, 0]) != 0.0


def test_a_black_that_is_not_whole_is_served(sony: CameraProfile) -> None:
    black = ((511.25, 512.75), (512.0, 511.5))
    profile = sony.model_copy(update={"black_dn": black})
    frames = [simulate_dark(sony, 800, (200, 200), generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    model = DarkFrameNoise(profile, {800.0: frames}, {"quantise"})
    noise = model(torch.zeros((1, 1, 200, 200)), SETTINGS, generator=torch.Generator().manual_seed(1))[0, 0]
    bias = sony.at(800).bias_dn[0][0]
    for row in range(2):
        for column in range(2):
            expected = bias + 512 - black[row][column]
            assert float(noise[row::2, column::2].mean()) == pytest.approx(expected, abs=4 * 3.7 / 100 + 0.15)


def test_rows_of_real_frames_are_kept(sony: CameraProfile) -> None:
    frames = [simulate_dark(sony, 800, (256, 256), generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    model = DarkFrameNoise(sony, {800.0: frames})
    noise = model(torch.zeros((1, 1, 256, 256)), SETTINGS, generator=torch.Generator().manual_seed(1))[0, 0]
    means = noise.double().mean(1)
    point = sony.at(800)
    expected = math.sqrt(point.row_sigma_dn**2 + point.read_sigma_dn**2 / 256)
    assert float(means.std()) == pytest.approx(expected, rel=4 / math.sqrt(2 * 256))


def test_what_is_missing_is_named(sony: CameraProfile) -> None:
    frame = np.full((16, 16), 512, np.uint16)
    model = DarkFrameNoise(sony, {800.0: [frame]})
    generator = torch.Generator().manual_seed(1)
    with pytest.raises(ProfileError, match="ISO 1600 was asked for, but there are dark frames at ISO 800 only"):
        model(torch.zeros((1, 1, 8, 8)), [SensorSettings(1600, 0.01)], generator=generator)
    with pytest.raises(NoiseModelError, match="dark frame has 16x16"):
        model(torch.zeros((1, 1, 32, 32)), SETTINGS, generator=generator)
    for darks in ({}, {800.0: []}, {800.0: [frame, frame[:8]]}, {800.0: [frame[0]]}):
        with pytest.raises(NoiseModelError, match="Give frames of one camera"):
            DarkFrameNoise(sony, darks)


def test_a_real_dark_frame_serves(sony: CameraProfile, data_root: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    paths = sorted((data_root / "dark" / "emva_ccd12").glob("d_0*_snap_001.png"))
    if not paths:
        pytest.skip(f"no dark frames in {data_root}")
    frame = cv2.imread(str(paths[0]), cv2.IMREAD_UNCHANGED)
    mean = float(frame.mean())
    profile = sony.model_copy(
        update={"black_dn": ((mean, mean), (mean, mean)), "white_dn": 4095.0, "geometry": "mono", "cfa": "MONO"}
    )
    model = DarkFrameNoise(profile, {800.0: [frame]}, {"shot", "reconstruct", "quantise"})
    noise = model(torch.zeros((1, 1, *frame.shape)), SETTINGS, generator=torch.Generator().manual_seed(1))
    assert float(noise.double().std()) == pytest.approx(float(frame.std()), rel=1e-3)
