"""What tiles of one image share: looked at once, handed to all."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from made_cubes import Held, made_cube

from denoise.card import ModelCard
from denoise.cubes.flaws import find_flaws
from denoise.cubes.low_rank import column_spread, fit_low_rank
from denoise.cubes.survey import read_sample, spread_runs, survey_columns
from denoise.denoiser import Whole
from denoise.engine import Engine
from denoise.images import Photo
from denoise.methods.cbsn import ConditionalBlindSpotDenoiser


class MinusMean:
    """Subtracts from each tile the mean of the image, and adds where it lies."""

    def __init__(self, knows: bool = True) -> None:
        self.card = ModelCard(id="mean", method="mean", noise="ignored", domain="any", halo=4, multiple_of=8)
        self.knows = knows
        self.surveys = 0

    def denoise(self, noisy: torch.Tensor, noise: object, *, generator: object = None) -> torch.Tensor:
        return noisy - noisy.mean((1, 2, 3), keepdim=True)

    def to(self, *arguments: object, **keywords: object) -> MinusMean:
        return self

    def survey(self, whole: Whole, noise: object) -> FoundMean | None:
        self.surveys += 1
        _, height, width = whole.shape
        rows = max(1, whole.most_values // (whole.shape[0] * width))
        sums = [whole.window(top, min(top + rows, height), 0, width).sum() for top in range(0, height, rows)]
        return FoundMean(torch.stack(sums).sum() / whole.shape[0] / (height * width)) if self.knows else None


class FoundMean:
    def __init__(self, mean: torch.Tensor) -> None:
        self.mean = mean

    def denoise(
        self, noisy: torch.Tensor, noise: object, places: Sequence[tuple[int, int]], *, generator: object = None
    ) -> torch.Tensor:
        rows, columns = torch.arange(noisy.shape[2])[:, None], torch.arange(noisy.shape[3])
        where = torch.stack([1000.0 * (top + rows) + left + columns for top, left in places])
        return noisy - self.mean + where[:, None]


def picture(height: int = 150, width: int = 133) -> Photo:
    return Photo(np.random.default_rng(1).random((height, width, 3), np.float32) + np.linspace(0, 1, 3, dtype="f4"))


@pytest.mark.parametrize("batch", [1, 4])
def test_tiles_go_by_one_survey_and_know_their_places(batch: int) -> None:
    image, model = picture(), MinusMean()
    engine = Engine(device="cpu", tile=64, batch_size=batch)
    result = engine.denoise(image, model).to_tensor()
    plan = engine.last_plan
    assert plan is not None
    assert plan.tiles == (3, 3)
    assert plan.batch == batch  # nine tiles: the last batch is not full
    assert any("surveyed" in reason for reason in plan.reasons)
    assert model.surveys == 1
    planes = image.to_tensor()
    rows, columns = torch.arange(150.0)[:, None], torch.arange(133.0)
    torch.testing.assert_close(result, planes - planes.mean() + 1000 * rows + columns, rtol=1e-6, atol=1e-2)


def test_an_image_in_one_tile_asks_for_no_survey() -> None:
    image, model = picture(), MinusMean()
    engine = Engine(device="cpu", tile=512)
    result = engine.denoise(image, model).to_tensor()
    assert model.surveys == 0
    assert engine.last_plan is not None
    assert not any("surveyed" in reason for reason in engine.last_plan.reasons)
    assert float(result.mean().abs()) < 0.1


def test_a_survey_may_find_nothing() -> None:
    model = MinusMean(knows=False)
    result = Engine(device="cpu", tile=64).denoise(picture(), model).to_tensor()
    assert model.surveys == 1
    assert float(result.mean().abs()) < 0.01


def test_the_teacher_normalises_all_tiles_by_the_whole_image() -> None:
    """A picture, dark above and bright below: each tile by itself would be stretched in another way."""
    card = ModelCard(
        id="teacher", method="cbsn-teacher", noise="ignored", domain="any", halo=32,
        multiple_of=2, config={"channels": 3, "width": 8, "depth": 2},
    )  # fmt: skip
    torch.manual_seed(0)
    model = ConditionalBlindSpotDenoiser(card).eval()
    steps = np.where(np.arange(240) < 120, 0.1, 0.9)[:, None, None]
    image = Photo((steps + 0.05 * np.random.default_rng(2).standard_normal((240, 100, 3))).astype(np.float32))
    whole = Engine(device="cpu", tile=512).denoise(image, model).to_tensor()
    engine = Engine(device="cpu", tile=160)
    tiled = engine.denoise(image, model).to_tensor()
    assert engine.last_plan is not None
    assert engine.last_plan.tiles == (2, 1)
    assert float((tiled - whole).abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("length", "wanted", "run"), [(1000, 160, 32), (100, 100, 32), (50, 7, 32), (99, 98, 1), (9, 1, 4)]
)
def test_runs_lie_apart_from_end_to_end(length: int, wanted: int, run: int) -> None:
    runs = spread_runs(length, wanted, run)
    assert all(0 <= first < end <= length for first, end in runs)
    assert all(end <= after for (_, end), (after, _) in itertools.pairwise(runs))
    assert 0.6 * wanted <= sum(end - first for first, end in runs) <= wanted
    assert runs[0][0] == 0
    assert wanted == 1 or runs[-1][1] == length


def test_a_sample_keeps_to_its_size_and_columns_stay_columns() -> None:
    planes = torch.arange(300.0)[:, None] * 1000 + torch.arange(500.0)
    whole = Held(torch.stack([planes, planes + 1e6]), 2 * 100 * 100)
    sample = read_sample(whole)
    assert 0.6 * whole.most_values < sample.numel() <= whole.most_values
    columns = (sample[0] % 1000).round()
    assert bool((columns == columns[0]).all())
    assert float(columns.max()) == 499
    assert float(sample[0].max()) == float(planes.max())


BANDS, HEIGHT, WIDTH = 40, 400, 80
SIGMA = 0.05


@pytest.fixture(scope="module")
def striped() -> tuple[torch.Tensor, torch.Tensor]:
    """Return a noisy cube and its stripes, of half a sigma or ten: a tile of few rows sees only the strong ones."""
    generator = torch.Generator().manual_seed(4)
    clean = made_cube(BANDS, HEIGHT, WIDTH)
    offsets = torch.zeros(BANDS, WIDTH)
    offsets[5, ::7] = 0.5 * SIGMA
    offsets[20, 3::9] = -10 * SIGMA
    noisy = clean + offsets[:, None] + SIGMA * torch.randn(clean.shape, generator=generator)
    noisy[30, :, 11] = 0.3
    return noisy, offsets


def test_columns_are_known_from_the_whole_track(striped: tuple[torch.Tensor, torch.Tensor]) -> None:
    noisy, offsets = striped
    whole = Held(noisy, BANDS * 60 * 60)
    sample = read_sample(whole)
    flaws = find_flaws(sample)
    columns = survey_columns(whole, fit_low_rank(sample, flaws), flaws, column_spread(sample, flaws.valid))
    assert whole.largest <= whole.most_values
    assert columns.stuck.nonzero().tolist() == [[30, 11]]
    found = columns.offsets != 0
    assert bool(found[offsets != 0].all())
    assert int(found[offsets == 0].sum()) <= 1  # 4.5 standard errors, 3200 columns: by chance 0.02
    assert float((columns.offsets - offsets)[offsets != 0].abs().max()) < 5 * SIGMA / HEIGHT**0.5
    beyond = columns.part(WIDTH - 4, 8)
    assert bool((beyond.offsets[:, 4:] == columns.offsets[:, WIDTH - 5 : WIDTH - 1].flip(1)).all())
