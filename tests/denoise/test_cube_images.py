"""Cubes to learn from: real spectra laid out anew, their images spoilt and estimated; crops that stay together."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import denoise.training.sources.cube_images
import denoise.training.sources.cube_scenes
import denoise.training.trainer
from denoise.cubes.eigen_images import EigenImages
from denoise.cubes.first_estimate import FirstEstimate
from denoise.errors import RecipeError
from denoise.training.recipe import load_recipe
from denoise.training.sources.cube_images import _SPOILS, CubeImages, _noise
from denoise.training.sources.cube_noise import spoil_as_finch
from denoise.training.sources.cube_scenes import CubeScenes, abundances, extremes
from denoise.training.trainer import SOURCES, Trainer
from noise_models.level import NoiseLevel

BANDS, SIDE = 12, 24


class Estimator:
    """Stands in for the subspace method: means of 3 x 3."""

    def estimate_images(self, images: Tensor, known: Tensor) -> EigenImages:
        clean = torch.nn.functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)[None]
        span, turn = torch.full((1, len(images)), 30.0), torch.eye(len(images))[None]
        return EigenImages(clean, images[None] - clean, known[None, None], span, turn)

    def first_estimate(self, noisy: Tensor, noise: NoiseLevel | None) -> FirstEstimate:
        eigen = self.estimate_images(noisy[0], torch.ones_like(noisy[0, 0]))
        sigma = torch.ones(noisy.shape[:2])
        return FirstEstimate(eigen.images, eigen.rest, torch.ones_like(noisy, dtype=torch.bool), sigma, eigen)

    def denoise(self, noisy: Tensor, noise: NoiseLevel | None) -> Tensor:
        return noisy

    def to(self, device: torch.device) -> Estimator:
        return self


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (denoise.training.sources.cube_scenes, denoise.training.sources.cube_images):
        monkeypatch.setattr(module, "load_model", lambda name, kind: Estimator())


def images() -> list[Tensor]:
    """Two photographs of two halves each, and a cube of two materials."""
    generator = torch.Generator().manual_seed(1)
    photos = torch.randint(40, 200, (2, 3, 40, 40), generator=generator, dtype=torch.uint8)
    photos[:, :, :, 20:] = 255 - photos[:, :, :, 20:]
    wave = torch.linspace(0, 3, BANDS)
    spectra = torch.stack((0.5 + 0.4 * torch.sin(wave), 0.5 + 0.3 * torch.cos(2 * wave)), 1)
    share = torch.rand(1, 32, 40, generator=generator)
    return [*photos, torch.einsum("bk,khw->bhw", spectra, torch.cat((share, 1 - share)))]


def test_the_purest_spectra_are_found(generator: torch.Generator) -> None:
    """Among mixtures of three spectra stand the three themselves: they are the ones chosen."""
    pure = torch.rand(8, 3, generator=generator) + torch.eye(8)[:, :3]
    shares = torch.rand(3, 100, generator=generator)
    mixed = pure @ (0.8 * shares / shares.sum(0) + 0.2 / 3)
    found = extremes(torch.cat((mixed, pure), 1), 3)
    assert {tuple(column.tolist()) for column in found.T} == {tuple(column.tolist()) for column in pure.T}


def test_abundances_fill_every_pixel(generator: torch.Generator) -> None:
    photo = torch.zeros(3, 6, 8)
    photo[:, :, 4:] = 1.0
    shares = abundances(photo, 5, generator)
    torch.testing.assert_close(shares.sum(0), torch.ones(6, 8))
    assert shares.min() >= 0
    assert (shares[:, :, :4] == shares[:, :1, :1]).all()
    assert not torch.equal(shares[:, 0, 0], shares[:, 0, 7])


def test_scenes_hold_the_spectra_of_the_cubes(generator: torch.Generator) -> None:
    """Whatever is laid out lies in the plane of the two materials."""
    scenes = CubeScenes(images(), [], patch=SIDE, bands=BANDS)
    spectra = images()[-1].flatten(1)
    basis = torch.linalg.svd(spectra)[0][:, :2]
    for _ in range(6):
        flat = scenes.scene(generator).flatten(1)
        assert flat.min() >= 0
        assert flat.max() <= 1.0 + 1e-6
        beyond = [rest - basis @ (basis.T @ rest) for rest in (flat, flat.flip(0))]
        assert min(float(rest.abs().max()) for rest in beyond) < 1e-4


def test_same_chance_same_scenes() -> None:
    scenes = CubeScenes(images(), [], patch=SIDE, bands=6)
    first, again, other = (scenes.scene(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert first.shape == (6, SIDE, SIDE)
    assert not torch.equal(first, other)


def test_crops_stay_together(generator: torch.Generator) -> None:
    """What belongs together is cut and turned alike: images, what is left of them, and the clean ones."""
    source = CubeImages(images(), [], patch=16, depth=5, scene=SIDE, scene_bands=BANDS, pairs=4, seed=1)
    batch = source.draw(12, generator=generator)
    assert batch.clean is not None
    assert batch.clean.shape == batch.first.images.shape == batch.first.rest.shape == (12, 5, 16, 16)
    assert batch.first.known.shape == (12, 1, 16, 16)
    torch.testing.assert_close(batch.noisy, batch.first.images + batch.first.rest)
    for clean, rest in zip(batch.clean, batch.first.rest, strict=True):
        found = [_place(pair.clean[0].float(), clean[0]) for pair in source.kept]
        (number, (turn, row, column)), *more = [(n, place) for n, place in enumerate(found) if place is not None]
        assert not more
        whole = source.kept[number].rest[0].float().flip(turn)
        assert torch.equal(whole[row : row + 16, column : column + 16], rest[0])


def _place(scene: Tensor, crop: Tensor) -> tuple[list[int], int, int] | None:
    """Return how a scene was mirrored, and where a crop of it lies."""
    for turn in ([], [0], [1], [0, 1]):
        turned = scene.flip(turn)
        for row, column in itertools.product(range(SIDE - 15), range(SIDE - 15)):
            if torch.equal(turned[row : row + 16, column : column + 16], crop):
                return turn, row, column
    return None


def test_strong_images_stay_and_weak_ones_are_drawn(generator: torch.Generator) -> None:
    """Of more images than a crop holds the three strongest are there, others in order; of fewer, zeros follow."""
    source = CubeImages(images(), [], patch=SIDE, depth=4, scene=SIDE, scene_bands=BANDS, pairs=1)
    kept = source.kept[0]
    for rank in (2, 6):
        planes = torch.arange(1.0, rank + 1)[:, None, None].expand(rank, SIDE, SIDE).half()
        source.kept = [replace(kept, clean=planes, images=planes, rest=planes, span=torch.arange(1.0, rank + 1))]
        seen = [source.draw(1, generator=generator) for _ in range(12)]
        spans = {tuple(batch.first.span[0].int().tolist()) for batch in seen}
        assert spans == ({(1, 2, 1, 1)} if rank == 2 else {(1, 2, 3, 4), (1, 2, 3, 5), (1, 2, 3, 6)})
        for batch in seen:
            assert batch.clean is not None
            shown = batch.clean[0, :, 0, 0]
            assert torch.equal(shown[shown > 0], batch.first.span[0, : int((shown > 0).sum())])


@pytest.mark.parametrize("noise", ["standard", "finch"])
def test_noise_of_images_has_unit_variance(noise: str, generator: torch.Generator) -> None:
    """In the mean of the scenes, and more of it where less was measured or, of FINCH, where there is more light."""
    clean, light = torch.zeros(2, 64, 64), torch.linspace(0.1, 1.9, 64)[:, None].expand(64, 64)
    drawn = [_noise(clean, light, _SPOILS[noise], generator) for _ in range(40)]
    variance = torch.stack([(each - each.mean(1, keepdim=True)).square().mean() for each, _ in drawn])
    assert float(variance.mean()) == pytest.approx(1.0, abs=0.02)
    dark, bright = (torch.stack([part.square().mean() for part in parts]) for parts in zip(
        *((each[:, :16], each[:, -16:]) for each, _ in drawn), strict=True))  # fmt: skip
    follows = float((bright > 1.15 * dark).float().mean())
    assert follows > 0.7 if noise == "finch" else follows < 0.5
    lowest = min(float(known.min()) for _, known in drawn)
    assert 0.2 <= lowest < 0.7


@pytest.mark.parametrize("noise", sorted(_SPOILS))
def test_the_cubes_held_out_come_in_every_case(noise: str) -> None:
    sizes = {"patch": 16, "depth": 4, "scene": SIDE, "scene_bands": 8}
    pairs = CubeImages(images(), [images()[-1], images()[-1]], **sizes, pairs=1, noise=noise, judge=[1])
    batches, again = list(pairs.validation()), list(pairs.validation())
    assert len(batches) == len(pairs.cases)
    assert torch.equal(batches[1].noisy, again[1].noisy)
    assert not torch.equal(batches[0].noisy, batches[1].noisy)
    assert batches[0].noisy.shape == (1, BANDS, 32, 40)


def test_finch_spoils_and_the_same_chance_spoils_the_same(generator: torch.Generator) -> None:
    clean = torch.full((9, 32, 32), 0.4)
    for cube in [spoil_as_finch(clean, generator) for _ in range(8)]:
        assert cube.shape == clean.shape
        assert torch.isfinite(cube).all()
        assert cube.std() > 0.005
    first = spoil_as_finch(clean, generator.manual_seed(3))
    assert torch.equal(first, spoil_as_finch(clean, generator.manual_seed(3)))


def test_finch_sees_the_light_and_draws_stripes(generator: torch.Generator) -> None:
    """Mean dark is taken out; what its detector elements do stays along the track."""
    clean = torch.full((6, 400, 24), 0.5)
    median, stripes = [], []
    for _ in range(6):
        noisy = spoil_as_finch(clean, generator)
        median.append(float(noisy.median()))
        columns = noisy.median(1).values
        stripes.append(float((columns - columns.median(1, keepdim=True).values).abs().median()))
    assert sorted(median)[2] == pytest.approx(0.5, abs=0.06)
    assert max(stripes) > 0.01


def test_what_does_not_serve_is_said() -> None:
    with pytest.raises(RecipeError, match="but the cubes are: none"):
        CubeScenes(images()[:2], [], patch=16, bands=4)
    with pytest.raises(RecipeError, match="12 bands of 40x32"):
        CubeScenes(images(), [], patch=33, bands=4)
    with pytest.raises(RecipeError, match="standard"):
        CubeImages(images(), [], noise="standart")
    with pytest.raises(RecipeError, match="not larger"):
        CubeImages(images(), [], patch=32, scene=SIDE)


def test_three_stages_go_on_from_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped recipes, small: each stage begins with the weights of the one before, and leaves its own."""
    real = denoise.training.trainer.load_model
    monkeypatch.setattr(
        denoise.training.trainer, "load_model", lambda name: Estimator() if name == "subspace" else real(name)
    )
    small = {"steps": 2, "batch": 2, "warm_up": 0, "validate_steps": 2, "tensorboard": False, "precision": "float32"}
    small |= {"card.config.widths": [8, 12], "card.config.inner": [12, 16], "card.config.inner_blocks": 1}
    start, stages = None, {}
    for name in ("cube-autoencoder", "cube-diffusion", "cube-finch"):
        recipe = load_recipe(name, {**small, "start": start} if start else small)
        options = recipe.source_options | {"patch": 16, "scene": SIDE, "scene_bands": 8, "pairs": 2, "judge": None}
        source = SOURCES[recipe.source](images(), [images()[-1]], **options)
        card = Trainer(recipe, source, tmp_path / name, device="cpu").run()
        assert card.measured
        start = str(tmp_path / name / "weights.safetensors")
        stages[name] = load_file(start)
    encoder = "autoencoder.encoder.tail.weight"
    assert torch.equal(stages["cube-autoencoder"][encoder], stages["cube-finch"][encoder])
    assert not torch.equal(*(stages[name]["network.head.weight"] for name in ("cube-diffusion", "cube-finch")))
    assert stages["cube-autoencoder"]["spread"] == 0
    assert stages["cube-finch"]["spread"] > 0
