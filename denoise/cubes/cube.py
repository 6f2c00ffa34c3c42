"""A hyperspectral cube: one image a wavelength, with what makes the numbers a measurement."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from denoise.cubes.canvas import CubeCanvas
from denoise.cubes.gaps import REACH, fill_gaps
from denoise.cubes.pixels import ArrayPixels, Pixels, Stored, row_blocks
from denoise.errors import ShapeError
from noise_models.level import NoiseLevel

if TYPE_CHECKING:
    import torch

FloatPlanes = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]
BoolPlanes = npt.NDArray[np.bool_]

_SAMPLE_BYTES: Final = 1 << 20
_SAMPLE_BLOCKS: Final = 16
_SPECTRA: Final = 509  # a prime: the places of fill share no period with it


@dataclass(frozen=True)
class Georeference:
    """Where on Earth the pixels lie."""

    crs: str = ""
    """Coordinate reference system as WKT, or an authority's code such as "EPSG:32633"; empty if not stated."""
    transform: tuple[float, float, float, float, float, float] | None = None
    """a, b, c, d, e, f: x = a*column + b*row + c, y = d*column + e*row + f at the corner of a pixel."""


@dataclass(frozen=True, eq=False)
class CubeMetadata:
    """What a cube's file says beside its values."""

    source: Path | None = None
    """The file it was read from."""
    format: str = ""
    """Which reader read it: "envi", "geotiff", "hdf5", ..."""
    entries: dict[str, Any] = field(default_factory=dict)
    """What the writer of that format puts back: header keys that are not known, tags, the place in the file."""


