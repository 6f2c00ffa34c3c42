"""One image on its way through one model: tile by tile, with what can go wrong on the way."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from denoise.card import ModelCard
from denoise.denoiser import Denoiser, Survey, Surveyor
from denoise.engine.blend import Band
from denoise.engine.device import DTYPES, Precision
from denoise.engine.lanes import Collect, host_buffer, open_lane
from denoise.engine.plan import Plan
from denoise.engine.tiles import Grid, Tile, lay_tiles, read_tile
from denoise.errors import DeviceError, ShapeError
from denoise.images import Image
from denoise.strength import leave
from noise_models.level import NoiseLevel

Progress = Callable[[int, int], None]

_COPY_BYTES: Final = 4 << 20


def run_batch(
    model: Denoiser | _Placed,
    noisy: torch.Tensor,
    noise: NoiseLevel | None,
    *,
    precision: Precision = "float32",
    strength: float = 1.0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Denoise one batch of tiles where it lies.

    Parameters
    ----------
    model : Denoiser
        On the device of ``noisy``; or what a survey made of it.
    noisy : (B, C, h, w) float32 tensor
        House units.
    noise : NoiseLevel or None
        (C,).
    precision : str
        The network's body runs in it under autocast.
    strength : float
        1 for all that the model removes, 0 for nothing.
    generator : torch.Generator, optional
        For a stochastic model.

    Returns
    -------
    (B, C, h, w) float32 tensor
        House units, on the same device.

    Raises
    ------
    ShapeError
        If the model returns another shape.
    """
    with torch.inference_mode(), _in_precision(noisy.device, precision):
        denoised = model.denoise(noisy, noise, generator=generator)
    if denoised.shape != noisy.shape:
        raise ShapeError(f"{model.card.id} got a tile of {tuple(noisy.shape)} and returned {tuple(denoised.shape)}.")
    with torch.inference_mode():
        return leave(noisy, denoised.float(), strength)


def _in_precision(device: torch.device, precision: Precision) -> torch.autocast:
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "float32")


@dataclass(frozen=True)
class _Whole:
    """An image on its way to a survey: `denoise.denoiser.Whole`."""

    image: Image
    device: torch.device
    most_values: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.image.shape

    def window(self, top: int, bottom: int, left: int, right: int) -> torch.Tensor:
        return torch.from_numpy(self.image.window(top, bottom, left, right)).to(self.device)


