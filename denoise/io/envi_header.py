"""The text header of an ENVI file: read with all its keys, told what is wrong with it, and written again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from denoise.cubes.pixels import AXES, Interleave
from denoise.errors import FileFormatError, UnsupportedInputError, nearest
from denoise.io.files import open_to_read

DATA_TYPES: Final[dict[int, str]] = {
    1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 12: "u2", 13: "u4", 14: "i8", 15: "u8",
}  # fmt: skip
"""numpy type by ENVI's "data type"."""

_COMPLEX: Final = (6, 9)
_STRUCTURE: Final = ("samples", "lines", "bands", "data type", "interleave")
_WIDTH: Final = 100


@dataclass(frozen=True)
class EnviHeader:
    """A header as it was written, and its entries by key in small letters."""

    path: Path
    """Where it stands."""
    written: tuple[tuple[str, str], ...]
    """(key, value) in order, spelled as in the file; values in braces keep them."""
    entries: dict[str, str]
    """Value by key in small letters, without braces."""

    @property
    def name(self) -> str:
        """Name of the file, for messages."""
        return self.path.name

    def whole(self, key: str, fallback: int | None = None) -> int:
        """Return a whole number."""
        text = self.entries.get(key)
        if text is None and fallback is not None:
            return fallback
        try:
            return int(text or "")
        except ValueError:
            raise FileFormatError(f"In {self.name}, '{key}' is '{text}', but a whole number was expected.") from None

    def number(self, key: str) -> float | None:
        """Return a number; None if the key is missing."""
        text = self.entries.get(key)
        if text is None:
            return None
        try:
            return float(text)
        except ValueError:
            raise FileFormatError(
                f"In {self.name}, '{key}' is '{text}', but a number was expected. Mend or remove that line."
            ) from None

    def words(self, key: str) -> tuple[str, ...]:
        """Return the parts of a list; empty if the key is missing."""
        text = self.entries.get(key, "")
        return tuple(part.strip() for part in text.split(",")) if text.strip() else ()

    def numbers(self, key: str, count: int) -> np.ndarray | None:
        """Return a list of one number a band; None if the key is missing."""
        words = [word for word in self.words(key) if word]
        if not words:
            return None
        if len(words) != count:
            raise FileFormatError(
                f"In {self.name}, '{key}' lists {len(words)} values, but the cube has {count} bands. "
                "Mend the list, or remove it if it is not needed."
            )
        try:
            return np.array([float(word) for word in words])
        except ValueError:
            raise FileFormatError(
                f"In {self.name}, '{key}' holds values that are not numbers. Mend the list."
            ) from None


@dataclass(frozen=True)
class Structure:
    """How the values lie in the data file."""

    shape: tuple[int, int, int]
    """Bands, rows, columns."""
    code: int
    """ENVI's "data type"."""
    interleave: Interleave
    """Which axis is the slowest."""
    big_endian: bool | None
    """None if the header does not say."""
    offset_bytes: int
    """Bytes before the first value."""

    def dtype(self, big_endian: bool) -> np.dtype[Any]:
        """Return the type of the values in the file."""
        return np.dtype((">" if big_endian else "<") + DATA_TYPES[self.code])

    @property
    def size_bytes(self) -> int:
        """What the data file must have."""
        values = math.prod(self.shape)
        return self.offset_bytes + values * np.dtype(DATA_TYPES[self.code]).itemsize


