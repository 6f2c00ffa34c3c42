"""What never changes between frames of one sensor: dark shading, unequal pixels, hot and dead ones."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from noise_models.base import ProfileError

_KEYS: Final = ("dark_shading_dn", "dark_shading_dn_per_iso", "prnu", "hot", "dead")
_CHUNK_BYTES: Final = 2**24
_LEVEL: Final = 1
"""Of the compression: the maps are mostly noise, and more effort makes them no smaller."""


@contextmanager
def maps_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a new ``.npz`` file of maps; after it was filled it is there whole, after an error not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
            yield archive
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def map_in(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], kind: npt.DTypeLike
) -> Iterator[Callable[[npt.NDArray[Any]], None]]:
    """Begin a map in an archive; yield what writes its next part, so that it needs never be whole in memory.

    Parameters
    ----------
    archive : ZipFile
        From `maps_archive`.
    name : str
        A field of `FixedPattern`.
    shape : tuple of int
        Of the whole map; its parts follow each other along the first axis.
    kind : dtype
        Of its values.
    """
    with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(kind)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)

        def put(part: npt.NDArray[Any]) -> None:
            content = np.ascontiguousarray(part, kind).reshape(-1).view(np.uint8)
            for begin in range(0, len(content), _CHUNK_BYTES):
                stream.write(content[begin : begin + _CHUNK_BYTES].tobytes())

        yield put


@dataclass(frozen=True, eq=False)
class FixedPattern:
    """Maps of one sensor, each as large as its mosaic.

    Raises
    ------
    ProfileError
        If the maps differ in size or hold values that are not finite.

    Notes
    -----
    shading(iso) = dark_shading_dn[mode] + dark_shading_dn_per_iso[mode] * iso                                    (1)
    """

    dark_shading_dn: npt.NDArray[np.float32]
    """Mean dark frame above the mean black, (M, H, W) for M gain modes [DN]."""
    prnu: npt.NDArray[np.float32]
    """Response of each pixel to light minus 1, (H, W) [1]."""
    hot: npt.NDArray[np.bool_]
    """Pixels whose dark signal stands out, (H, W)."""
    dead: npt.NDArray[np.bool_]
    """Pixels that do not answer to light, (H, W)."""
    dark_shading_dn_per_iso: npt.NDArray[np.float32] | None = None
    """Growth of the shading with ISO, (M, H, W) [DN/ISO]; None where it does not grow."""

    def __post_init__(self) -> None:
        shading = np.asarray(self.dark_shading_dn, np.float32)
        shading = shading[None] if shading.ndim == 2 else shading
        slope = self.dark_shading_dn_per_iso
        if slope is not None:
            slope = np.asarray(slope, np.float32)
            slope = slope[None] if slope.ndim == 2 else slope
        size = shading.shape[-2:]
        named = {"prnu": self.prnu, "hot": self.hot, "dead": self.dead}
        wrong = {name: np.shape(values) for name, values in named.items() if np.shape(values) != size}
        if slope is not None and slope.shape != shading.shape:
            wrong["dark_shading_dn_per_iso"] = slope.shape
        if wrong:
            raise ProfileError(
                f"A fixed pattern has a dark shading of shape {shading.shape}, but {wrong}. "
                "Every map is as large as the sensor: calibrate again from frames of one size."
            )
        finite = (
            np.isfinite(shading).all() and np.isfinite(self.prnu).all() and (slope is None or np.isfinite(slope).all())
        )
        if not finite:
            raise ProfileError("A fixed pattern holds values that are not finite. Calibrate the camera again.")
        object.__setattr__(self, "dark_shading_dn", shading)
        object.__setattr__(self, "dark_shading_dn_per_iso", slope)
        object.__setattr__(self, "prnu", np.asarray(self.prnu, np.float32))
        object.__setattr__(self, "hot", np.asarray(self.hot, bool))
        object.__setattr__(self, "dead", np.asarray(self.dead, bool))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the sensor [px]."""
        return self.prnu.shape[0], self.prnu.shape[1]

    def shading_dn(
        self, iso: float, mode: int, window: tuple[slice, slice] = (slice(None), slice(None))
    ) -> npt.NDArray[np.float32]:
        """Return the dark shading (H, W) float32 [DN] at this ISO, in the gain mode with this number."""
        index = (min(mode, self.dark_shading_dn.shape[0] - 1), *window)
        if self.dark_shading_dn_per_iso is None:
            return self.dark_shading_dn[index]
        growth = self.dark_shading_dn_per_iso[index] * np.float32(iso)
        return (self.dark_shading_dn[index] + growth).astype(np.float32)  # (1)

    def save(self, path: Path) -> None:
        """Write a ``.npz`` file whole or not at all."""
        with maps_archive(path) as archive:
            for key in _KEYS:
                values = getattr(self, key)
                if values is not None:
                    with map_in(archive, key, values.shape, values.dtype) as put:
                        put(values)

    @classmethod
    def load(cls, path: Path, *, mode: int | None = None) -> FixedPattern:
        """Read a ``.npz`` file.

        Parameters
        ----------
        path : path
            As `save` wrote it.
        mode : int, optional
            Read the dark shading of this gain mode alone and no response to light: what a photograph of one ISO needs,
            in less than half the memory. `shading_dn` is then that of this mode.

        Raises
        ------
        ProfileError
            If it is not there, not readable, or lacks a map.
        """
        try:
            with np.load(path, allow_pickle=False) as maps:
                missing = [key for key in _KEYS if key not in maps.files and key != "dark_shading_dn_per_iso"]
                unknown = [key for key in maps.files if key not in _KEYS]
                values = {}
                for key in maps.files if not missing + unknown else ():
                    if mode is None or key in ("hot", "dead"):
                        values[key] = maps[key]
                    elif key != "prnu":
                        values[key] = _one_mode(maps.zip, key, mode)
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise ProfileError(
                f"The fixed pattern {path} cannot be read: {error}. "
                "Keep the .npz beside its profile, or calibrate again."
            ) from error
        if missing or unknown:
            raise ProfileError(
                f"The fixed pattern {path} lacks {missing} and holds the unknown {unknown}, but needs {list(_KEYS)}. "
                "Calibrate the camera again."
            )
        if mode is not None:
            values["prnu"] = np.broadcast_to(np.float32(0.0), values["hot"].shape)
        return cls(**values)


def _one_mode(archive: zipfile.ZipFile, name: str, mode: int) -> npt.NDArray[np.float32]:
    """Read one of the first axis of a map (M, H, W), the last where there are fewer: (1, H, W)."""
    with archive.open(f"{name}.npy") as stream:
        np.lib.format.read_magic(stream)
        shape, _, kind = np.lib.format.read_array_header_1_0(stream)
        size = math.prod(shape[1:]) * kind.itemsize
        stream.seek(min(mode, shape[0] - 1) * size, os.SEEK_CUR)
        return np.frombuffer(stream.read(size), kind).reshape(1, *shape[1:])
