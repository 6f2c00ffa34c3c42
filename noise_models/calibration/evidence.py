"""What a calibration rests on: every fit behind the profile, for the report and for whoever doubts a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from noise_models.calibration.dark import DarkFit
from noise_models.calibration.fidelity import Distance
from noise_models.calibration.gain import GainFit
from noise_models.calibration.linearity import LinearityFit
from noise_models.calibration.measured import Measured
from noise_models.calibration.segments import Segments

SmallMap = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PatternEvidence:
    """Numbers and thumbnails of the fixed pattern."""

    dsnu_dn: tuple[float, ...]
    """Spread of single pixels in the dark, one for each gain mode [DN]."""
    kept: tuple[float, ...]
    """Share of the single-pixel pattern that is signal, one for each gain mode [1]."""
    prnu: float | None
    """Spread of the response of single pixels [1]; None where it was not measured."""
    hot: int
    """Number of hot pixels."""
    dead: int
    """Number of dead pixels."""
    shading: SmallMap
    """(h, w) dark shading of the highest ISO, averaged down for a picture [DN]."""
    hot_density: SmallMap
    """(h, w) number of hot pixels in each cell of the same grid [1]."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Every fit behind a profile."""

    darks: tuple[DarkFit, ...]
    """All stacks of dark frames, by ISO and exposure."""
    read: Mapping[float, DarkFit]
    """By ISO, the stack from which read, row and column noise were taken."""
    gains: tuple[GainFit, ...]
    """Photon transfer, by ISO; empty without flats."""
    gain_source: str
    """Where K comes from, in words."""
    linearity: LinearityFit | None
    """Of the ISO with the most brightnesses."""
    read_modes: Segments
    """ln read sigma against ln K."""
    row_modes: Segments | None
    """ln row sigma against ln K; None without row noise."""
    rates_dn_per_s: Mapping[float, Measured]
    """By ISO, growth of the dark level [DN/s]."""
    fidelity: Mapping[float, tuple[Distance, ...]]
    """By ISO, distance of drawn frames from held-back ones."""
    pattern: PatternEvidence | None
    """None where no maps were made."""
    saturation_dn: float
    """Signal at saturation [DN above black]."""
    dark_frames: int
    """Number of dark frames read."""
    flat_frames: int
    """Number of flat frames read."""
    notes: tuple[str, ...] = field(default=())
    """What else a user should know."""
