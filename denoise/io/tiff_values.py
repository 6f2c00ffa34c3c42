"""Values of TIFF tags as plain numbers and text, whatever tifffile makes of them."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import tifffile

PARSE_ERRORS: Final = (
    tifffile.TiffFileError,
    struct.error,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What tifffile may raise on a file that is not what it says."""


@contextmanager
def quiet_tifffile() -> Iterator[None]:
    """Keep tifffile's log of oddities to itself: what matters becomes an error of ours."""
    logger = logging.getLogger("tifffile")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def values(tags: Any, code: int) -> tuple[float, ...]:
    """Return a tag's numbers, fractions divided; empty if it is absent."""
    tag = tags.get(code)
    if tag is None:
        return ()
    value = tag.value
    if isinstance(value, bytes):
        return tuple(float(number) for number in value)
    if isinstance(value, str):
        return ()
    numbers = tuple(np.atleast_1d(np.asarray(value)).tolist())
    if int(tag.dtype) in (5, 10):
        return tuple(
            float(top) / float(bottom) if bottom else 0.0
            for top, bottom in zip(numbers[::2], numbers[1::2], strict=True)
        )
    return tuple(float(number) for number in numbers)


def number(tags: Any, code: int) -> float | None:
    """Return a tag's first number."""
    numbers = values(tags, code)
    return numbers[0] if numbers else None


def text(value: Any) -> str:
    """Return text up to its first zero byte."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return str(value).split("\x00")[0].strip() if value is not None else ""


def tag_text(tags: Any, code: int) -> str:
    """Return a tag's text, empty if it is absent."""
    tag = tags.get(code)
    return text(tag.value) if tag is not None else ""


def exif_number(value: Any) -> float | None:
    """Return a positive number of an EXIF entry, None for anything else."""
    if isinstance(value, tuple):
        if len(value) == 2:
            return float(value[0]) / float(value[1]) if value[1] else None
        value = value[0] if value else None
    return float(value) if isinstance(value, (int, float)) and value > 0 else None
