"""Packages that only some formats need: imported when a file asks for them, named with their extra where missing."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from types import ModuleType
from typing import Final

from denoise.errors import UnsupportedInputError

_logger = logging.getLogger("denoise")

GEOGRAPHIC: Final = ("GEOGCS", "GEOGCRS", "GEODCRS")
"""How WKT of degrees begins."""


def need(module: str, extra: str, path: Path) -> ModuleType:
    """Import an optional package.

    Raises
    ------
    UnsupportedInputError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UnsupportedInputError(
            f"{path.name} needs the package {module}, which is not installed. "
            f"Install it with: pip install 'denoise-toolkit[{extra}]'."
        ) from error


def as_wkt(crs: str) -> str:
    """Return a reference system as WKT; an authority's code stays one, with a warning, without the extra [geo]."""
    if not crs or "[" in crs:
        return crs
    try:
        from rasterio.crs import CRS
    except ImportError:
        _logger.warning(
            "The reference system is written as %s, without WKT, which some programs need. Install WKT's source: "
            "pip install 'denoise-toolkit[geo]'.", crs,
        )  # fmt: skip
        return crs
    return CRS.from_user_input(crs).to_wkt()
