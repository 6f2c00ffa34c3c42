"""What flows through the toolkit: images that know their levels, their noise and their past.

Every image shows itself to the engine as planes (C, H, W) float32 with 0 = black and 1 = white, by windows, so that
a large file never stands in memory as floating point.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from denoise import cfa as cfa_layout
from denoise.errors import ShapeError
from noise_models.base import SensorSettings
from noise_models.level import NoiseLevel

if TYPE_CHECKING:
    import torch

FloatPlanes = npt.NDArray[np.float32]


class Canvas(Protocol):
    """Where the engine puts a result, band by band from the top."""

    def put(self, top: int, rows: FloatPlanes) -> None:
        """Store planes (C, h, W) whose first row is ``top``."""
        ...

    def finish(self, note: str) -> Image:
        """Return the image, with ``note`` at the end of its history."""
        ...


class Image(Protocol):
    """What the engine needs of an image."""

    kind: ClassVar[str]
    """"raw", "photo" or "cube": what a card's ``domain`` speaks of."""

    @property
    def noise(self) -> NoiseLevel | None:
        """The noise in it, where known."""
        ...

    @property
    def history(self) -> tuple[str, ...]:
        """What was done to it, oldest first."""
        ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """Planes, rows, columns."""
        ...

    def window(self, top: int, bottom: int, left: int, right: int) -> FloatPlanes:
        """Return planes [top:bottom, left:right] as a new float32 array, house units."""
        ...

    def canvas(self) -> Canvas:
        """Return an empty image of the same kind, shape and metadata to fill."""
        ...

    def to_tensor(self) -> torch.Tensor:
        """Return all planes (C, H, W) float32, house units."""
        ...

    def with_tensor(self, planes: torch.Tensor) -> Self:
        """Return the same image with other planes."""
        ...


@dataclass(frozen=True, eq=False)
class RawMetadata:
    """What a RAW file says beside its pixels, as far as a DNG carries it."""

    make: str = ""
    """Maker, as in EXIF."""
    model: str = ""
    """Camera model, as in EXIF."""
    unique_model: str = ""
    """DNG UniqueCameraModel; empty for "make model"."""
    orientation: int = 1
    """EXIF orientation 1 to 8; pixels stay in sensor orientation."""
    color_matrices: tuple[npt.NDArray[np.float64], ...] = ()
    """One or two matrices (3, 3), XYZ to camera; (1, 3) for a mono sensor; empty if not known."""
    illuminants: tuple[int, ...] = ()
    """EXIF LightSource of each matrix."""
    as_shot_neutral: tuple[float, float, float] | None = None
    """Camera values of a neutral at the shot's white balance, green = 1."""
    baseline_exposure: float = 0.0
    """Exposure offset for the converter [EV]."""
    default_crop: tuple[int, int, int, int] | None = None
    """Left, top, width, height of the recommended crop within the mosaic; None for all of it."""
    aperture: float | None = None
    """F-number."""
    focal_length_mm: float | None = None
    """Focal length."""
    date_time: str = ""
    """EXIF DateTimeOriginal, "YYYY:MM:DD hh:mm:ss"."""
    source: Path | None = None
    """The file it was read from."""
    thumbnail: bytes | None = None
    """The source's embedded JPEG preview."""
    dng_tags: dict[int, Any] = field(default_factory=dict)
    """Tags of a DNG source that a DNG of the same mosaic keeps as they are (opcode lists, profiles)."""


