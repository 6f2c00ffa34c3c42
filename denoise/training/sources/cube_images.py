"""Images of cubes with the first estimate that a network is to refine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Final, Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional

from denoise.cubes.eigen_images import EigenImages
from denoise.denoiser import Batch
from denoise.errors import RecipeError, nearest
from denoise.methods.cube_diffusion import GUIDES, CubeBatch
from denoise.training.feed import seeded
from denoise.training.sources.crops import log_uniform
from denoise.training.sources.cube_noise import spoil_as_finch
from denoise.training.sources.cube_scenes import CubeScenes
from denoise.weights import load_model
from noise_models.cube_cases import spoil_cube

_JUDGED: Final = {
    "standard": ("gaussian-2", "gaussian-30", "non-iid", "stripe", "mixture"),
    "finch": ("finch", "finch again"),
}
_STRENGTH: Final = (2.5, 120.0)
_WEAKEST: Final = 0.3
_MOST_IMAGES: Final = 16
_UNEVEN: Final = (0.3, 3.0)


@dataclass(frozen=True)
class _Spoils:
    """How the noise of images is not white: shares of scenes, and limits of what is drawn."""

    partly_measured: float
    """Share of the scenes of which a part was not measured."""
    follows_light: float
    """Share of the scenes whose noise follows the light."""
    light_part: tuple[float, float]
    """Part of the variance that does."""
    striped: float
    """Share of the scenes in which stripes were left."""
    stripes: float
    """Their largest standard deviation."""


_SPOILS: Final = {
    "standard": _Spoils(0.6, 0.3, (0.0, 1.0), 0.5, 0.3),
    "finch": _Spoils(0.6, 1.0, (0.2, 1.0), 0.8, 0.6),
}


class ImageEstimator(Protocol):
    """What denoises images: `denoise.methods.subspace.SubspaceDenoiser`."""

    def estimate_images(self, images: Tensor, known: Tensor) -> EigenImages:
        """Denoise images (r, H, W) with white noise of unit variance, ``known`` (H, W) apart."""
        ...


@dataclass(frozen=True, eq=False)
class _Pair:
    """Clean images (r, H, W) of a scene and their first estimate, as float16."""

    clean: Tensor
    images: Tensor
    rest: Tensor
    known: Tensor
    span: Tensor


class CubeImages:
    """Crops of the few images that a cube's signal lies in, spoilt and denoised one by one.

    A scene's signal is split into spectra and images as the subspace method does, but from the clean scene, so that a
    thousand of them take minutes. The noise is white, of unit variance, as it is after whitening; then, in part of the
    scenes, uneven where values were missing, or following the light, or with a rest of stripes.

    Parameters
    ----------
    images : sequence of tensor
        Cubes (bands, H, W) float32 from 0 to 1, and photographs (3, H, W) uint8.
    held_out : sequence of tensor
        Cubes to be judged by.
    patch, depth : int
        Side of a crop, and its images; where a scene has fewer, the last ones are 0.
    scene, scene_bands : int
        Side and bands of a scene.
    pairs : int
        Scenes.
    noise : str
        "standard" or "finch": how the noise of images is uneven, and how the cubes held out are spoilt: by cases of
        `noise_models.cube_cases.spoil_cube`, or by `denoise.training.sources.cube_noise.spoil_as_finch`.
    judge : sequence of int, optional
        Which of ``held_out`` are clean enough; default all.
    seed : int
        Of the scenes and of their noise.

    Raises
    ------
    RecipeError
        If the noise is not known, or the images do not serve.
    """

    def __init__(
        self,
        images: Sequence[Tensor],
        held_out: Sequence[Tensor],
        *,
        patch: int = 64,
        depth: int = 8,
        scene: int = 80,
        scene_bands: int = 64,
        pairs: int = 2000,
        noise: str = "standard",
        judge: Sequence[int] | None = None,
        seed: int = 8,
    ) -> None:
        if noise not in _SPOILS:
            raise RecipeError(f"Noise '{noise}' is not known for cubes. {nearest(noise, _SPOILS)}")
        if patch > scene:
            raise RecipeError(
                f"Crops of {patch}x{patch} were asked for from scenes of {scene}x{scene}. Crops are not larger: set "
                "source_options.scene."
            )
        self.scenes = CubeScenes(images, held_out, patch=scene, bands=scene_bands, judge=judge)
        self.patch, self.depth, self.noise = patch, depth, noise
        self.cases: tuple[str, ...] = _JUDGED[noise]
        estimator = cast(ImageEstimator, load_model("subspace", kind="cube"))
        self.kept = [self._make_pair(estimator, seeded(seed, number)) for number in range(pairs)]

    def draw(self, batch: int, *, generator: torch.Generator) -> CubeBatch:
        """Return ``batch`` crops (B, depth, patch, patch)."""
        crops = [self._crop(generator) for _ in range(batch)]
        clean, images, rest, known, span = (
            torch.stack([getattr(crop, field.name) for crop in crops]) for field in fields(_Pair)
        )
        first = EigenImages(images, rest, known[:, None], span, images.new_zeros(batch, 0, self.depth))
        return CubeBatch(images + rest, clean, None, first)

    def validation(self) -> Iterator[Batch]:
        """Yield the cubes held out, each in all of ``cases``, in turn."""
        for cube in self.scenes.held_out:
            for number, case in enumerate(self.cases):
                generator = seeded(20, number)
                standard = self.noise == "standard"
                noisy = spoil_cube(cube, case, generator=generator) if standard else spoil_as_finch(cube, generator)
                yield Batch(noisy[None], cube[None], None)

    def _crop(self, generator: torch.Generator) -> _Pair:
        pair = self.kept[int(torch.randint(len(self.kept), (), generator=generator))]
        rank, *sides = pair.clean.shape
        top, left = (int(torch.randint(side - self.patch + 1, (), generator=generator)) for side in sides)
        axes = [axis for axis in (-1, -2) if torch.rand((), generator=generator) < 0.5]
        window = (..., slice(top, top + self.patch), slice(left, left + self.patch))
        weaker = torch.randperm(max(0, rank - GUIDES), generator=generator)[: self.depth - GUIDES].sort().values
        chosen = torch.cat((torch.arange(min(rank, GUIDES)), weaker + GUIDES))
        more = self.depth - len(chosen)

        def crop(planes: Tensor) -> Tensor:
            return functional.pad(planes[chosen][window].flip(axes).float(), (0, 0, 0, 0, 0, more))

        span = functional.pad(pair.span[chosen], (0, more), value=1.0)
        return _Pair(crop(pair.clean), crop(pair.images), crop(pair.rest), pair.known[window].flip(axes).float(), span)

    def _make_pair(self, estimator: ImageEstimator, generator: torch.Generator) -> _Pair:
        clean, light = _images_of(self.scenes.scene(generator), generator)
        noise, known = _noise(clean, light, _SPOILS[self.noise], generator)
        with torch.no_grad():
            first = estimator.estimate_images(clean + noise, known)
        turned = torch.einsum("kr,khw->rhw", first.spectra[0], clean)
        return _Pair(turned.half(), first.images[0].half(), first.rest[0].half(), known.half(), first.span[0])


def _images_of(scene: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the images (r, H, W) of a clean scene, in units of a noise that is drawn, and how light it is (H, W)."""
    deviation = (scene - scene.mean((1, 2), keepdim=True)).flatten(1)
    if torch.rand((), generator=generator) < 0.5:
        deviation = deviation / log_uniform(*_UNEVEN, len(scene), generator)[:, None]
    values, vectors = torch.linalg.eigh((deviation @ deviation.T / deviation.shape[1]).double())
    strength = values.clamp_min(0).flip(0).sqrt()
    strength = strength / strength[0].clamp_min(1e-12) * float(log_uniform(*_STRENGTH, 1, generator))
    rank = int((strength[:_MOST_IMAGES] > _WEAKEST).sum())
    images = vectors.flip(1)[:, :rank].T.float() @ deviation
    images = images / images.square().mean(1, keepdim=True).sqrt().clamp_min(1e-12) * strength[:rank, None].float()
    return images.view(rank, *scene.shape[1:]), scene.mean(0)


def _noise(clean: Tensor, light: Tensor, spoils: _Spoils, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return noise (r, H, W) of unit variance in the mean, its stripes apart, and how much was measured (H, W)."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    known, variance = torch.ones_like(light), torch.ones_like(light)
    if uniform(0, 1) < spoils.partly_measured:
        spread = uniform(0, 0.1)
        known = uniform(0.6, 1) + spread * torch.randn(light.shape, generator=generator)
        dead = torch.rand(light.shape[1], generator=generator) < 0.1
        known = (known - uniform(0, 0.2) * dead).clamp(0.2, 1)
        variance = 1 / known
    if uniform(0, 1) < spoils.follows_light:
        part = uniform(*spoils.light_part)
        variance = variance * (1 - part + part * light / light.mean().clamp_min(1e-6))
    noise = (variance / variance.mean()).sqrt() * torch.randn(clean.shape, generator=generator)
    if uniform(0, 1) < spoils.striped:
        stripes = torch.randn(len(clean), 1, light.shape[1], generator=generator)
        noise = noise + spoils.stripes * uniform(0, 1) ** 2 * stripes
    return noise, known
