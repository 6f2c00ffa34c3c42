"""What the engine will do, and why: arithmetic over an image's size, a model's card and a device's report."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np

from denoise.card import ModelCard
from denoise.denoiser import Denoiser, Surveyor
from denoise.engine.blend import Band
from denoise.engine.device import GIB, DeviceReport, Precision
from denoise.engine.tiles import Grid, lay_tiles, overlap_of, round_up, smallest_tile
from denoise.errors import DeviceError, OutOfMemoryError
from denoise.images import Image

PREFERRED_TILE: Final = 1024
"""Side of a tile where memory allows it: as fast per pixel as smaller ones, and far less is computed twice."""
_TILE_OF_HALOS: Final = 19
"""A tile is at least this many halos wide if it fits: narrower ones compute too much of the image twice."""
_WIDEST_OF_HALOS: Final = 27
"""And up to this many, where that saves `_WORTH` of the image's work and the process holds no more than `_UNASKED`."""
_WORTH: Final = 0.08
_UNASKED: Final = 2 << 30
PREFERRED_VALUES: Final = 5 << 20
"""Values of a tile, all planes together, that are enough: of an image of many planes, tiles are smaller."""
HALO_OF_THE_WHOLE: Final = 64
"""Halo for a model that sees the whole image, where that does not fit in one tile."""
HALO_OF_MANY_PLANES: Final = 32
"""The same where more than `_MANY_PLANES` make tiles heavy: the smallest tile grows with the square of the halo."""
_MANY_PLANES: Final = 16
MOST_VALUES_IN_ONE: Final = 128 << 20
"""Values of an image that a model which sees all of it still gets in one tile, however much memory is free."""
_HEAP_SLACK: Final = 1.6  # measured: what the heap holds over what is alive, once freed pieces no longer fit together
_SHARE_IN_REDUCED: Final = 0.6  # stabilisation, skip and result stay in float32
_WARM_UP_BYTES: Final = 96 << 20
_SHARE_OF_AVAILABLE: Final = 0.9
_ASSUMED_AVAILABLE: Final = 4 * GIB
_MOST_IN_A_BATCH: Final = 8
_MACS_PER_S_PER_CORE: Final[dict[Precision, float]] = {"float32": 45e9, "bfloat16": 85e9, "float16": 45e9}