def scale_to_16_bit(white_dn: float) -> int:
    """Return the whole number by which levels grow so that white comes near 65535: 4 for 14 bit, 16 for 12 bit.

    Denoised values lie between the sensor's steps; at the sensor's own depth they would posterise.
    """
    return max(1, int(65535 // max(white_dn, 1.0)))


@dataclass(frozen=True, eq=False)
class RawImage:
    """A mosaic as the sensor read it, with the levels that give it meaning.

    Raises
    ------
    ShapeError
        If the mosaic is not (H, W) uint16, the pattern is not known, or white does not lie above black.
    """

    kind: ClassVar[str] = "raw"

    mosaic: npt.NDArray[np.uint16]
    """(H, W) [DN]; ``mosaic[0, 0]`` is the first letter of ``cfa``; the masked margin is not part of it."""
    cfa: str
    """Pattern of the 2x2 cell in reading order, "RGGB" or another phase; "MONO" without filters."""
    black_dn: npt.NDArray[np.float64]
    """(2, 2) by position in the cell [DN]."""
    white_dn: float
    """Saturation [DN]."""
    settings: SensorSettings | None = None
    """ISO and exposure, where known."""
    noise: NoiseLevel | None = None
    """(C,) by plane in `denoise.cfa` order, or (1,) for all."""
    metadata: RawMetadata = field(default_factory=RawMetadata)
    """What else the file said."""
    history: tuple[str, ...] = ()
    """What was done to it, oldest first."""

    def __post_init__(self) -> None:
        if self.mosaic.ndim != 2 or self.mosaic.dtype != np.uint16:
            raise ShapeError(
                f"A mosaic is a uint16 array (H, W), but got {self.mosaic.dtype} of shape {self.mosaic.shape}."
            )
        cfa_layout.plane_shape(self.cfa, *self.mosaic.shape)
        black = np.broadcast_to(np.asarray(self.black_dn, np.float64), (2, 2)).copy()
        object.__setattr__(self, "black_dn", black)
        if not self.white_dn > black.max():
            raise ShapeError(
                f"The white level must lie above black, but white is {self.white_dn:g} DN and black {black.max():g} DN."
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Planes, rows, columns of the packed mosaic."""
        return cfa_layout.plane_shape(self.cfa, *self.mosaic.shape)

    @property
    def black_by_plane(self) -> npt.NDArray[np.float64]:
        """Black level (C,) of each plane [DN]."""
        return cfa_layout.black_by_plane(self.black_dn, self.cfa)

    @property
    def range_by_plane(self) -> npt.NDArray[np.float64]:
        """White minus black (C,) of each plane [DN]: one house unit."""
        return self.white_dn - self.black_by_plane

    def window(self, top: int, bottom: int, left: int, right: int) -> FloatPlanes:
        """Return planes [top:bottom, left:right] as a new float32 array: (DN - black) / (white - black)."""
        step = cfa_layout.period(self.cfa)
        part = self.mosaic[top * step : bottom * step, left * step : right * step]
        planes = cfa_layout.pack(part, self.cfa).astype(np.float32)
        planes -= self.black_by_plane.astype(np.float32)[:, None, None]
        planes /= self.range_by_plane.astype(np.float32)[:, None, None]
        return planes

    def canvas(self) -> RawCanvas:
        """Return an empty mosaic, on the 16-bit scale, to fill."""
        return RawCanvas(self)

    def to_tensor(self) -> torch.Tensor:
        """Return all planes (C, H, W) float32, house units."""
        import torch

        return torch.from_numpy(self.window(0, self.shape[1], 0, self.shape[2]))

    def with_tensor(self, planes: torch.Tensor) -> RawImage:
        """Return the image with other planes (C, H, W), on the 16-bit scale."""
        canvas = self.canvas()
        canvas.put(0, planes.detach().cpu().numpy())
        return canvas.finish("")


class RawCanvas:
    """Fills a mosaic on the 16-bit scale, rounding and limiting to what uint16 holds."""

    def __init__(self, source: RawImage) -> None:
        self.source = source
        self.scale = scale_to_16_bit(source.white_dn)
        self.mosaic = np.empty(source.mosaic.shape, np.uint16)

    def put(self, top: int, rows: FloatPlanes) -> None:
        """Store planes (C, h, W) whose first row is ``top``."""
        source = self.source
        if rows.shape[0] != source.shape[0] or rows.shape[2] != source.shape[2]:
            raise ShapeError(f"Expected planes of shape {source.shape}, but got {rows.shape}.")
        levels = rows * (source.range_by_plane.astype(np.float32) * self.scale)[:, None, None]
        levels += (source.black_by_plane.astype(np.float32) * self.scale)[:, None, None]
        np.rint(levels, out=levels)
        np.clip(levels, 0, 65535, out=levels)
        step = cfa_layout.period(source.cfa)
        target = self.mosaic[top * step : (top + rows.shape[1]) * step]
        target[...] = cfa_layout.unpack(levels.astype(np.uint16), source.cfa, *target.shape)

    def finish(self, note: str) -> RawImage:
        """Return the image, with ``note`` at the end of its history."""
        return replace(
            self.source,
            mosaic=self.mosaic,
            black_dn=self.source.black_dn * self.scale,
            white_dn=self.source.white_dn * self.scale,
            history=(*self.source.history, *([note] if note else [])),
        )


@dataclass(frozen=True, eq=False)
class PhotoMetadata:
    """What a photograph's file says beside its pixels."""

    icc_profile: bytes | None = None
    """Colour profile."""
    exif: bytes | None = None
    """EXIF block (TIFF header first), without "Exif\\0\\0"."""
    xmp: bytes | None = None
    """XMP packet."""
    source: Path | None = None
    """The file it was read from."""
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    """Colour and resolution chunks of a PNG (type, content), kept as they are."""
    iptc: bytes | None = None
    """Captions and keywords, IPTC-IIM."""


@dataclass(frozen=True, eq=False)
class Photo:
    """A rendered photograph: grey or RGB, at the depth of its file.

    Raises
    ------
    ShapeError
        If the pixels are not (H, W, 1) or (H, W, 3) of uint8, uint16 or float32.
    """

    kind: ClassVar[str] = "photo"

    pixels: npt.NDArray[Any]
    """(H, W, C), C = 1 grey or 3 RGB; uint8, uint16, or float32 with 1 = white."""
    alpha: npt.NDArray[Any] | None = None
    """(H, W) of the same dtype; passed through untouched."""
    linear: bool = False
    """Whether values are proportional to light, not sRGB encoded."""
    noise: NoiseLevel | None = None
    """(C,) by channel, or (1,) for all."""
    metadata: PhotoMetadata = field(default_factory=PhotoMetadata)
    """What else the file said."""
    history: tuple[str, ...] = ()
    """What was done to it, oldest first."""

    def __post_init__(self) -> None:
        good_type = self.pixels.dtype in (np.uint8, np.uint16, np.float32)
        if self.pixels.ndim != 3 or self.pixels.shape[2] not in (1, 3) or not good_type:
            raise ShapeError(
                "A photograph is (H, W, 1) or (H, W, 3) of uint8, uint16 or float32, but got "
                f"{self.pixels.dtype} of shape {self.pixels.shape}."
            )
        if self.alpha is not None and (
            self.alpha.shape != self.pixels.shape[:2] or self.alpha.dtype != self.pixels.dtype
        ):
            raise ShapeError(
                f"Alpha must be {self.pixels.dtype} {self.pixels.shape[:2]} like the pixels, but is "
                f"{self.alpha.dtype} {self.alpha.shape}."
            )

    @property
    def white(self) -> float:
        """The value that stands for white: 255, 65535 or 1."""
        return float(np.iinfo(self.pixels.dtype).max) if self.pixels.dtype.kind == "u" else 1.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows, columns."""
        height, width, channels = self.pixels.shape
        return channels, height, width

    def window(self, top: int, bottom: int, left: int, right: int) -> FloatPlanes:
        """Return channels [top:bottom, left:right] as a new float32 array, 1 = white; in memory pixel by pixel."""
        part = self.pixels[top:bottom, left:right]
        return np.divide(part, np.float32(self.white), dtype=np.float32).transpose(2, 0, 1)

    def canvas(self) -> PhotoCanvas:
        """Return an empty photograph of the same depth to fill."""
        return PhotoCanvas(self)

    def to_tensor(self) -> torch.Tensor:
        """Return all channels (C, H, W) float32, house units."""
        import torch

        return torch.from_numpy(self.window(0, self.shape[1], 0, self.shape[2]))

    def with_tensor(self, planes: torch.Tensor) -> Photo:
        """Return the photograph with other channels (C, H, W)."""
        canvas = self.canvas()
        canvas.put(0, planes.detach().cpu().numpy())
        return canvas.finish("")


class PhotoCanvas:
    """Fills a photograph of the same depth, rounding and limiting to what it holds."""

    def __init__(self, source: Photo) -> None:
        self.source = source
        self.pixels = np.empty_like(source.pixels)

    def put(self, top: int, rows: FloatPlanes) -> None:
        """Store channels (C, h, W) whose first row is ``top``."""
        source = self.source
        if rows.shape[0] != source.shape[0] or rows.shape[2] != source.shape[2]:
            raise ShapeError(f"Expected channels of shape {source.shape}, but got {rows.shape}.")
        values = rows
        if source.pixels.dtype.kind == "u":
            values = rows * np.float32(source.white)
            np.rint(values, out=values)
            np.clip(values, 0, source.white, out=values)
        self.pixels[top : top + rows.shape[1]] = values.transpose(1, 2, 0)

    def finish(self, note: str) -> Photo:
        """Return the photograph, with ``note`` at the end of its history."""
        return replace(self.source, pixels=self.pixels, history=(*self.source.history, *([note] if note else [])))
