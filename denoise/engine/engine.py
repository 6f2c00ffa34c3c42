"""The engine: plans, then runs any model over any image, tile by tile."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from denoise.card import ModelCard
from denoise.denoiser import Denoiser
from denoise.engine.device import DeviceReport, choose_device, choose_precision, is_out_of_memory, report_device
from denoise.engine.plan import Plan, Task, make_plan
from denoise.engine.run import Progress, Run, copy
from denoise.engine.tiles import lay_tiles, smallest_tile
from denoise.errors import DenoiseError, DeviceError, OutOfMemoryError, ShapeError, WeightsError
from denoise.images import Image
from noise_models.level import NoiseLevel


def check_fit(image: Image, card: ModelCard) -> None:
    """Raise unless a model is made for the kind of image and its number of planes.

    Raises
    ------
    WeightsError
        If the model serves another kind of image, or other numbers of planes.
    ShapeError
        If the image has no pixels.
    """
    if min(image.shape) < 1:
        raise ShapeError(f"An image of {image.shape[2]}x{image.shape[1]} pixels was given, but it needs at least one.")
    if card.domain not in ("any", image.kind):
        raise WeightsError(
            f"{card.id} was asked to denoise a {image.kind} image, but it is made for {card.domain} images. "
            f"Choose the model auto, or one that `denoise models list` shows for {image.kind}."
        )
    if card.channels and image.shape[0] not in card.channels:
        raise WeightsError(
            f"{card.id} was asked to denoise an image of {image.shape[0]} planes, but it serves "
            f"{' or '.join(map(str, card.channels))}. Choose the model auto, or one for {image.shape[0]} planes."
        )


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
        report = report if self.threads is None else replace(report, cores=self.threads)
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
            return copy(image, progress)
        plan = plan or self.plan(image, model)
        noise = None if noise is None else noise.for_channels(image.shape[0])
        model = model.to(torch.device(plan.device))
        if self.channels_last and isinstance(model, torch.nn.Module):
            # Weights must lie as the tiles do, or every layer turns them again. The stub lacks this way to call it.
            torch.nn.Module.to(model, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        run = Run(
            image=image,
            model=model,
            noise=noise,
            strength=strength,
            progress=progress or (lambda done, total: None),
            channels_last=self.channels_last,
            compile=self.compile,
            seed=self.seed,
        )
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
        if run.repaired:
            why = f"{plan.precision} gave values that are not finite"
            self.last_plan = plan.because(f"{run.repaired} tiles ran again in float32: {why}")
        self.last_timings = _timings(run.network_s, time.perf_counter() - begun)
        return result


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


def _timings(network_s: float, total_s: float) -> dict[str, float]:
    return {"network_s": network_s, "total_s": total_s, "network_share": network_s / total_s if total_s > 0 else 0.0}
