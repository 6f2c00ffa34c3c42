"""Frames of a sensor, grouped by how they were taken, read one at a time.

The reading itself is injected: a `FrameReader` knows files, this module knows what belongs together.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np

from noise_models.base import CalibrationError
from noise_models.calibration.frame import Frame, FrameInfo, FrameReader
from noise_models.calibration.regions import Region, cut

__all__ = ["Frame", "FrameFile", "FrameInfo", "FrameReader", "FrameStack", "from_csv", "group"]

Kind = Literal["dark", "flat"]

_SAME_EXPOSURE: Final = 1e-3  # relative; cameras write 1/60 s as 0.0166 or 0.016667


@dataclass(frozen=True)
class FrameFile:
    """One file of a calibration, with what is known of it beside the file itself."""

    path: Path
    """Where it lies."""
    kind: Kind
    """Taken with the lens capped, or of an even light."""
    iso: float | None = None
    """Overrides the file's own [ISO]."""
    exposure_s: float | None = None
    """Overrides the file's own [s]."""
    photons_per_pixel: float | None = None
    """Light that fell on each pixel, where it was metered [1]."""


@dataclass(frozen=True, eq=False)
class FrameStack:
    """Repeated exposures of one kind: same ISO, same time, same light. Iterating reads one frame at a time."""

    kind: Kind
    """Dark or flat."""
    iso: float
    """Sensitivity [ISO]."""
    exposure_s: float
    """Exposure time [s]."""
    photons_per_pixel: float | None
    """Metered light [1]."""
    paths: tuple[Path, ...]
    """Files, in the order of their names."""
    info: FrameInfo
    """Of the first frame, within the region."""
    reader: FrameReader
    """Reads a file."""
    region: Region | None = None
    """Part of the sensor that is used; None for all of it."""
    temperatures_c: tuple[float, ...] = ()
    """Of the frames that state one [degrees C]."""

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Frame]:
        with ThreadPoolExecutor(1) as ahead:  # decodes the next frame while this one is used
            coming = [ahead.submit(self.read, self.paths[0])]
            for following in (*self.paths[1:], None):
                frame = coming.pop().result()
                if following is not None:
                    coming.append(ahead.submit(self.read, following))
                yield frame

    def read(self, path: Path) -> Frame:
        """Read one frame of the stack, cut to the region, and check that it is one.

        Raises
        ------
        CalibrationError
            If its size differs, a value is not finite, or all values of a dark frame are the same.
        """
        frame = cut(self.reader.read(path), self.region)
        mosaic = frame.mosaic
        if mosaic.shape != self.info.shape:
            raise CalibrationError(
                f"{path} measures {mosaic.shape[1]}x{mosaic.shape[0]} pixels, but the first frame "
                f"{self.info.shape[1]}x{self.info.shape[0]}. Calibrate with frames of one camera in one mode."
            )
        if mosaic.dtype.kind == "f" and not np.isfinite(mosaic).all():
            raise CalibrationError(
                f"{path} holds values that are not finite (NaN or infinity), but frames are counts of a converter. "
                "Give the files as the camera wrote them."
            )
        if self.kind == "dark" and mosaic.min() == mosaic.max():
            raise CalibrationError(
                f"{path} holds the same value {float(mosaic.flat[0]):g} DN everywhere, but every sensor is noisy. "
                "Give RAW files without noise reduction, taken with the lens capped."
            )
        return frame


