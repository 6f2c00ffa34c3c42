"""Averages over mirrored views: every view is asked and turned back, and errors that are its own shrink."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from denoise.batch import Runner
from denoise.card import ModelCard
from denoise.cubes.cube import HyperspectralCube
from denoise.engine import Engine
from denoise.errors import UsageError
from denoise.images import Photo
from denoise.io import write
from denoise.jobs import Job, Options
from denoise.views import ViewsAveraged
from noise_models.level import NoiseLevel


class Lopsided(torch.nn.Module):
    """Returns the image, plus a ramp of its own to the lower right."""

    card = ModelCard(id="lopsided", method="test", channels=(3,), multiple_of=8, halo=8, noise="ignored")

    def denoise(
        self, noisy: torch.Tensor, noise: NoiseLevel | None, *, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        rows, columns = torch.meshgrid(*(torch.linspace(-1, 1, size) for size in noisy.shape[2:]), indexing="ij")
        return noisy + 0.1 * rows + 0.01 * columns


@pytest.mark.parametrize(("views", "left"), [(1, (0.1, 0.01)), (2, (0.1, 0.0)), (4, (0.0, 0.0))])
def test_what_a_mirror_turns_round_cancels(views: int, left: tuple[float, float]) -> None:
    noisy = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    added = ViewsAveraged(Lopsided(), views).denoise(noisy, None) - noisy
    assert float(added[..., -1, :].mean()) == pytest.approx(left[0], abs=1e-6)
    assert float(added[..., -1].mean()) == pytest.approx(left[1], abs=1e-6)


@pytest.mark.weights
@pytest.mark.parametrize("model", ["supervised-unet.photo", "cbsn.photo"])
def test_a_photograph_gains_by_four_views_in_tiles_too(model: str, tmp_path: Path) -> None:
    rows, columns = np.mgrid[:500, :360]
    scene = 110 + 60 * np.sin(rows / 9)[..., None] * np.cos(columns / 7)[..., None] * np.ones(3)
    noisy = np.clip(scene + np.random.default_rng(2).normal(0, 20, scene.shape), 0, 255).round().astype(np.uint8)
    write(tmp_path / "a.png", Photo(noisy))
    errors = []
    for views in (1, 4):
        with Runner(Options(model=model, noise="0,0.00615", views=views, tile="480", device="cpu")) as runner:
            record = runner.run(Job(tmp_path / "a.png", tmp_path / f"{views}.png"))
        assert record["views"] == views
        errors.append(float(np.abs(_pixels(tmp_path / f"{views}.png") - scene).mean()))
    assert errors[1] < errors[0]


def _pixels(path: Path) -> np.ndarray:
    from denoise.io import read

    image = read(path)
    assert isinstance(image, Photo)
    return image.pixels.astype(float)


def test_other_numbers_and_cubes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1, 2 or 4 was expected"):
        Runner(Options(views=3))
    write(tmp_path / "a.npy", HyperspectralCube(np.ones((12, 9, 8), np.float32)))  # type: ignore[arg-type]
    with Runner(Options(views=2)) as runner, pytest.raises(UsageError, match="a cube has one view"):
        runner.run(Job(tmp_path / "a.npy", tmp_path / "b.npy"))


def test_the_work_is_told() -> None:
    model = Lopsided()
    model.macs_per_pixel, model.bytes_per_pixel = 100.0, 50.0  # type: ignore[assignment]
    averaged = ViewsAveraged(model, 4)
    assert averaged.macs_per_pixel == 400
    image = Photo(np.zeros((64, 64, 3), np.uint8))
    assert Engine("cpu").plan(image, averaged).peak_gib > Engine("cpu").plan(image, model).peak_gib * 0.99
