"""Pairs of clean and noisy cubes with the first estimate that a network is to refine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, cast

import torch
from torch import Tensor

from denoise.cubes.first_estimate import FirstEstimate
from denoise.denoiser import Batch
from denoise.errors import RecipeError, nearest
from denoise.methods.cube_diffusion import CubeBatch, FirstEstimator
from denoise.training.feed import seeded
from denoise.training.sources.cube_noise import NOISES
from denoise.training.sources.cube_scenes import CubeScenes
from denoise.weights import load_model
from noise_models.cube_cases import spoil_cube

_JUDGED: Final = {
    "standard": ("gaussian-2", "gaussian-30", "non-iid", "stripe", "mixture"),
    "finch": ("finch", "finch again"),
}


@dataclass(frozen=True, eq=False)
class _Pair:
    """A scene and its first estimate, as float16 where that is enough."""

    clean: Tensor
    first: FirstEstimate


class CubePairs:
    """Crops of noisy cubes whose first estimate was made once, of the whole scene.

    The estimate costs as much as many steps of training, and is better the more of a scene it sees. So every scene is
    laid out, spoilt and estimated when the source is made, and crops are drawn from these.

    Parameters
    ----------
    images : sequence of tensor
        Cubes (bands, H, W) float32 from 0 to 1, and photographs (3, H, W) uint8.
    held_out : sequence of tensor
        Cubes to be judged by.
    patch, bands : int
        Side and bands of a crop.
    scene, scene_bands : int
        Side and bands of a scene.
    pairs : int
        Scenes.
    noise : str
        Key of `denoise.training.sources.cube_noise.NOISES`; the cubes held out are judged in some of its cases.
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
        patch: int = 48,
        bands: int = 32,
        scene: int = 96,
        scene_bands: int = 96,
        pairs: int = 200,
        noise: str = "standard",
        judge: Sequence[int] | None = None,
        seed: int = 8,
    ) -> None:
        if noise not in NOISES:
            raise RecipeError(f"Noise '{noise}' is not known for cubes. {nearest(noise, NOISES)}")
        if patch > scene or bands > scene_bands:
            raise RecipeError(
                f"Crops of {bands} bands of {patch}x{patch} were asked for from scenes of {scene_bands} bands of "
                f"{scene}x{scene}. Crops are not larger: set source_options.scene and source_options.scene_bands."
            )
        self.scenes = CubeScenes(images, held_out, patch=scene, bands=scene_bands, judge=judge)
        self.patch, self.bands, self.noise = patch, bands, noise
        self.cases: tuple[str, ...] = _JUDGED[noise]
        estimator = cast(FirstEstimator, load_model("subspace", kind="cube"))
        self.kept = [_make_pair(self.scenes, noise, estimator, seeded(seed, number)) for number in range(pairs)]

    def draw(self, batch: int, *, generator: torch.Generator) -> CubeBatch:
        """Return ``batch`` crops (B, bands, patch, patch)."""
        crops = [self._crop(generator) for _ in range(batch)]
        clean = torch.stack([crop.clean for crop in crops])
        parts = [[getattr(crop.first, name) for crop in crops] for name in ("cube", "rest", "valid", "sigma")]
        first = FirstEstimate(*(torch.stack(part) for part in parts))
        return CubeBatch(first.cube + first.rest, clean, None, first)

    def validation(self) -> Iterator[Batch]:
        """Yield the cubes held out, each in all of ``cases``, in turn."""
        for cube in self.scenes.held_out:
            for number, case in enumerate(self.cases):
                generator = seeded(20, number)
                standard = self.noise == "standard"
                noisy = spoil_cube(cube, case, generator=generator) if standard else NOISES[self.noise](cube, generator)
                yield Batch(noisy[None], cube[None], None)

    def _crop(self, generator: torch.Generator) -> _Pair:
        pair = self.kept[int(torch.randint(len(self.kept), (), generator=generator))]
        sizes = (self.bands, self.patch, self.patch)
        starts = [
            int(torch.randint(size - part + 1, (), generator=generator))
            for size, part in zip(pair.clean.shape, sizes, strict=True)
        ]
        window = tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
        axes = [axis for axis in range(3) if torch.rand((), generator=generator) < 0.5]
        first, sigma = pair.first, pair.first.sigma[window[0]]
        sigma = sigma.flip(0) if 0 in axes else sigma

        def crop(values: Tensor) -> Tensor:
            return values[window].flip(axes)

        return _Pair(
            crop(pair.clean).float(),
            FirstEstimate(crop(first.cube).float(), crop(first.rest).float(), crop(first.valid), sigma),
        )


def _make_pair(scenes: CubeScenes, noise: str, estimator: FirstEstimator, generator: torch.Generator) -> _Pair:
    clean = scenes.scene(generator)
    noisy = NOISES[noise](clean, generator)
    with torch.no_grad():
        first = estimator.first_estimate(noisy[None], None)
    return _Pair(
        clean.half(), FirstEstimate(first.cube[0].half(), first.rest[0].half(), first.valid[0], first.sigma[0])
    )