@dataclass(frozen=True)
class Plan:
    """How an image will be denoised."""

    tile: tuple[int, int]
    """Height and width of every tile, with its overlap, in pixels of a plane."""
    tiles: tuple[int, int]
    """Rows and columns of tiles."""
    halo: int
    """Pixels beside a cut that are thrown away."""
    overlap: int
    """Pixels that neighbours share, at least."""
    batch: int
    """Tiles that go through the network together."""
    device: str
    """"cpu", "cuda:0", "mps"."""
    precision: Precision
    """Of the network's body."""
    peak_gib: float
    """Predicted peak: of the whole process on a CPU, of the card's memory on CUDA [GiB]."""
    seconds: float | None
    """Rough time of the network [s]; None if the model does not state its work or the device its speed."""
    reasons: tuple[str, ...]
    """Why, in words; what went otherwise than planned is added while it runs."""

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON can hold it."""
        return asdict(self)

    def because(self, reason: str) -> Plan:
        """Return the plan with one more reason."""
        return replace(self, reasons=(*self.reasons, reason))


@dataclass(frozen=True)
class Task:
    """The facts a plan is made from."""

    shape: tuple[int, int, int]
    """Planes, rows, columns."""
    card: ModelCard
    """Of the model."""
    canvas_bytes: int
    """What the result takes, at the depth of its file."""
    unread_bytes: int
    """What of the image is still on disk (mapped), and will come in."""
    bytes_per_pixel: float
    """Tensors alive at the network's peak, per pixel of a tile's plane, in float32."""
    macs_per_pixel: float | None
    """Multiplications per pixel of a plane."""
    surveyed: bool = False
    """Whether the model looks at the whole image before its tiles."""

    @classmethod
    def of(cls, image: Image, model: Denoiser) -> Task:
        """Gather the facts.

        A model may state ``bytes_per_pixel``, or ``bytes_per_value`` if it serves any number of planes, and
        ``macs_per_pixel``; without one of the first two, a high value is assumed. An image may state ``held_bytes``:
        what a canvas of it will hold, where that is not the size of its arrays.
        """
        channels = image.shape[0]
        arrays = [value for value in getattr(image, "__dict__", {}).values() if isinstance(value, np.ndarray)]
        mapped = [array for array in arrays if isinstance(array, np.memmap) or isinstance(array.base, np.memmap)]
        held = getattr(image, "held_bytes", None)
        stated = getattr(model, "bytes_per_pixel", None) or channels * getattr(model, "bytes_per_value", 0.0)
        assumed = 1280.0 + 32.0 * channels
        macs = getattr(model, "macs_per_pixel", None)
        return cls(
            shape=image.shape,
            card=model.card,
            canvas_bytes=held
            if held is not None
            else sum(array.nbytes for array in arrays) or 4 * int(np.prod(image.shape)),
            unread_bytes=sum(array.nbytes for array in mapped),
            bytes_per_pixel=float(stated or assumed),
            macs_per_pixel=None if macs is None else float(macs),
            surveyed=isinstance(model, Surveyor),
        )

    @property
    def halo(self) -> int:
        """Pixels beside a cut that are thrown away."""
        if self.card.halo is not None:
            return self.card.halo
        return HALO_OF_THE_WHOLE if self.shape[0] <= _MANY_PLANES else HALO_OF_MANY_PLANES

    def lay(self, side: tuple[int, int]) -> Grid:
        """Return the grid whose tiles are at most this large."""
        return lay_tiles(self.shape[1:], self.card.multiple_of, self.halo, side)

    def bytes_in_a_batch(self, tile: tuple[int, int], precision: Precision) -> int:
        """Return the working memory of one tile: the network's, and its planes going in and out [bytes]."""
        network = _HEAP_SLACK * self.bytes_per_pixel * (1.0 if precision == "float32" else _SHARE_IN_REDUCED)
        return int(tile[0] * tile[1] * (network + 16 * self.shape[0]))

    def peak_bytes(self, grid: Grid, batch: int, precision: Precision, report: DeviceReport) -> int:
        """Return the memory that will be held at most [bytes]."""
        work = batch * self.bytes_in_a_batch(grid.tile, precision) + _WARM_UP_BYTES
        if report.kind == "cuda":
            return report.resident_bytes + work
        frame = self.canvas_bytes + self.unread_bytes + Band.bytes_for(grid, self.shape[0])
        return report.resident_bytes + frame + work


def memory_budget(report: DeviceReport, max_memory: int | None) -> tuple[int, str]:
    """Return the bytes that may be held at most, and where that number comes from."""
    if report.available_bytes is None:
        free, origin = _ASSUMED_AVAILABLE, "assumed, the system does not say what is free"
    else:
        free, origin = report.available_bytes, "free now"
    budget = report.resident_bytes + int(_SHARE_OF_AVAILABLE * free)
    return (max_memory, "promised") if max_memory is not None and max_memory <= budget else (budget, origin)


