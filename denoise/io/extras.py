"""Packages that only some formats need: imported when a file asks for them, named with their extra where missing."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from denoise.errors import UnsupportedInputError


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