def read_header(path: Path) -> EnviHeader:
    """Read an ENVI header.

    Raises
    ------
    FileFormatError
        If the file is missing, empty, or not an ENVI header.
    """
    with open_to_read(path) as stream:
        content = stream.read()
    if content.startswith((b"#?RADIANCE", b"#?RGBE")):
        raise UnsupportedInputError(
            f"{path} is a Radiance picture, but under '.hdr' the header of an ENVI cube was expected. "
            "Convert the picture to TIFF first."
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = text.splitlines()
    if not lines or not lines[0].strip().upper().startswith("ENVI"):
        raise FileFormatError(
            f"{path} was given as an ENVI header, but its first line is not 'ENVI'. "
            "Check that the file is what its name says."
        )
    written = tuple(_pairs(lines[1:], path))
    entries = {plain_key(key): _without_braces(value) for key, value in written}
    return EnviHeader(path, written, entries)


def read_structure(header: EnviHeader, data_bytes: int | None) -> Structure:
    """Return how the values lie.

    Parameters
    ----------
    header : EnviHeader
        As read.
    data_bytes : int or None
        Size of the data file: a hint for what is missing.

    Raises
    ------
    FileFormatError
        If a needed key is missing or makes no sense.
    UnsupportedInputError
        If the values are complex, or there is one band only.
    """
    missing = [key for key in _STRUCTURE if key not in header.entries]
    if missing:
        raise FileFormatError(
            f"{header.name} lacks {', '.join(repr(key) for key in missing)}, without which the data cannot be read."
            f"{_hint(header, missing, data_bytes)} Add the line{'s' if len(missing) > 1 else ''} to the header."
        )
    samples, lines, bands, code = (header.whole(key) for key in _STRUCTURE[:4])
    offset = header.whole("header offset", 0)
    if min(samples, lines, bands) < 1 or offset < 0:
        raise FileFormatError(
            f"{header.name} says samples {samples}, lines {lines}, bands {bands}, header offset {offset}: "
            "the first three must be at least 1, the last at least 0. Mend the header."
        )
    if header.entries.get("file compression", "0") not in ("0", ""):
        raise UnsupportedInputError(
            f"{header.name} says that its data are compressed, which is not served. Save them without compression."
        )
    if code in _COMPLEX:
        raise UnsupportedInputError(
            f"{header.name} holds complex values (data type {code}), which are not served. Write magnitudes instead."
        )
    if code not in DATA_TYPES:
        known = ", ".join(f"{number} ({np.dtype(name)})" for number, name in DATA_TYPES.items())
        raise FileFormatError(f"{header.name} says data type {code}, but ENVI has {known}. Mend the header.")
    interleave = header.entries["interleave"].strip().lower()
    if interleave not in AXES:
        raise FileFormatError(
            f"{header.name} says interleave '{interleave}', but bsq, bil or bip is known. {nearest(interleave, AXES)}"
        )
    return Structure((bands, lines, samples), code, interleave, _byte_order(header), offset)


def format_header(entries: Sequence[tuple[str, str]]) -> str:
    """Return the text of a header."""
    return "ENVI\n" + "".join(f"{key} = {value}\n" for key, value in entries)


def format_list(values: Sequence[Any]) -> str:
    """Return a list in braces over several lines."""
    words = [value if isinstance(value, str) else f"{float(value):.12g}" for value in values]
    lines, line = [], ""
    for number, word in enumerate(words):
        piece = word + (", " if number < len(words) - 1 else "")
        if line and len(line) + len(piece) > _WIDTH:
            lines.append(line.rstrip())
            line = ""
        line += piece
    return "{\n" + "\n".join([*lines, line]) + "}"


def _byte_order(header: EnviHeader) -> bool | None:
    text = header.entries.get("byte order", "").strip()
    if not text:
        return None
    words = {"0": False, "1": True, "little endian": False, "big endian": True, "lsb": False, "msb": True,
             "host (intel)": False, "network (ieee)": True}  # fmt: skip
    if text.lower() not in words:
        raise FileFormatError(
            f"{header.name} says byte order '{text}', but 0 (little endian) or 1 (big endian) was expected."
        )
    return words[text.lower()]


def _hint(header: EnviHeader, missing: list[str], data_bytes: int | None) -> str:
    """Say what the size of the data file tells of what is missing."""
    counts = [header.entries.get(key, "") for key in _STRUCTURE[:3]]
    if data_bytes is None or not all(text.isdecimal() and int(text) for text in counts):
        return ""
    values = math.prod(int(text) for text in counts)
    offset = header.whole("header offset", 0)
    item, rest = divmod(data_bytes - offset, values)
    if "data type" in missing and rest == 0:
        fits = [f"{code} ({np.dtype(name)})" for code, name in DATA_TYPES.items() if np.dtype(name).itemsize == item]
        return f" The data file has {item} bytes a value, as data type {' or '.join(fits)} has." if fits else ""
    return ""


def _pairs(lines: list[str], path: Path) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    rest = iter(lines)
    for line in rest:
        if line.lstrip().startswith(";") or "=" not in line:
            continue
        key, value = (part.strip() for part in line.split("=", 1))
        if value.startswith("{"):
            while "}" not in value:
                following = next(rest, None)
                if following is None:
                    raise FileFormatError(
                        f"In {path.name}, the list of '{key}' is not closed by '}}': the header ends too early. "
                        "Copy it again from its source."
                    )
                value += "\n" + following.rstrip()
        if key:
            pairs.append((key, value))
    return pairs


def plain_key(key: str) -> str:
    """Return a key in small letters, with single spaces."""
    return " ".join(key.lower().replace("_", " ").split())


def _without_braces(value: str) -> str:
    text = value.strip()
    if text.startswith("{"):
        text = text[1 : text.rindex("}")]
    return text.strip()
