"""The engine: plans, then runs any model over any image, tile by tile."""

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
from denoise.denoiser import Denoiser
from denoise.engine.blend import Band
from denoise.engine.device import (
    DTYPES,
    DeviceReport,
    Precision,
    choose_device,
    choose_precision,
    is_out_of_memory,
    report_device,
)
from denoise.engine.lanes import Collect, host_buffer, open_lane
from denoise.engine.plan import Plan, Task, make_plan
from denoise.engine.tiles import Grid, Tile, lay_tiles, read_tile, smallest_tile
from denoise.errors import DenoiseError, DeviceError, OutOfMemoryError, ShapeError, WeightsError
from denoise.images import Image
from noise_models.level import NoiseLevel

Progress = Callable[[int, int], None]

_COPY_BYTES: Final = 4 << 20


def check_fit(image: Image, card: ModelCard) -> None:
    """Raise unless a model is made for the kind of image and its number of planes.

    Raises
    ------
    WeightsError
        If the model serves another kind of image.
    ShapeError
        If it serves other numbers of planes, or the image has no pixels.
    """
    if min(image.shape) < 1:
        raise ShapeError(f"An image of {image.shape[2]}x{image.shape[1]} pixels was given, but it needs at least one.")
    if card.domain not in ("any", image.kind):
        raise WeightsError(
            f"{card.id} was asked to denoise a {image.kind} image, but it is made for {card.domain} images. "
            f"Pass --model auto, or one that `denoise models list` shows for {image.kind}."
        )
    if card.channels and image.shape[0] not in card.channels:
        raise ShapeError(
            f"{card.id} was asked to denoise an image of {image.shape[0]} planes, but it serves "
            f"{' or '.join(map(str, card.channels))}. Pass --model auto, or a model for {image.shape[0]} planes."
        )


