"""EXIF, XMP, lens and maker notes: copied whole by exiftool where it is installed, else the core of them by us."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import struct
import subprocess
import threading
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from denoise.images import RawImage

_COPY: Final = (
    "-ExifIFD:all",
    "-GPS:all",
    "-InteropIFD:all",
    "-IPTC:all",
    "-XMP:all",
    "--XMP-xmpMM:History",
    "--XMP-tiff:all",
    "-MakerNotes",
    *(f"-IFD0:{name}" for name in ("Make", "Model", "Artist", "Copyright", "ImageDescription", "ModifyDate")),
    *(f"-EXIF:{name}" for name in ("ExposureTime", "FNumber", "ISO", "FocalLength", "DateTimeOriginal", "CreateDate")),
    *(f"-EXIF:{name}" for name in ("LensModel", "LensInfo", "LensMake", "Flash", "ExposureProgram", "MeteringMode")),
)
"""What exiftool takes from the source; never what describes the pixels, which the written file says itself."""
EXIF_POINTER: Final = 34665

Tag = tuple[int, int, int, bytes]
"""Code, TIFF type, count, and the value, little endian."""
Entries = Sequence[Tag]
"""Of a directory, sorted by code."""


class ExifTool:
    """One exiftool process that copies tags for many files; use it as a context manager.

    The process starts with the first file, or with `start`, since Perl takes its time. Nothing here raises when
    exiftool is absent or dies: `copy` says why it could not.

    Parameters
    ----------
    program : str, optional
        Name or path of the program.
    timeout_s : float, optional
        After which a silent process is given up [s].
    """

    def __init__(self, program: str = "exiftool", timeout_s: float = 60.0) -> None:
        self._program = program
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def available(self) -> bool:
        """Whether the program is installed."""
        return shutil.which(self._program) is not None

    def start(self) -> bool:
        """Start the process if it is not running; return whether it runs now."""
        if self._process is not None and self._process.poll() is None:
            return True
        self.close()
        program = shutil.which(self._program)
        if program is None:
            return False
        try:
            self._process = subprocess.Popen(
                [program, "-stay_open", "True", "-@", "-"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError:
            return False
        return True

    def copy(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        output: str | os.PathLike[str] | None = None,
    ) -> str:
        """Copy what the source says of the exposure, place, lens and maker into a written file.

        Parameters
        ----------
        source, target : path
            The camera's file, and the file to complete.
        output : path, optional
            A file, not there yet, for the completed one; the target is completed in place without it.

        Returns
        -------
        str
            Empty if it is done, else the reason why not, for a warning.
        """
        names = [os.fsencode(Path(path).absolute()) for path in (source, target, output or target)]
        if any(mark in name for name in names for mark in (b"\n", b"\r")):
            return "a file name holds a line break"
        if not self.start():
            return "exiftool is not installed"
        arguments = [b"-charset", b"filename=utf8", b"-m", b"-TagsFromFile", names[0]]
        arguments += [argument.encode() for argument in _COPY]
        arguments += [b"-overwrite_original"] if output is None else [b"-o", names[2]]
        try:
            answer = self._ask([*arguments, names[1]])
        except OSError as error:
            self.close()
            return f"exiftool died ({error.strerror or error})"
        if any(f"1 image files {done}" in answer for done in ("updated", "unchanged", "created", "copied")):
            return ""
        lines = [line for line in answer.splitlines() if line.startswith("Error")] or answer.splitlines()
        return f"exiftool says: {lines[0].strip()}" if lines else "exiftool died"

    def _ask(self, arguments: list[bytes]) -> str:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise BrokenPipeError("not running")
        watchdog = threading.Timer(self._timeout_s, _kill, (process,))
        watchdog.daemon = True
        watchdog.start()
        try:
            process.stdin.write(b"\n".join([*arguments, b"-execute", b""]))
            process.stdin.flush()
            answer: list[bytes] = []
            while True:
                line = process.stdout.readline()
                if not line:
                    raise BrokenPipeError("it ended without an answer")
                if line.startswith(b"{ready"):
                    return b"".join(answer).decode("utf-8", "replace")
                answer.append(line)
        finally:
            watchdog.cancel()

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
            process.communicate(b"-stay_open\nFalse\n", timeout=10)
        if process.poll() is None:
            _kill(process)
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and what it started, which could hold its pipes open."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def core_exif(image: RawImage) -> list[Tag]:
    """Return the entries of an EXIF IFD that the image itself knows, sorted by code."""
    settings, metadata = image.settings, image.metadata
    entries: list[Tag] = [(36864, 7, 4, b"0231")]
    if settings is not None and settings.exposure_s > 0:
        entries.append((33434, 5, 1, _fraction(settings.exposure_s)))
    if metadata.aperture:
        entries.append((33437, 5, 1, _fraction(metadata.aperture)))
    if metadata.focal_length_mm:
        entries.append((37386, 5, 1, _fraction(metadata.focal_length_mm)))
    if settings is not None and settings.iso > 0:
        iso = round(settings.iso)
        entries.append((34855, 3, 1, struct.pack("<H", min(iso, 65535))))
        if iso > 65535:
            entries += [(34864, 3, 1, struct.pack("<H", 2)), (34866, 4, 1, struct.pack("<I", iso))]
    if metadata.date_time:
        text = metadata.date_time.encode("ascii", "replace") + b"\x00"
        entries += [(36867, 2, len(text), text), (36868, 2, len(text), text)]
    return sorted(entries)


def _fraction(value: float) -> bytes:
    """Return an EXIF RATIONAL; short exposures as one over a whole number, as photographers write them."""
    inverse = round(1 / value) if 0 < value < 0.5 else 0
    if inverse and abs(inverse * value - 1) < 1e-3:
        return struct.pack("<II", 1, inverse)
    fraction = Fraction(value).limit_denominator(100000)
    return struct.pack("<II", min(fraction.numerator, 0xFFFFFFFF), fraction.denominator)


def append_exif_ifd(path: Path, entries: Entries) -> None:
    """Give a little-endian TIFF an EXIF IFD, which tifffile writes none of."""
    append_ifds(path, {EXIF_POINTER: entries})


def append_ifds(path: Path, directories: Mapping[int, Entries]) -> None:
    """Give a little-endian TIFF, no BigTIFF, directories that tifffile writes none of: EXIF, GPS, by their pointer.

    They come to the file's end, and behind them the first IFD once more, with the pointers to them.
    """
    with path.open("r+b") as file:
        file.seek(4)
        (first,) = struct.unpack("<I", file.read(4))
        file.seek(first)
        (count,) = struct.unpack("<H", file.read(2))
        records = [file.read(12) for _ in range(count)]
        following = file.read(4)
        start = file.seek(0, os.SEEK_END)
        start += start % 2
        # Pointers to SubIFDs as LONG: the newer type IFD, which tifffile writes, is not known everywhere.
        records = [
            record[:2] + struct.pack("<H", 4) + record[4:] if record[2:4] == b"\x0d\x00" else record
            for record in records
            if struct.unpack("<H", record[:2])[0] not in directories
        ]
        file.seek(start)
        for pointer, entries in directories.items():
            block = ifd(start, entries)
            records.append(struct.pack("<HHII", pointer, 4, 1, start))
            file.write(block)
            start += len(block)
        records.sort(key=lambda record: struct.unpack("<H", record[:2]))
        file.write(struct.pack("<H", len(records)) + b"".join(records) + following)
        file.seek(4)
        file.write(struct.pack("<I", start))


def ifd(start: int, entries: Entries) -> bytes:
    """Return an IFD without a next one that will stand at ``start``, its long values behind it."""
    after = start + 2 + 12 * len(entries) + 4
    table, overflow = struct.pack("<H", len(entries)), b""
    for code, kind, count, value in entries:
        if len(value) <= 4:
            place = value.ljust(4, b"\x00")
        else:
            place = struct.pack("<I", after + len(overflow))
            overflow += value + b"\x00" * (len(value) % 2)
        table += struct.pack("<HHI", code, kind, count) + place
    return table + bytes(4) + overflow
