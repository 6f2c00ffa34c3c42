"""ENVI: a plain binary file and a text header beside it; BSQ, BIL and BIP, every real type, both byte orders.

The header's keys are kept as they were written, whether they are known or not.

References
----------
.. [1] L3Harris, ENVI Header Files (documentation of the format).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from denoise.cubes.cube import CubeMetadata, HyperspectralCube
from denoise.cubes.pixels import AXES, FilePixels, hold_if_small
from denoise.errors import FileFormatError
from denoise.io.bands import finish_cube, refuse_one_band, to_nanometres, widths_to_nanometres
from denoise.io.envi_header import (
    DATA_TYPES,
    EnviHeader,
    Structure,
    read_header,
    read_structure,
)
from denoise.io.envi_map import parse_map
from denoise.io.envi_writer import BETWEEN, HISTORY
from denoise.io.plausibility import can_tell, is_torn, roughness, sample_window, sensible_share

ENVI_DATA_SUFFIXES: Final = (".img", ".bsq", ".bil", ".bip", ".dat")
"""Suffixes of a data file that may be named instead of its header."""

_OTHER_DATA_SUFFIXES: Final = (".raw", ".bin", ".cube", "")
_LOG = logging.getLogger(__name__)


def read_envi(path: Path) -> HyperspectralCube:
    """Read an ENVI cube by its header, or by its data file.

    A cube larger than 256 MiB stays in its file and is looked at by windows.

    Raises
    ------
    FileFormatError
        If header or data file is missing, they disagree, or the values show that the header is wrong.
    UnsupportedInputError
        If the values are complex, or there is one band only.
    """
    header_path = path if path.suffix.lower() == ".hdr" else find_header(path)
    if header_path is None:
        raise _without_header(path)
    header = read_header(header_path)
    data = path if path.suffix.lower() != ".hdr" else _find_data(header)
    found = data.stat().st_size
    structure = read_structure(header, found)
    refuse_one_band(header_path, structure.shape)
    if found == 0:
        raise FileFormatError(f"{data} is empty (0 bytes), but {header.name} describes a cube. Copy it again.")
    if found != structure.size_bytes:
        raise _wrong_size(header, structure, data, found)
    big_endian = _byte_order(header, structure, data)
    pixels = FilePixels(
        data, structure.shape, structure.dtype(big_endian), AXES[structure.interleave], structure.offset_bytes
    )
    _check_interleave(header, structure, pixels)
    return finish_cube(_describe(header, structure, data, big_endian, pixels), header_path)


def find_header(data: Path) -> Path | None:
    """Return the ENVI header beside a data file, ``name.hdr`` or ``name.img.hdr``; None if there is none."""
    names = [data.with_name(data.name + ending) for ending in (".hdr", ".HDR")]
    if data.suffix:
        names += [data.with_suffix(ending) for ending in (".hdr", ".HDR")]
    for name in names:
        if name.is_file():
            with name.open("rb") as stream:
                if stream.read(8).lstrip(b"\xef\xbb\xbf").upper().startswith(b"ENVI"):
                    return name
    return None


def _find_data(header: EnviHeader) -> Path:
    path, stem = header.path, header.path.with_suffix("")
    suffixes = [*ENVI_DATA_SUFFIXES, *_OTHER_DATA_SUFFIXES]
    names = [
        stem.with_name(stem.name + spelled)
        for suffix in suffixes
        for spelled in dict.fromkeys((suffix, suffix.upper()))
    ]
    found = [name for name in names if name.is_file() and name != path]
    if not found:
        raise FileFormatError(
            f"{path} is an ENVI header, but no data file stands beside it: looked for {stem.name} with "
            f"{', '.join(suffixes[:-1])} or no suffix. Put it there, or name the data file itself."
        )
    structure = read_structure(header, found[0].stat().st_size)
    return next((name for name in found if name.stat().st_size == structure.size_bytes), found[0])


def _without_header(path: Path) -> FileFormatError:
    if not path.exists():
        return FileFormatError(f"Cannot read {path}: there is no such file. Check the path.")
    if path.is_file() and path.stat().st_size == 0:
        return FileFormatError(f"{path} is empty (0 bytes). Copy it again from its source.")
    return FileFormatError(
        f"{path} was given as the data of an ENVI cube, but there is neither {path.stem}.hdr nor {path.name}.hdr "
        "beside it. Copy the header too."
    )


def _wrong_size(header: EnviHeader, structure: Structure, data: Path, found: int) -> FileFormatError:
    bands, lines, samples = structure.shape
    line_bytes = (structure.size_bytes - structure.offset_bytes) // lines
    what = f"{samples} samples x {lines} lines x {bands} bands of {np.dtype(DATA_TYPES[structure.code])}"
    if found < structure.size_bytes:
        rest = f"enough for {max(0, found - structure.offset_bytes) / line_bytes:.1f} lines. Copy it again, or mend it"
    else:
        rest = (
            f"{found - structure.size_bytes} too many. Mend 'samples', 'lines', 'bands', 'data type' or 'header offset'"
        )
    return FileFormatError(
        f"{header.name} and {data.name} disagree: {what} with an offset of {structure.offset_bytes} make "
        f"{structure.size_bytes} bytes, but the file has {found}, {rest} in the header."
    )


def _byte_order(header: EnviHeader, structure: Structure, data: Path) -> bool:
    """Return whether values are big endian; where the header does not say, by which reading is the smoother one."""
    if np.dtype(DATA_TYPES[structure.code]).itemsize == 1:
        return bool(structure.big_endian)
    rough, sensible = [], []
    for big in (False, True):
        dtype = structure.dtype(big)
        pixels = FilePixels(data, structure.shape, dtype, AXES[structure.interleave], structure.offset_bytes)
        part = pixels.read(*sample_window(structure.shape))
        rough.append(roughness(part))
        sensible.append(sensible_share(part) if dtype.kind == "f" else 1.0)
    stated = structure.big_endian
    names = ("0 (little endian)", "1 (big endian)")
    if stated is None:
        chosen = is_torn(rough[0], rough[1:]) if sensible[0] == sensible[1] else sensible[1] > sensible[0]
        _LOG.warning("%s lacks 'byte order'; its values fit %s, which was taken.", header.name, names[chosen])
        return bool(chosen)
    wild = sensible[stated] < 0.5 and sensible[not stated] > 0.95
    if wild or (can_tell(structure.shape) and is_torn(rough[stated], [rough[not stated]]) and min(sensible) > 0.5):
        raise FileFormatError(
            f"{header.name} says byte order {names[stated]}, but so read, the values of neighbouring pixels have "
            f"nothing to do with each other; with {names[not stated]} they do. Mend 'byte order' in the header."
        )
    return stated


def _check_interleave(header: EnviHeader, structure: Structure, pixels: FilePixels) -> None:
    if not can_tell(structure.shape):
        return
    window = sample_window(structure.shape)
    rough = {}
    for interleave, axes in AXES.items():
        other = FilePixels(pixels.file, pixels.shape, pixels.file_dtype, axes, pixels.offset_bytes)
        rough[interleave] = roughness(other.read(*window))
    stated = rough.pop(structure.interleave)
    if is_torn(stated, rough.values()):
        better = min(rough, key=lambda name: rough[name])
        raise FileFormatError(
            f"{header.name} says interleave {structure.interleave}, but so read, neighbouring values have little to do "
            f"with each other; as {better} they do. Mend 'interleave' (or samples, lines, bands) in the header."
        )


def _describe(
    header: EnviHeader, structure: Structure, data: Path, big_endian: bool, pixels: FilePixels
) -> HyperspectralCube:
    bands = structure.shape[0]
    wavelengths = header.numbers("wavelength", bands)
    fwhm = header.numbers("fwhm", bands)
    units = header.entries.get("wavelength units", "")
    bad = header.numbers("bbl", bands)
    scale, offset, quantity = _scale(header, bands)
    names = header.words("band names")
    history = header.entries.get(HISTORY, "")
    cube = HyperspectralCube(
        hold_if_small(pixels),
        wavelengths_nm=None if wavelengths is None else to_nanometres(wavelengths, units),
        fwhm_nm=None if fwhm is None or wavelengths is None else widths_to_nanometres(fwhm, wavelengths, units),
        good_bands=None if bad is None else bad != 0,
        nodata=header.number("data ignore value"),
        quantity=quantity,
        scale=scale,
        offset=offset,
        band_names=names if len(names) == bands else (),
        acquired=header.entries.get("acquisition time", ""),
        georeference=parse_map(header),
        history=tuple(history.split(BETWEEN)) if history else (),
    )
    entries: dict[str, Any] = {
        "written": header.written,
        "interleave": structure.interleave,
        "big_endian": big_endian,
        "suffix": data.name.removeprefix(header.path.stem) if data.name.startswith(header.path.stem) else data.suffix,
        "data": data,
        "parsed": {"wavelength": cube.wavelengths_nm, "fwhm": cube.fwhm_nm, "bbl": cube.good_bands,
                   "band names": cube.band_names, "data ignore value": cube.nodata},
    }  # fmt: skip
    return replace(cube, metadata=CubeMetadata(header.path, "envi", entries))


def _scale(header: EnviHeader, bands: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Return scale, offset and quantity: the values stay as stored, so that nothing is scaled twice."""
    factor = header.number("reflectance scale factor")
    quantity = header.entries.get("data units", "")
    if factor is not None:
        if not factor > 0:
            raise FileFormatError(f"{header.name} says reflectance scale factor {factor:g}, which must lie above 0.")
        return np.array([1 / factor]), np.zeros(1), quantity or "reflectance"
    gain, zero = header.numbers("data gain values", bands), header.numbers("data offset values", bands)
    if gain is not None and not np.all(gain > 0):
        raise FileFormatError(f"{header.name} has 'data gain values' that are not above 0. Mend or remove them.")
    return np.ones(1) if gain is None else gain, np.zeros(1) if zero is None else zero, quantity
