"""Stripes in pieces: found where one element differs for a while, not in noise and not in the scene."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_cubes import made_cube

from denoise.cubes.metrics import band_psnr_db, sam_deg
from denoise.cubes.streaks import find_streaks
from denoise.weights import load_model
from noise_models.cube_cases import add_gaussian
from noise_models.finch_stripes import StripeSettings, add_finch_stripes


def noise(bands: int = 24, rows: int = 90, columns: int = 60, seed: int = 1) -> torch.Tensor:
    return torch.randn(bands, rows, columns, generator=torch.Generator().manual_seed(seed))


def test_pieces_of_columns_are_found_and_noise_is_left() -> None:
    """A piece of 15 rows at twice the noise, one of 60 at 1.1 of it; of noise alone less than 0.2 %."""
    distance, valid = noise(), torch.ones(24, 90, 60, dtype=torch.bool)
    assert float(find_streaks(distance, valid).float().mean()) < 2e-3
    distance[5, 20:35, 10] += 2.0
    distance[11, 20:80, 33] -= 1.1
    found = find_streaks(distance, valid)
    assert float(found[5, 20:35, 10].float().mean()) > 0.9
    assert float(found[11, 20:80, 33].float().mean()) > 0.75  # but for an end of it
    assert not found[5, 50:, 10].any()
    assert float(found.float().mean()) < 3e-3


def test_what_the_bands_beside_show_as_well_is_of_the_scene() -> None:
    distance, valid = noise(), torch.ones(24, 90, 60, dtype=torch.bool)
    distance[4:20, 20:50, 10] += 3.0
    found = find_streaks(distance, valid)[4:20, 20:50, 10]
    assert float(found[4:12].float().mean()) < 0.1
    distance[4:20, 20:50, 30] += 3.0 * torch.where(torch.arange(16) % 4 == 0, 1.0, 0.0)[:, None]
    assert find_streaks(distance, valid)[4, 20:50, 30].all()


def test_values_that_do_not_count_make_no_streak() -> None:
    distance, valid = noise(), torch.ones(24, 90, 60, dtype=torch.bool)
    distance[5, 20:35, 10] += 30.0
    valid[5, 20:35, 10] = False
    assert not find_streaks(distance, valid)[5, :, 10].any()


@pytest.mark.parametrize("rows", [1, 5, 23, 24])
def test_short_tracks_have_no_streaks_or_short_ones(rows: int) -> None:
    distance, valid = noise(rows=rows), torch.ones(24, rows, 60, dtype=torch.bool)
    distance[5, :, 10] += 3.0
    assert bool(find_streaks(distance, valid).any()) is (rows >= 24)


def test_a_track_taken_in_parts_of_its_columns_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    distance, valid = noise(), torch.rand(24, 90, 60, generator=torch.Generator().manual_seed(2)) < 0.8
    distance[5, 20:35, 10] += 2.0
    whole = find_streaks(distance, valid)
    monkeypatch.setattr("denoise.cubes.streaks._CHUNK", 24 * 90 * 7)
    assert torch.equal(find_streaks(distance, valid), whole)


@pytest.mark.weights
def test_the_subspace_method_takes_broken_stripes_away() -> None:
    """The stripes that FINCH's team simulates, at a fifth of each band's range, on half of the columns.

    Taken for scene, as far as they are not steady, they cost 16 dB.
    """
    clean = made_cube(60, 96, 96)
    chance = torch.Generator().manual_seed(3)
    striped = add_finch_stripes(clean, StripeSettings(intensity=0.2), generator=chance)
    noisy = add_gaussian(striped, [0.03] * len(clean), chance)
    plain = add_gaussian(clean, [0.03] * len(clean), chance)
    model = load_model("subspace", kind="cube")
    with torch.inference_mode():
        of_striped, of_plain = (model.denoise(cube[None], None)[0].numpy() for cube in (noisy, plain))
    truth = clean.numpy()
    lost = float(np.mean(band_psnr_db(of_plain, truth)) - np.mean(band_psnr_db(of_striped, truth)))
    assert lost < 6.0
    assert sam_deg(of_striped, truth) < 2 * sam_deg(of_plain, truth)
