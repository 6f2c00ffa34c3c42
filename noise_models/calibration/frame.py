"""One exposure of a sensor, what its file says of it, and the contract of what reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class FrameInfo:
    """What a file says of a frame before its pixels are read; None where it does not say."""

    shape: tuple[int, int]
    """Rows and columns [px]."""
    cfa: str = "MONO"
    """Pattern of the 2x2 cell in reading order, "MONO" without filters."""
    black_dn: tuple[tuple[float, float], tuple[float, float]] | None = None
    """Nominal black by position in the cell [DN]."""
    white_dn: float | None = None
    """Where the sensor or its converter saturates [DN]."""
    bit_depth: int | None = None
    """Of the converter [bit]."""
    iso: float | None = None
    """Sensitivity [ISO]."""
    exposure_s: float | None = None
    """Exposure time [s]."""
    temperature_c: float | None = None
    """Of the sensor [degrees C]."""
    make: str = ""
    """Maker of the camera."""
    model: str = ""
    """Model of the camera."""
    serial: str = ""
    """Serial number of the body."""
    time: str = ""
    """When it was taken [ISO 8601 or EXIF]."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One exposure as the sensor read it."""

    mosaic: npt.NDArray[np.uint16] | npt.NDArray[np.float32]
    """(H, W) [DN], black not subtracted."""
    info: FrameInfo
    """How it was taken."""


class FrameReader(Protocol):
    """Reads frames from files."""

    def describe(self, path: Path) -> FrameInfo:
        """Return what the file says without decoding its pixels, where the format allows it."""
        ...

    def read(self, path: Path) -> Frame:
        """Return the frame.

        Raises
        ------
        CalibrationError
            If the file holds no values of a sensor, or cannot be read.
        """
        ...
