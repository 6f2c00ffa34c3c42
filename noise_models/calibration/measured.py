"""A value with its standard error."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """A value and one standard deviation of its estimate."""

    value: float
    """The value."""
    error: float
    """Its standard error."""