@dataclass(frozen=True, eq=False)
class HyperspectralCube:
    """A cube as its file stores it, shown to the engine in house units.

    x = (scale * stored + offset) / white                                                               (1)

    Values that are missing, not finite, dead or in a bad band are not valid: a model sees them filled from their
    neighbours in the spectrum, and what it makes of them is thrown away.

    Raises
    ------
    ShapeError
        If the values are not (bands, H, W) of at least two bands, or a list of bands has another length.
    """

    kind: ClassVar[str] = "cube"

    stored: Pixels
    """(bands, H, W) in the file's type; an array is taken as well."""
    wavelengths_nm: FloatArray | None = None
    """(bands,) centres, in the order of the bands; None if not stated."""
    fwhm_nm: FloatArray | None = None
    """(bands,) full widths at half maximum."""
    good_bands: npt.NDArray[np.bool_] | None = None
    """(bands,); None for all. Bad bands are left as they are."""
    nodata: float | None = None
    """The stored number that stands for a missing value."""
    blank: float | None = None
    """A stored number that means a missing pixel where all bands hold it, though the file does not say so."""
    dead: BoolPlanes | Pixels | None = None
    """Detector elements or pixels known to be bad: an array that broadcasts to (bands, H, W), or flags in a file."""
    quantity: str = ""
    """What ``scale * stored + offset`` is: "reflectance", "radiance ...", or empty if not stated."""
    scale: FloatArray = field(default_factory=lambda: np.ones(1))
    """(bands,) or (1,): quantity per stored step."""
    offset: FloatArray = field(default_factory=lambda: np.zeros(1))
    """(bands,) or (1,): quantity at stored zero."""
    white: float = 1.0
    """The quantity that is 1 in house units."""
    band_names: tuple[str, ...] = ()
    """One a band, or none."""
    acquired: str = ""
    """When, ISO 8601 as far as the file states it."""
    georeference: Georeference | None = None
    """Where; None if not stated."""
    noise: NoiseLevel | None = None
    """(bands,), or (1,) for all."""
    metadata: CubeMetadata = field(default_factory=CubeMetadata)
    """What else the file said."""
    history: tuple[str, ...] = ()
    """What was done to it, oldest first."""

    def __post_init__(self) -> None:
        if isinstance(self.stored, np.ndarray):
            object.__setattr__(self, "stored", ArrayPixels(self.stored))
        bands = self.stored.shape[0]
        if bands < 2 or min(self.stored.shape) < 1:
            raise ShapeError(
                f"A cube has at least two bands and one pixel, but got (bands, H, W) = {self.stored.shape}."
            )
        for name in ("wavelengths_nm", "fwhm_nm", "good_bands", "band_names", "scale", "offset"):
            value = getattr(self, name)
            free = name == "band_names" or (name in ("scale", "offset") and len(value) == 1)
            if value is not None and len(value) != bands and not (free and len(value) < 2):
                raise ShapeError(f"The cube has {bands} bands, but {len(value)} values of {name} were given.")
        if self.dead is not None and np.broadcast_shapes(self.dead.shape, self.shape) != self.shape:
            raise ShapeError(f"A mask {self.dead.shape} does not fit a cube {self.shape}.")
        if not (self.white > 0 and np.all(self.scale)):
            raise ShapeError(f"White ({self.white:g}) must lie above 0, and no scale may be 0.")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, rows, columns."""
        return self.stored.shape

    @property
    def held_bytes(self) -> int:
        """Memory that the values hold; a canvas of this cube will hold as much."""
        return self.stored.held_bytes

    @property
    def valid(self) -> BoolPlanes:
        """(bands, H, W): what holds a measurement. Of a cube larger than memory, ask `valid_in` by windows."""
        parts = []
        for top, bottom in row_blocks(self.stored):
            window = (top, bottom, 0, self.shape[2])
            parts.append(self.valid_in(self.stored.read(*window), *window))
        return np.concatenate(parts, axis=1)

    @cached_property
    def typical_spectra(self) -> FloatPlanes:
        """(bands, n): measured ones from all over the cube, house units; 0 in a band without any valid value.

        Where no spectrum is whole, one of the medians of the bands.
        """
        sample, valid = self.sample()
        alive = np.asarray(valid.any(axis=1))
        whole = np.flatnonzero(valid[alive].all(axis=0))
        if alive.any() and len(whole):
            chosen = whole[np.linspace(0, len(whole) - 1, min(len(whole), _SPECTRA)).astype(int)]
            return np.where(alive[:, None], sample[:, chosen], np.float32(0))
        medians = [np.median(band[valid[number]]) if alive[number] else 0 for number, band in enumerate(sample)]
        return np.array(medians, np.float32)[:, None]

    def sample(self) -> tuple[FloatPlanes, BoolPlanes]:
        """Return (bands, n) values of rows spread over the cube, house units, and which are valid."""
        width = self.shape[2]
        blocks = row_blocks(self.stored, _SAMPLE_BYTES)
        picked = np.unique(np.linspace(0, len(blocks) - 1, _SAMPLE_BLOCKS).astype(int))
        values, valid = [], []
        for top, bottom in (blocks[number] for number in picked):
            stored = self.stored.read(top, bottom, 0, width)
            values.append(self.to_house(stored).reshape(len(stored), -1))
            valid.append(self.valid_in(stored, top, bottom, 0, width).reshape(len(stored), -1))
        return np.concatenate(values, axis=1), np.concatenate(valid, axis=1)

    def valid_in(self, stored: Stored, top: int, bottom: int, left: int, right: int) -> BoolPlanes:
        """Return which of the stored values (bands, h, w) of a window hold a measurement."""
        valid = np.isfinite(stored) if stored.dtype.kind == "f" else np.ones(stored.shape, bool)
        if self.nodata is not None and np.isfinite(self.nodata):
            valid &= stored != _as_stored(self.nodata, stored.dtype)
        if self.blank is not None:
            valid &= ~(stored == _as_stored(self.blank, stored.dtype)).all(axis=0)
        if self.good_bands is not None:
            valid &= self.good_bands[:, None, None]
        if self.dead is not None:
            if isinstance(self.dead, np.ndarray):
                valid &= ~np.broadcast_to(self.dead, self.shape)[:, top:bottom, left:right]
            else:
                valid &= self.dead.read(top, bottom, left, right) == 0
        return valid

    def to_house(self, stored: Stored) -> FloatPlanes:
        """Return stored values (bands, ...) in house units (1), as a new array."""
        values = stored.astype(np.float32)
        gain, zero = self.scale / self.white, self.offset / self.white
        trailing = (-1,) + (1,) * (stored.ndim - 1)
        with np.errstate(invalid="ignore", over="ignore"):
            if np.any(gain != 1):
                values *= gain.astype(np.float32).reshape(trailing)
            if np.any(zero):
                values += zero.astype(np.float32).reshape(trailing)
        return values

    def from_house(self, planes: FloatPlanes, dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
        """Return what would be stored for planes (bands, ...): the inverse of (1), not rounded."""
        values = planes.astype(dtype)
        trailing = (-1,) + (1,) * (planes.ndim - 1)
        values *= np.asarray(self.white / self.scale, dtype).reshape(trailing)
        values -= np.asarray(self.offset / self.scale, dtype).reshape(trailing)
        return values

    def window(self, top: int, bottom: int, left: int, right: int) -> FloatPlanes:
        """Return bands [top:bottom, left:right] as a new float32 array, house units, gaps filled."""
        planes, valid = self._read(top, bottom, left, right)
        if valid.all():
            return planes
        empty = not valid.any(axis=0).all()
        if not empty:
            fill_gaps(planes, valid, self._positions, self.typical_spectra)
            return planes
        height, width = self.shape[1:]
        above, beside = min(REACH, top), min(REACH, left)
        planes, valid = self._read(top - above, min(bottom + REACH, height), left - beside, min(right + REACH, width))
        fill_gaps(planes, valid, self._positions, self.typical_spectra, (top - above, left - beside))
        return planes[:, above : above + bottom - top, beside : beside + right - left].copy()

    def canvas(self) -> CubeCanvas:
        """Return an empty cube of the same type to fill."""
        return CubeCanvas(self)

    def to_tensor(self) -> torch.Tensor:
        """Return all bands (bands, H, W) float32, house units, gaps filled."""
        import torch

        return torch.from_numpy(self.window(0, self.shape[1], 0, self.shape[2]))

    def with_tensor(self, planes: torch.Tensor) -> HyperspectralCube:
        """Return the cube with other values (bands, H, W), in the type of its source, gaps as they were."""
        canvas = self.canvas()
        canvas.put(0, planes.detach().cpu().numpy())
        return canvas.finish("")

    @property
    def _positions(self) -> FloatArray:
        wavelengths = self.wavelengths_nm
        return np.arange(self.shape[0], dtype=np.float64) if wavelengths is None else wavelengths

    def _read(self, top: int, bottom: int, left: int, right: int) -> tuple[FloatPlanes, BoolPlanes]:
        stored = self.stored.read(top, bottom, left, right)
        return self.to_house(stored), self.valid_in(stored, top, bottom, left, right)


def _as_stored(nodata: float, dtype: np.dtype[Any]) -> Any:
    """Return the missing number as the stored type holds it: -9999.1 in float32 is not -9999.1."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return dtype.type(nodata)
    limits = np.iinfo(dtype)
    return dtype.type(int(nodata)) if limits.min <= nodata <= limits.max and nodata == int(nodata) else np.nan