def make_plan(
    task: Task,
    report: DeviceReport,
    precision: tuple[Precision, str],
    *,
    tile: int | None = None,
    max_memory: int | None = None,
    batch_size: int | None = None,
) -> Plan:
    """Choose tiles that fit.

    Parameters
    ----------
    task : Task
        Image and model.
    report : DeviceReport
        The device.
    precision : tuple of str
        As from `choose_precision`.
    tile : int, optional
        Largest side of a tile in pixels of a plane; otherwise chosen.
    max_memory : int, optional
        Bytes that may be held at most; otherwise what is free.
    batch_size : int, optional
        Tiles in a batch; otherwise chosen.

    Returns
    -------
    Plan
        With the largest tiles, up to the preferred size, that fit.

    Raises
    ------
    OutOfMemoryError
        If not even the smallest tile fits.
    DeviceError
        If ``tile`` is too small for the model.
    """
    multiple_of, halo = task.card.multiple_of, task.halo
    smallest = smallest_tile(multiple_of, halo)
    reasons = [precision[1]]
    if tile is not None and tile < smallest:
        raise DeviceError(
            f"Tiles of {tile} pixels were asked for, but {task.card.id} (halo {halo}, multiples of {multiple_of}) "
            f"needs at least {smallest}. Pass --tile {smallest} or --tile auto."
        )
    preferred = min(PREFERRED_TILE, math.isqrt(PREFERRED_VALUES // task.shape[0]))
    preferred, widest = (
        max(smallest, round_up(max(preferred, halos * (task.card.halo or 0)), multiple_of))
        for halos in (_TILE_OF_HALOS, _WIDEST_OF_HALOS)
    )
    sides = _descending(widest, smallest, multiple_of) if tile is None else [tile // multiple_of * multiple_of]
    budget, origin = memory_budget(report, max_memory)
    if tile is None and task.card.halo is None and math.prod(task.shape) <= MOST_VALUES_IN_ONE:
        sides.insert(0, max(round_up(size, multiple_of) for size in task.shape[1:]))
    usual = task.lay((preferred, preferred))
    for side in sides:
        grid = task.lay((side, side))
        is_wide = tile is None and preferred < side <= widest
        if is_wide and grid.waste > usual.waste - _WORTH:
            continue
        if task.peak_bytes(grid, 1, precision[0], report) <= (min(budget, _UNASKED) if is_wide else budget):
            break
    else:
        needed = task.peak_bytes(task.lay((sides[-1], sides[-1])), 1, precision[0], report)
        remedy = "Give more with --max-memory, close other programs" + (
            ", or use a smaller model." if tile is None else ", or pass --tile auto."
        )
        raise OutOfMemoryError(
            f"{task.card.id} on this image needs {needed / GIB:.2f} GiB with tiles of {sides[-1]} pixels, "
            f"but {budget / GIB:.2f} GiB may be used ({origin}). {remedy}"
        )
    batch, why = _choose_batch(task, grid, precision[0], report, budget, batch_size)
    peak = task.peak_bytes(grid, batch, precision[0], report)
    limit = "asked for" if tile is not None else f"fits {budget / GIB:.2f} GiB ({origin})"
    reasons.append(f"tile {grid.tile[0]}x{grid.tile[1]}: {limit}, peak {peak / GIB:.2f} GiB")
    reasons.append(f"tiles {grid.counts[0]}x{grid.counts[1]}: {grid.waste:.2f} times the image is computed")
    if task.card.halo is None and len(grid) > 1:
        reasons.append(f"{task.card.id} sees the whole image, which is too large: neighbours share {2 * halo} pixels")
    if task.surveyed and len(grid) > 1:
        reasons.append("the whole image is surveyed first, and all tiles go by what was found")
    if why:
        reasons.append(why)
    return Plan(
        tile=grid.tile,
        tiles=grid.counts,
        halo=halo,
        overlap=overlap_of(multiple_of, halo) if len(grid) > 1 else 0,
        batch=batch,
        device=report.device,
        precision=precision[0],
        peak_gib=round(peak / GIB, 3),
        seconds=_estimate_seconds(task, grid, precision[0], report),
        reasons=tuple(reasons),
    )


def _descending(preferred: int, smallest: int, multiple_of: int) -> list[int]:
    step = round_up(32, multiple_of)
    return [*range(preferred, smallest, -step), smallest]


def _choose_batch(
    task: Task, grid: Grid, precision: Precision, report: DeviceReport, budget: int, asked: int | None
) -> tuple[int, str]:
    if task.card.stochastic:
        return 1, "batch 1: each tile draws from its own seed"
    if asked is not None:
        return max(1, min(asked, len(grid))), f"batch {asked}: asked for"
    if report.kind == "cpu":
        return 1, ""
    spare = budget - task.peak_bytes(grid, 1, precision, report)
    most = 1 + spare // task.bytes_in_a_batch(grid.tile, precision)
    rounds = -(-len(grid) // max(1, min(_MOST_IN_A_BATCH, most)))
    return -(-len(grid) // rounds), ""


def _estimate_seconds(task: Task, grid: Grid, precision: Precision, report: DeviceReport) -> float | None:
    if task.macs_per_pixel is None or report.kind != "cpu":
        return None
    work = task.macs_per_pixel * len(grid) * grid.tile[0] * grid.tile[1]
    return round(work / (_MACS_PER_S_PER_CORE[precision] * report.cores), 2)
