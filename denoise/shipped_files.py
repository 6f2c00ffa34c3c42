"""Where the folders that ship with the library lie: beside it in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path


def shipped_folder(name: str) -> Path:
    """Return the folder ``weights`` or ``data_manifests`` of this installation."""
    package = Path(__file__).resolve().parent
    inside = package / "shipped" / name
    return inside if inside.is_dir() else package.parent / name