def from_csv(path: Path) -> list[FrameFile]:
    """Read a table of frames.

    Parameters
    ----------
    path : path
        CSV with the columns file, kind (dark or flat), exposure_s or exposure_ns, and if wanted iso and
        photons_per_pixel. Files are relative to the table.

    Returns
    -------
    list of FrameFile
        In the table's order.

    Raises
    ------
    CalibrationError
        If the table cannot be read, a column is missing or unknown, or a value is not what it should be.
    """
    known = {"file", "kind", "exposure_s", "exposure_ns", "iso", "photons_per_pixel"}
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream)
            columns = {name.strip() for name in rows.fieldnames or ()}
            if not {"file", "kind"} <= columns or not columns & {"exposure_s", "exposure_ns"} or columns - known:
                raise CalibrationError(
                    f"{path} has the columns {sorted(columns)}, but needs file, kind and exposure_s or exposure_ns, "
                    "and may have iso and photons_per_pixel. Correct its first line."
                )
            frames = [_from_row(path, number, row) for number, row in enumerate(rows, start=2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CalibrationError(f"The table of frames {path} cannot be read: {error}. Give a CSV file.") from error
    if not frames:
        raise CalibrationError(f"The table of frames {path} names no file. Add one line for each frame.")
    return frames


def _from_row(path: Path, number: int, row: dict[str, str]) -> FrameFile:
    values = {str(key).strip(): (text or "").strip() for key, text in row.items() if isinstance(text, str | None)}

    def figure(column: str) -> float | None:
        text = values.get(column, "")
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise CalibrationError(f"{path}, line {number}: {column} is '{text}', but should be a number from 0 up.")
        return value

    if values.get("kind") not in ("dark", "flat"):
        raise CalibrationError(f"{path}, line {number}: kind is '{values.get('kind')}', but should be dark or flat.")
    exposure_ns = figure("exposure_ns")
    return FrameFile(
        path=path.parent / values["file"],
        kind="dark" if values["kind"] == "dark" else "flat",
        iso=figure("iso"),
        exposure_s=exposure_ns * 1e-9 if exposure_ns is not None else figure("exposure_s"),
        photons_per_pixel=figure("photons_per_pixel"),
    )


def group(
    files: Iterable[FrameFile],
    reader: FrameReader,
    *,
    region: Region | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[FrameStack]:
    """Group files into stacks by kind, ISO, exposure and light.

    Parameters
    ----------
    files : iterable of FrameFile
        Dark and flat frames of one camera.
    reader : FrameReader
        Knows the files' formats.
    region : Region, optional
        Part of the sensor to use.
    progress : callable, optional
        Told what is being done.

    Returns
    -------
    list of FrameStack
        Sorted by kind, ISO, exposure, light.

    Raises
    ------
    CalibrationError
        If there is no frame, or frames of several cameras, sizes, or colour patterns.
    """
    stacks: dict[tuple[str, float, int, float], list[tuple[FrameFile, FrameInfo]]] = {}
    first: tuple[Path, FrameInfo] | None = None
    for file in files:
        info = reader.describe(file.path)
        first = first or (file.path, info)
        _same_camera(first, (file.path, info))
        iso = _first_known(file.iso, info.iso, 100.0)
        exposure_s = _first_known(file.exposure_s, info.exposure_s, 0.0)
        photons = file.photons_per_pixel if file.photons_per_pixel is not None else -1.0
        bucket = round(math.log(exposure_s) / (2 * _SAME_EXPOSURE)) if exposure_s > 0 else -(10**9)
        key = (file.kind, iso, bucket, photons)
        stacks.setdefault(key, []).append((file, replace(info, iso=iso, exposure_s=exposure_s)))
        if progress and sum(len(members) for members in stacks.values()) % 50 == 0:
            progress(f"looked at {sum(len(members) for members in stacks.values())} files")
    if not stacks:
        raise CalibrationError("No frame was given. Give dark frames (--darks) and, better, flat frames (--flats).")
    return [_stack(stacks[key], reader, region) for key in sorted(stacks)]


def _stack(members: Sequence[tuple[FrameFile, FrameInfo]], reader: FrameReader, region: Region | None) -> FrameStack:
    file, info = members[0]
    if region is not None:
        info = region.describe(info, file.path)
    return FrameStack(
        kind=file.kind,
        iso=float(info.iso or 100.0),
        exposure_s=float(info.exposure_s or 0.0),
        photons_per_pixel=file.photons_per_pixel,
        paths=tuple(sorted(member.path for member, _ in members)),
        info=info,
        reader=reader,
        region=region,
        temperatures_c=tuple(float(item.temperature_c) for _, item in members if item.temperature_c is not None),
    )


def _first_known(*values: float | None) -> float:
    return next(float(value) for value in values if value is not None)


def _same_camera(first: tuple[Path, FrameInfo], other: tuple[Path, FrameInfo]) -> None:
    (first_path, one), (path, two) = first, other
    for word, left, right in (
        ("camera", f"{one.make} {one.model}".strip(), f"{two.make} {two.model}".strip()),
        ("camera body", one.serial, two.serial),
        ("size", f"{one.shape[1]}x{one.shape[0]}", f"{two.shape[1]}x{two.shape[0]}"),
        ("colour filter pattern", one.cfa, two.cfa),
    ):
        if left != right:
            raise CalibrationError(
                f"{path} has the {word} '{right}', but {first_path} has '{left}'. "
                "A calibration describes one camera in one mode: give its frames alone."
            )