def run_batch(
    model: Denoiser,
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
        On the device of ``noisy``.
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
    reduced = precision != "float32"
    with torch.inference_mode(), torch.autocast(noisy.device.type, DTYPES[precision], enabled=reduced):
        denoised = model.denoise(noisy, noise, generator=generator)
    if denoised.shape != noisy.shape:
        raise ShapeError(f"{model.card.id} got a tile of {tuple(noisy.shape)} and returned {tuple(denoised.shape)}.")
    with torch.inference_mode():
        return leave(noisy, denoised.float(), strength)


def leave(noisy: torch.Tensor, denoised: torch.Tensor, strength: float) -> torch.Tensor:
    """Return ``denoised`` with the share 1 - strength of the removed noise, in sigma, left in."""
    return denoised if strength == 1.0 else denoised + (1.0 - strength) * (noisy - denoised)


@dataclass(frozen=True)
class _Job:
    """A batch under way."""

    tiles: Sequence[Tile]
    noisy: torch.Tensor
    collect: Collect


class Engine:
    """Runs a model over an image of any size within a promised memory.

    Parameters
    ----------
    device : str
        "auto", "cpu", "cuda", "cuda:1", "mps".
    precision : str
        "auto", "float32", "bfloat16", "float16".
    tile : "auto" or int
        Largest side of a tile in pixels of a plane.
    max_memory : int, optional
        Bytes that the whole process may hold at most (on CUDA: of the card); otherwise what is free.
    batch_size : int, optional
        Tiles that go through the network together.
    threads : int, optional
        Threads of a CPU; torch's own choice otherwise.
    channels_last : bool
        Whether tiles lie pixel by pixel, which convolutions like.
    compile : bool
        Whether the model goes through ``torch.compile``.
    seed : int
        Of stochastic models; tile ``n`` draws from ``(seed, n)``.

    Attributes
    ----------
    last_plan : Plan or None
        What was done in the last run, with what went otherwise than planned among its reasons.
    last_timings : dict of str to float
        ``network_s``, ``total_s`` and ``network_share`` of the last run.
    """

    def __init__(
        self,
        device: str = "auto",
        precision: str = "auto",
        tile: str | int = "auto",
        max_memory: int | None = None,
        batch_size: int | None = None,
        threads: int | None = None,
        channels_last: bool = True,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        if isinstance(tile, str) and tile != "auto" and not tile.isdigit():
            raise DeviceError(f"Tile '{tile}' was asked for, but it is 'auto' or a number of pixels. Pass --tile auto.")
        for name, value in (("batch size", batch_size), ("number of threads", threads), ("memory", max_memory)):
            if value is not None and value < 1:
                raise DeviceError(f"A {name} of {value} was asked for, but it must be at least 1.")
        self.device = device
        self.precision = precision
        self.tile = None if tile == "auto" else int(tile)
        self.max_memory = max_memory
        self.batch_size = batch_size
        self.threads = threads
        self.channels_last = channels_last
        self.compile = compile
        self.seed = seed
        self.last_plan: Plan | None = None
        self.last_timings: dict[str, float] = {}

    def plan(self, image: Image, model: Denoiser, *, report: DeviceReport | None = None) -> Plan:
        """Say what would be done, and why, without doing it.

        Parameters
        ----------
        image : Image
            Only its size and kind are looked at.
        model : Denoiser
            Its card, and ``bytes_per_pixel`` and ``macs_per_pixel`` where it states them.
        report : DeviceReport, optional
            Instead of what the chosen device says of itself.

        Returns
        -------
        Plan
            That `denoise` will obey.

        Raises
        ------
        DeviceError
            If the device, the precision or the tile cannot be served, or the memory is not enough.
        WeightsError, ShapeError
            If the model is not made for the image.
        """
        check_fit(image, model.card)
        report = report or report_device(choose_device(self.device))
        precision = choose_precision(self.precision, model.card, report)
        task = Task.of(image, model)
        return make_plan(
            task, report, precision, tile=self.tile, max_memory=self.max_memory, batch_size=self.batch_size
        )

    def denoise(
        self,
        image: Image,
        model: Denoiser,
        *,
        noise: NoiseLevel | None = None,
        strength: float = 1.0,
        plan: Plan | None = None,
        progress: Progress | None = None,
    ) -> Image:
        """Denoise an image.

        Parameters
        ----------
        image : Image
            RAW, photograph or cube.
        model : Denoiser
            Made for that kind of image.
        noise : NoiseLevel, optional
            Instead of ``image.noise``.
        strength : float
            1 removes all that the model removes; 0 returns the input's values exactly, without running the model.
        plan : Plan, optional
            From `plan`, for the same image and model.
        progress : callable, optional
            Called with the tiles done and their number, first with 0.

        Returns
        -------
        Image
            Of the same kind, with one more line of history.

        Raises
        ------
        WeightsError
            If the model is not made for the image, or needs a noise level and there is none.
        OutOfMemoryError
            If not even the smallest tile fits.
        DeviceError
            If a tile is not finite, even in float32.
        """
        begun = time.perf_counter()
        check_fit(image, model.card)
        if not 0.0 <= strength <= 1.0:
            raise DenoiseError(f"Strength {strength:g} was asked for, but it lies between 0 (nothing) and 1 (all).")
        noise = noise or image.noise
        if noise is None and model.card.noise == "required":
            raise WeightsError(
                f"{model.card.id} needs to know the noise, but the image does not state it. "
                "Pass --noise SHOT,READ, or --noise blind to estimate it from the image."
            )
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        if strength == 0.0:
            self.last_plan = plan
            self.last_timings = _timings(0.0, time.perf_counter() - begun)
            return _copy(image, progress)
        plan = plan or self.plan(image, model)
        noise = None if noise is None else noise.for_channels(image.shape[0])
        run = _Run(self, image, model.to(torch.device(plan.device)), noise, strength, progress)
        while True:
            self.last_plan = plan
            try:
                result = run(plan)
                break
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                plan = _smaller(plan, image, model.card)
            if plan.device.startswith("cuda"):
                torch.cuda.empty_cache()
        self.last_timings = _timings(run.network_s, time.perf_counter() - begun)
        return result


class _Run:
    """One image on its way through one model."""

    def __init__(
        self,
        engine: Engine,
        image: Image,
        model: Denoiser,
        noise: NoiseLevel | None,
        strength: float,
        progress: Progress | None,
    ) -> None:
        self.engine, self.image, self.model, self.noise = engine, image, model, noise
        self.strength = strength
        self.progress = progress or (lambda done, total: None)
        self.call = torch.compile(run_batch, dynamic=False) if engine.compile else run_batch
        self.network_s = 0.0
        self.repaired = 0

    def __call__(self, plan: Plan) -> Image:
        """Run every tile of a plan."""
        device = torch.device(plan.device)
        grid = _grid(plan, self.image, self.model.card)
        channels = self.image.shape[0]
        canvas = self.image.canvas()
        band = Band(grid, channels, canvas.put)
        lane = open_lane(device)
        shape = (plan.batch, channels, *grid.tile)
        buffers = [host_buffer(shape, device, self.engine.channels_last) for _ in range(lane.depth + 1)]
        under_way: deque[_Job] = deque()
        self.progress(0, len(grid))
        tiles = iter(grid)
        for buffer in itertools.cycle(buffers):
            batch = list(itertools.islice(tiles, plan.batch))
            if not batch:
                break
            noisy = buffer if len(batch) == plan.batch or self.engine.compile else buffer[: len(batch)]
            for tile, planes in zip(batch, noisy, strict=False):
                read_tile(self.image, tile, planes.numpy())
            begun = time.perf_counter()
            collect = lane.send(noisy, lambda there, first=batch[0]: self._step(there, plan.precision, first))
            self.network_s += time.perf_counter() - begun
            under_way.append(_Job(batch, noisy, collect))
            if len(under_way) > lane.depth:
                self._finish(under_way.popleft(), band, plan, len(grid))
        while under_way:
            self._finish(under_way.popleft(), band, plan, len(grid))
        if self.repaired:
            reason = f"{self.repaired} tiles ran again in float32: {plan.precision} gave values that are not finite"
            self.engine.last_plan = plan.because(reason)
        return canvas.finish(_note(self.model.card, plan, self.strength))

    def _step(self, noisy: torch.Tensor, precision: Precision, first: Tile) -> torch.Tensor:
        generator = None
        if self.model.card.stochastic:
            seed = np.random.SeedSequence((self.engine.seed, first.index)).generate_state(1, np.uint64)
            generator = torch.Generator(noisy.device).manual_seed(int(seed[0]) >> 1)
        return self.call(
            self.model, noisy, self.noise, precision=precision, strength=self.strength, generator=generator
        )

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
            planes = self._step(noisy[None].to(plan.device), "float32", tile)[0].to("cpu")
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


def _smaller(plan: Plan, image: Image, card: ModelCard) -> Plan:
    """Return the plan with one tile in a batch or, if that is so already, half the tile."""
    if plan.batch > 1:
        return _again_with(plan, plan.tile, plan.tiles, f"memory ran out with a batch of {plan.batch}: batch 1")
    smallest = smallest_tile(card.multiple_of, plan.halo)
    if max(plan.tile) <= smallest:
        raise OutOfMemoryError(
            f"{card.id} ran out of memory on {plan.device} with tiles of {plan.tile[0]}x{plan.tile[1]}, and none are "
            f"smaller than {smallest}. Close other programs, use --device cpu, or a smaller model."
        ) from None
    height, width = (max(smallest, side // 2 // card.multiple_of * card.multiple_of) for side in plan.tile)
    grid = lay_tiles(image.shape[1:], card.multiple_of, plan.halo, (height, width))
    was = f"{plan.tile[0]}x{plan.tile[1]}"
    reason = f"memory ran out with tiles of {was}: halved to {grid.tile[0]}x{grid.tile[1]}"
    return _again_with(plan, grid.tile, grid.counts, reason)


def _again_with(plan: Plan, tile: tuple[int, int], tiles: tuple[int, int], reason: str) -> Plan:
    changed = plan.to_dict() | {"tile": tile, "tiles": tiles, "batch": 1, "reasons": (*plan.reasons, reason)}
    return Plan(**changed)


def _copy(image: Image, progress: Progress | None) -> Image:
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


def _timings(network_s: float, total_s: float) -> dict[str, float]:
    return {"network_s": network_s, "total_s": total_s, "network_share": network_s / total_s if total_s > 0 else 0.0}