@dataclass(frozen=True)
class _Placed:
    """A survey where a batch of tiles lies."""

    card: ModelCard
    survey: Survey
    places: tuple[tuple[int, int], ...]

    def denoise(
        self, noisy: torch.Tensor, noise: NoiseLevel | None, *, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        places = self.places + self.places[-1:] * (len(noisy) - len(self.places))
        return self.survey.denoise(noisy, noise, places, generator=generator)


@dataclass(frozen=True)
class _Job:
    """A batch under way."""

    tiles: Sequence[Tile]
    noisy: torch.Tensor
    collect: Collect


@dataclass(eq=False)
class Run:
    """One image on its way through one model."""

    image: Image
    """What comes in."""
    model: Denoiser
    """On its device."""
    noise: NoiseLevel | None
    """(C,)."""
    strength: float
    """Share of the removed noise that goes, in sigma."""
    progress: Progress
    """Told the tiles done, and how many there are."""
    channels_last: bool
    """Whether tiles lie pixel by pixel."""
    compile: bool
    """Whether the step goes through ``torch.compile``."""
    seed: int
    """Of a stochastic model."""
    network_s: float = 0.0
    """Time in the network, copies to a card and back included [s]."""
    repaired: int = 0
    """Tiles that were not finite, and ran again in float32."""
    survey: Survey | None = None
    """Of an image in several tiles, by a model that asks for one."""

    def __post_init__(self) -> None:
        self.step = torch.compile(run_batch, dynamic=False) if self.compile else run_batch

    def __call__(self, plan: Plan) -> Image:
        """Run every tile of a plan, from the top left, and return the image."""
        self.repaired = 0
        device = torch.device(plan.device)
        grid = _grid(plan, self.image, self.model.card)
        channels = self.image.shape[0]
        canvas = self.image.canvas()
        band = Band(grid, channels, canvas.put)
        lane = open_lane(device)
        shape = (plan.batch, channels, *grid.tile)
        buffers = [host_buffer(shape, device, self.channels_last) for _ in range(lane.depth + 1)]
        under_way: deque[_Job] = deque()
        self.progress(0, len(grid))
        self._look(grid, device, plan.precision)
        tiles = iter(grid)
        for buffer in itertools.cycle(buffers):
            batch = list(itertools.islice(tiles, plan.batch))
            if not batch:
                break
            noisy = buffer if len(batch) == plan.batch or self.compile else buffer[: len(batch)]
            for tile, planes in zip(batch, noisy, strict=False):
                read_tile(self.image, tile, planes.numpy())
            begun = time.perf_counter()
            collect = lane.send(noisy, lambda there, batch=batch: self._step(there, plan.precision, batch))
            self.network_s += time.perf_counter() - begun
            under_way.append(_Job(batch, noisy, collect))
            if len(under_way) > lane.depth:
                self._finish(under_way.popleft(), band, plan, len(grid))
        while under_way:
            self._finish(under_way.popleft(), band, plan, len(grid))
        return canvas.finish(_note(self.model.card, plan, self.strength))

    def _look(self, grid: Grid, device: torch.device, precision: Precision) -> None:
        """Survey the image once, if it is cut and the model asks for it."""
        if len(grid) == 1 or self.survey is not None or not isinstance(self.model, Surveyor):
            return
        begun = time.perf_counter()
        values = self.image.shape[0] * grid.tile[0] * grid.tile[1]
        with torch.inference_mode(), _in_precision(device, precision):
            self.survey = self.model.survey(_Whole(self.image, device, values), self.noise)
        self.network_s += time.perf_counter() - begun

    def _step(self, noisy: torch.Tensor, precision: Precision, tiles: Sequence[Tile]) -> torch.Tensor:
        generator = None
        model: Denoiser | _Placed = self.model
        if self.survey is not None:
            places = tuple((tile.rows.start, tile.columns.start) for tile in tiles)
            model = _Placed(self.model.card, self.survey, places)
        if self.model.card.stochastic:
            seed = np.random.SeedSequence((self.seed, tiles[0].index)).generate_state(1, np.uint64)
            generator = torch.Generator(noisy.device).manual_seed(int(seed[0]) >> 1)
        return self.step(model, noisy, self.noise, precision=precision, strength=self.strength, generator=generator)

    def _finish(self, job: _Job, band: Band, plan: Plan, total: int) -> None:
        begun = time.perf_counter()
        denoised = job.collect()
        self.network_s += time.perf_counter() - begun
        for tile, noisy, planes in zip(job.tiles, job.noisy, denoised, strict=False):
            finite = bool(torch.isfinite(planes.sum()))
            band.add(tile, (planes if finite else self._again(tile, noisy, plan)).numpy())
            self.progress(tile.index + 1, total)

    def _again(self, tile: Tile, noisy: torch.Tensor, plan: Plan) -> torch.Tensor:
        """Run a tile that was not finite once more, in float32."""
        place = f"the tile at row {tile.rows.start}, column {tile.columns.start} (planes)"
        if not torch.isfinite(noisy).all():
            raise ShapeError(f"In the image, {place} holds values that are not finite. Mend or mask them first.")
        if plan.precision != "float32":
            planes = self._step(noisy[None].to(plan.device), "float32", [tile])[0].to("cpu")
            if torch.isfinite(planes).all():
                self.repaired += 1
                return planes
        raise DeviceError(
            f"{self.model.card.id} gave values that are not finite in {place}, in float32 as well. "
            "Check the weights with `denoise models verify` and the noise level that was used."
        )


def _grid(plan: Plan, image: Image, card: ModelCard) -> Grid:
    grid = lay_tiles(image.shape[1:], card.multiple_of, plan.halo, plan.tile)
    if (grid.tile, grid.counts) != (plan.tile, plan.tiles):
        raise ShapeError(
            f"The plan has {plan.tiles} tiles of {plan.tile}, but this image and {card.id} need {grid.counts} of "
            f"{grid.tile}. Make a plan for this image."
        )
    return grid


def copy(image: Image, progress: Progress | None) -> Image:
    """Return the image through its canvas, value for value."""
    channels, height, width = image.shape
    canvas = image.canvas()
    step = max(1, _COPY_BYTES // (4 * channels * width))
    for top in range(0, height, step):
        canvas.put(top, image.window(top, min(top + step, height), 0, width))
    if progress is not None:
        progress(1, 1)
    return canvas.finish("left as it was: strength 0")


def _note(card: ModelCard, plan: Plan, strength: float) -> str:
    return f"denoised by {card.id}, strength {strength:g}, {plan.precision}"
