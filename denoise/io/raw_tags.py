"""What a RAW file's tags say: rawpy decodes the pixels but hides most of the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

PROFILE_TAGS: Final = frozenset(
    {
        *(50709, 50723, 50724, 50727, 50731, 50732, 50734, 50735, 50736, 50739, 50740, 50741, 50879, 50931, 50932),
        *(50934, 50936, 50937, 50938, 50939, 50940, 50941, 50942, 50964, 50965, 50981, 50982, 51107, 51108, 51109),
        51110,
    }
)
"""Tags of the first IFD (camera, lens, colour profile) that hold for any DNG of the same exposure."""
RAW_TAGS: Final = frozenset({50718, 50733, 50737, 50738, 50780, 51008, 51009, 51022, 51125})
"""Tags of the raw IFD (opcode lists, scale, aliasing) that hold for any DNG of the same mosaic."""


@dataclass(eq=False)
class DngRaw:
    """The raw IFD of a DNG, as its tags describe it."""

    photometric: int = 32803
    """32803 mosaic, 34892 linear."""
    samples: int = 1
    """Samples per pixel."""
    bits: int = 16
    """Bits per sample."""
    is_float: bool = False
    """Whether samples are floating point."""
    compression: int = 1
    """TIFF compression code."""
    width: int = 0
    """Columns stored."""
    height: int = 0
    """Rows stored."""
    data_bytes: int = 0
    """Bytes of all strips or tiles."""
    tiled: bool = False
    """Whether the pixels stand in tiles."""
    cfa: str = ""
    """Letters of the 2x2 cell at the active area's corner; longer, or empty, if it is no such cell."""
    active_area: tuple[int, int, int, int] | None = None
    """Top, left, bottom, right."""
    black_dn: npt.NDArray[np.float64] | None = None
    """(2, 2) by position in the cell [DN]."""
    white_dn: float | None = None
    """Saturation [DN]."""
    default_crop: tuple[int, int, int, int] | None = None
    """Left, top, width, height within the active area."""
    noise_profile: tuple[float, ...] = ()
    """Shot and read of all planes, or of each in ``plane_colors`` order."""
    plane_colors: tuple[int, ...] = (0, 1, 2)
    """CFAPlaneColor."""


@dataclass(eq=False)
class RawTags:
    """The tags of a RAW file that the house cares about; what is not known stays empty."""

    make: str = ""
    model: str = ""
    unique_model: str = ""
    orientation: int | None = None
    iso: float | None = None
    exposure_s: float | None = None
    aperture: float | None = None
    focal_length_mm: float | None = None
    date_time: str = ""
    color_matrices: tuple[npt.NDArray[np.float64], ...] = ()
    illuminants: tuple[int, ...] = ()
    as_shot_neutral: tuple[float, ...] = ()
    white_xy: tuple[float, float] | None = None
    baseline_exposure: float = 0.0
    is_dng: bool = False
    dng: DngRaw | None = None
    dng_tags: dict[int, Any] = field(default_factory=dict)
    """Code: (TIFF type, count, value), as tifffile takes them."""
    data_end: int = 0
    """First byte behind the raw data, as far as the file says."""
