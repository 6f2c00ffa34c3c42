"""Where the numbers of a camera profile come from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from noise_models.gain_point import FrozenFile


class Provenance(FrozenFile):
    """Where the numbers of a profile come from."""

    date: str
    """Of the calibration, or of the publication [ISO 8601]."""
    sources: tuple[str, ...] = ()
    """Papers, files, folders."""
    tool_version: str = ""
    """Of the program that wrote the profile."""
    dark_frames: Annotated[int, Field(ge=0)] | None = None
    """Number of dark frames used; None where the source does not say."""
    flat_frames: Annotated[int, Field(ge=0)] | None = None
    """Number of flat frames used; None where the source does not say."""
    temperature_c: float | None = None
    """Sensor temperature while measuring [degrees C]."""
    unverified: tuple[str, ...] = ()
    """Names of fields whose values were recalled or assumed, not measured."""
    notes: tuple[str, ...] = ()
    """What a user should know before trusting the numbers."""
