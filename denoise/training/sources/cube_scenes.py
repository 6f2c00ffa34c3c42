"""Clean hyperspectral cubes to learn from: real scenes, and new ones made of their spectra and of photographs.

Real cubes are few. What a scene is made of, its endmembers, can be laid out anew: photographs are many, and where their
colours lie is where materials lie. The spectra stay real, the edges and textures as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from denoise.errors import RecipeError
from denoise.io import read
from denoise.training.sources.crops import Crops, log_uniform
from denoise.weights import load_model

_EXTREMES: Final = 8
_FEWEST_MATERIALS: Final = 4
_SPECTRA: Final = 64
_SHARPNESS: Final = (0.003, 0.1)
_BRIGHTNESS: Final = (0.5, 1.0)
_COLOURS: Final = 4


def load_cubes(files: Sequence[Path]) -> list[Tensor]:
    """Read cubes as (bands, H, W) float32, each from 0 to 1 as a whole.

    Raises
    ------
    FileFormatError
        If a file holds no cube.
    """
    cubes = []
    for path in files:
        cube = read(path).to_tensor()
        low, high = cube.min(), cube.max()
        cubes.append((cube - low) / (high - low).clamp_min(1e-12))
    return cubes


def conservatively_denoised(cube: Tensor) -> Tensor:
    """Return a real scene (bands, H, W) with the noise gone that the subspace method is sure of, within 0 to 1.

    What it is not sure of, it gives back: see `denoise.methods.subspace`.
    """
    with torch.no_grad():
        return load_model("subspace", kind="cube").denoise(cube[None], None)[0].clamp(0, 1)


def extremes(spectra: Tensor, count: int) -> Tensor:
    """Return the most different of some spectra (bands, n): the purest, by successive projection.

    Parameters
    ----------
    spectra : (bands, n) tensor
        One column a pixel.
    count : int
        How many, at most n.

    Returns
    -------
    (bands, count) tensor
        Each the longest of what the ones before cannot make.

    References
    ----------
    .. [1] U. M. C. Araujo et al., "The successive projections algorithm for variable selection in spectroscopic
       multicomponent analysis", Chemometrics and Intelligent Laboratory Systems 57(2), 2001.
    """
    rest, chosen = spectra.double(), []
    for _ in range(count):
        index = int(rest.square().sum(0).argmax())
        chosen.append(index)
        direction = rest[:, index] / rest[:, index].norm().clamp_min(1e-12)
        rest = rest - torch.outer(direction, direction @ rest)
    return spectra[:, chosen]


def abundances(photo: Tensor, materials: int, generator: torch.Generator) -> Tensor:
    """Return how much of each material lies where, by the colours of a photograph.

    Parameters
    ----------
    photo : (3, H, W) tensor
        0 to 1.
    materials : int
        How many.
    generator : torch.Generator
        Chooses the colour that each material has, and how sharply they are told apart.

    Returns
    -------
    (materials, H, W) tensor
        Not negative, of sum 1 in every pixel.

    Notes
    -----
    a_k = softmax_k(-|colour - colour_k|^2 / t), t log-uniform                                                 (1)
    """
    pixels = photo.flatten(1)
    places = torch.randint(pixels.shape[1], (materials,), generator=generator)
    distance = torch.cdist(pixels.T, pixels[:, places].T).square()
    return (-distance / log_uniform(*_SHARPNESS, 1, generator)).softmax(1).T.view(materials, *photo.shape[1:])


class CubeScenes:
    """Crops of clean cubes, half of them real, half laid out by photographs.

    Parameters
    ----------
    images : sequence of tensor
        Cubes (bands, H, W) float32 from 0 to 1, and photographs (3, H, W) uint8.
    held_out : sequence of tensor
        Cubes to be judged by.
    patch : int
        Side of a crop [pixel].
    bands : int
        Bands of a crop, neighbours or every second or third one.
    judge : sequence of int, optional
        Which of ``held_out`` are clean enough; default all.

    Raises
    ------
    RecipeError
        If there is no cube or no photograph, or one is smaller than a crop.
    """

    def __init__(
        self,
        images: Sequence[Tensor],
        held_out: Sequence[Tensor],
        *,
        patch: int = 64,
        bands: int = 32,
        judge: Sequence[int] | None = None,
    ) -> None:
        cubes = [image for image in images if image.is_floating_point()]
        if not cubes or any(min(cube.shape[1:]) < patch or len(cube) < bands for cube in cubes):
            sizes = ", ".join(f"{len(cube)} bands of {cube.shape[2]}x{cube.shape[1]}" for cube in cubes) or "none"
            raise RecipeError(
                f"Crops of {bands} bands of {patch}x{patch} pixels were asked for, but the cubes are: {sizes}. "
                "Name a dataset of larger cubes in data, or set source_options.patch and source_options.bands."
            )
        self.cubes = [conservatively_denoised(cube) for cube in cubes]
        self.materials = [_materials(cube) for cube in self.cubes]
        self.photos = Crops([image for image in images if not image.is_floating_point()], patch)
        self.held_out = [held_out[index] for index in (range(len(held_out)) if judge is None else judge)]
        self.patch, self.bands = patch, bands

    def scene(self, generator: torch.Generator, bands: int | None = None) -> Tensor:
        """Return one crop (bands, patch, patch)."""
        index = int(torch.randint(len(self.cubes), (), generator=generator))
        real = torch.rand((), generator=generator) < 0.5
        cube = self._real(index, generator) if real else self._laid_out(index, generator)
        return _some_bands(cube, bands or self.bands, generator) * _uniform(*_BRIGHTNESS, generator)

    def _real(self, index: int, generator: torch.Generator) -> Tensor:
        cube, side = self.cubes[index], self.patch
        top, left = (int(torch.randint(size - side + 1, (), generator=generator)) for size in cube.shape[1:])
        axes = [axis for axis in (1, 2) if torch.rand((), generator=generator) < 0.5]
        crop = cube[:, top : top + side, left : left + side].flip(axes)
        return crop.transpose(1, 2) if torch.rand((), generator=generator) < 0.5 else crop

    def _laid_out(self, index: int, generator: torch.Generator) -> Tensor:
        spectra = self.materials[index]
        photo = self.photos.draw(generator)
        count = int(torch.randint(_FEWEST_MATERIALS, spectra.shape[1] + 1, (), generator=generator).clamp_max(24))
        chosen = spectra[:, torch.randperm(spectra.shape[1], generator=generator)[:count]]
        light = photo.mean(0) + 0.2
        cube = torch.tensordot(chosen, abundances(photo, count, generator), 1) * (light / light.mean())
        return cube / cube.max().clamp_min(1e-6)


def _materials(cube: Tensor) -> Tensor:
    """Return the purest spectra of a scene, and as many again spread over it: (bands, n)."""
    flat = cube.flatten(1)
    spread = torch.linspace(0, flat.shape[1] - 1, _SPECTRA).long()
    return torch.cat((extremes(flat, _EXTREMES), flat[:, spread]), 1)


def _some_bands(cube: Tensor, bands: int, generator: torch.Generator) -> Tensor:
    """Return neighbouring bands, or every second or third one, in either order."""
    bands = min(bands, len(cube))
    step = int(torch.randint(1, min(3, (len(cube) - 1) // max(1, bands - 1)) + 1, (), generator=generator))
    first = int(torch.randint(len(cube) - step * (bands - 1), (), generator=generator))
    chosen = cube[first : first + step * (bands - 1) + 1 : step]
    return chosen.flip(0) if torch.rand((), generator=generator) < 0.5 else chosen


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
