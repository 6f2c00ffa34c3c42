"""Datasets by name: reads the folder ``data_manifests/`` and finds the files under a data root."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from denoise.errors import ManifestError, nearest
from denoise.shipped_files import shipped_folder


class Manifest(BaseModel):
    """What a dataset is, whose it is and where it lies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Kebab-case; the name of the file."""
    title: str
    """One line for people."""
    licence: str
    """Terms of the images."""
    origin: str
    """Where the public can get it."""
    folder: str
    """Path under the data root."""
    pattern: str = "*"
    """Glob of its files within the folder."""
    count: int
    """Number of files."""
    use: str
    """"train", "validation" or "test"."""


def list_manifests() -> list[str]:
    """Return the names of all datasets that are described."""
    return sorted(path.stem for path in shipped_folder("data_manifests").glob("*.toml"))


def load_manifest(name: str) -> Manifest:
    """Read one description.

    Raises
    ------
    ManifestError
        If there is none of that name, or it is not valid.
    """
    path = shipped_folder("data_manifests") / f"{name}.toml"
    if not path.is_file():
        raise ManifestError(f"Dataset '{name}' is not described. {nearest(name, list_manifests())}")
    try:
        return Manifest.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise ManifestError(f"{path.name} is not a valid manifest: {error}") from error


def data_root(given: Path | None = None) -> Path:
    """Return the folder that holds the datasets: the one given, else ``DENOISE_DATA``, else ``data``."""
    return given or Path(os.environ.get("DENOISE_DATA", "data"))


def find_files(name: str, root: Path) -> list[Path]:
    """Return the files of a dataset under ``root``, in order of name.

    Raises
    ------
    ManifestError
        If the folder is not there or holds another number of files than the manifest says.
    """
    manifest = load_manifest(name)
    folder = root / manifest.folder
    files = sorted(folder.glob(manifest.pattern)) if folder.is_dir() else []
    if len(files) != manifest.count:
        raise ManifestError(
            f"Dataset '{name}' should be {manifest.count} files '{manifest.pattern}' in {folder}, but {len(files)} "
            f"were found. Get it from {manifest.origin} and pass --data-root (or set DENOISE_DATA)."
        )
    return files
