"""Writing ENVI: the values as the source had them, the header as it was written, what changed spelled anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from denoise.cubes.cube import HyperspectralCube
from denoise.cubes.pixels import AXES, Interleave, write_binary
from denoise.errors import FileFormatError, UnsupportedInputError
from denoise.io.envi_header import DATA_TYPES, format_header, format_list, plain_key
from denoise.io.envi_map import format_map
from denoise.io.files import atomic_target

HISTORY: Final = "denoise history"
BETWEEN: Final = " | "


def write_envi(path: Path, cube: HyperspectralCube) -> None:
    """Write a cube as ENVI: ``path`` is the header or the data file, the other one stands beside it.

    Interleave, byte order, type, and every key of an ENVI source are kept.

    Raises
    ------
    FileFormatError
        If a file cannot be written, or would replace the source or a file of another kind.
    """
    entries = cube.metadata.entries if cube.metadata.format == "envi" else {}
    suffix = str(entries.get("suffix", ".img"))
    header, data = (
        (path, path.with_suffix(suffix)) if path.suffix.lower() == ".hdr" else (path.with_suffix(".hdr"), path)
    )
    if data == header:
        data = path.with_suffix(".img")
    for target in (header, data):
        if any(target.exists() and source.exists() and target.samefile(source) for source in _sources(cube)):
            raise FileFormatError(f"Cannot write {target}: it is the file that the cube comes from. Name another one.")
    if data.exists() and not header.exists():
        raise FileFormatError(
            f"Cannot write {header}: {data.name} is already there, and is not the data file of such a header. "
            "Choose another name."
        )
    interleave = cast(Interleave, entries.get("interleave", "bsq"))
    big_endian = bool(entries.get("big_endian", False))
    with atomic_target(data) as data_target, atomic_target(header) as header_target:
        with data_target.open("wb") as stream:
            write_binary(stream, cube.stored, _file_dtype(cube, big_endian), AXES[interleave])
        header_target.write_text(format_header(_entries(cube, interleave, big_endian)), "utf-8")


def _file_dtype(cube: HyperspectralCube, big_endian: bool) -> np.dtype[Any]:
    dtype = cube.stored.dtype
    if all(np.dtype(name) != dtype for name in DATA_TYPES.values()):
        raise UnsupportedInputError(
            f"ENVI has no data type for {dtype} values. Choose --format npy, or convert the cube first."
        )
    return dtype.newbyteorder(">" if big_endian else "<")


def _entries(cube: HyperspectralCube, interleave: Interleave, big_endian: bool) -> list[tuple[str, str]]:
    """Return the header's entries: those of an ENVI source as they were written, what changed spelled anew."""
    bands, height, width = cube.shape
    code = next(code for code, name in DATA_TYPES.items() if np.dtype(name) == cube.stored.dtype)
    structure = {
        "samples": str(width), "lines": str(height), "bands": str(bands), "header offset": "0",
        "file type": "ENVI Standard", "data type": str(code), "interleave": interleave,
        "byte order": str(int(big_endian)),
    }  # fmt: skip
    known = dict(_known(cube))
    if cube.metadata.format != "envi":
        # The structure stands last, so that a header that was cut short is noticed.
        return [("description", "{Written by denoise}"), *known.items(), *structure.items()]
    parsed = cube.metadata.entries["parsed"]
    changed = {key for key, was in parsed.items() if not _same(was, _now(cube, key))}
    if changed & {"wavelength", "fwhm"}:
        changed |= {"wavelength", "wavelength units", "fwhm"}
    result = []
    for key, value in cube.metadata.entries["written"]:
        plain = plain_key(key)
        if plain in structure and plain != "file type":
            result.append((key, structure.pop(plain)))
        elif plain in changed:
            if plain in known:
                result.append((key, known[plain]))
        elif plain != HISTORY:
            result.append((key, value))
            structure.pop(plain, None)
    written = {plain_key(key) for key, _ in result}
    added = [(key, known[key]) for key in known if key not in written and (key in changed or key == HISTORY)]
    return [*result, *structure.items(), *added]


def _known(cube: HyperspectralCube) -> Iterator[tuple[str, str]]:
    if cube.wavelengths_nm is not None:
        yield "wavelength units", "Nanometers"
        yield "wavelength", format_list(list(cube.wavelengths_nm))
    if cube.fwhm_nm is not None:
        yield "fwhm", format_list(list(cube.fwhm_nm))
    if cube.good_bands is not None:
        yield "bbl", format_list([str(int(good)) for good in cube.good_bands])
    if cube.band_names:
        yield "band names", format_list([name.replace(",", ";") for name in cube.band_names])
    if cube.nodata is not None:
        yield "data ignore value", f"{cube.nodata:.17g}"
    if cube.acquired:
        yield "acquisition time", cube.acquired
    if np.any(cube.scale != 1) or np.any(cube.offset):
        bands = cube.shape[0]
        yield "data gain values", format_list(list(np.broadcast_to(cube.scale, bands)))
        yield "data offset values", format_list(list(np.broadcast_to(cube.offset, bands)))
    if cube.quantity:
        yield "data units", cube.quantity
    if cube.georeference is not None:
        yield from format_map(cube.georeference)
    if cube.history:
        yield HISTORY, "{" + BETWEEN.join(line.replace("{", "(").replace("}", ")") for line in cube.history) + "}"


def _now(cube: HyperspectralCube, key: str) -> Any:
    return {"wavelength": cube.wavelengths_nm, "fwhm": cube.fwhm_nm, "bbl": cube.good_bands,
            "band names": cube.band_names, "data ignore value": cube.nodata}[key]  # fmt: skip


def _same(was: Any, now: Any) -> bool:
    if isinstance(was, np.ndarray) or isinstance(now, np.ndarray):
        return was is not None and now is not None and np.array_equal(was, now)
    return was == now or (was is not None and now is not None and was != was and now != now)


def _sources(cube: HyperspectralCube) -> list[Path]:
    source, data = cube.metadata.source, cube.metadata.entries.get("data")
    return [path for path in (source, data) if path is not None]
