"""Small DNG files for tests, made with tifffile alone, apart from the writer under test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

MATRIX = np.array([[0.664, -0.1847, -0.0503], [-0.5238, 1.301, 0.2474], [-0.0993, 0.1673, 0.6527]])
NEUTRAL = (0.45, 1.0, 0.62)
BLACK = ((512.0, 516.0), (508.0, 514.0))
LETTERS = "RGB"


def scene(height: int, width: int, cfa: str = "RGGB", black: Any = BLACK, white: int = 16383) -> npt.NDArray[np.uint16]:
    """Return a mosaic (height, width) of a smooth coloured scene with a little noise, darker at the bottom right."""
    rows, columns = np.mgrid[:height, :width]
    light = 0.08 + 0.5 * (1 - rows / height) * (0.3 + 0.7 * np.sin(columns / width * 3.0) ** 2)
    gains = {"R": 0.45, "G": 1.0, "B": 0.62, "M": 1.0}
    cell = (
        np.array([[gains[cfa[0]], gains[cfa[1]]], [gains[cfa[2]], gains[cfa[3]]]]) if cfa != "MONO" else np.ones((2, 2))
    )
    levels = np.tile(np.broadcast_to(np.asarray(black, float), (2, 2)), (-(-height // 2), -(-width // 2)))[
        :height, :width
    ]
    tint = np.tile(cell, (-(-height // 2), -(-width // 2)))[:height, :width]
    noise = np.random.default_rng(7).normal(0, 0.005, (height, width))
    return np.clip(np.rint(levels + (white - levels) * (light * tint + noise)), 0, white).astype(np.uint16)


def rational(values: Any) -> tuple[int, ...]:
    """Return numbers as numerators over 10000."""
    return tuple(n for value in np.ravel(values) for n in (round(float(value) * 10000), 10000))


def write_sample(
    path: Path,
    mosaic: npt.NDArray[Any],
    *,
    cfa: str = "RGGB",
    black: Any = BLACK,
    white: int | None = 16383,
    margin: tuple[int, int, int, int] | None = None,
    crop: tuple[int, int, int, int] | None = None,
    matrix: Any = MATRIX,
    neutral: Any = NEUTRAL,
    noise: tuple[float, ...] = (),
    orientation: int = 1,
    extra: tuple[tuple[int, int, int, Any], ...] = (),
    first: tuple[tuple[int, int, int, Any], ...] = (),
    **options: Any,
) -> Path:
    """Write a DNG whose only IFD is the raw one.

    ``margin`` is ActiveArea (top, left, bottom, right); ``extra`` adds tags or replaces those of the same code.
    """
    mono = cfa == "MONO" or mosaic.ndim == 3
    tags: dict[int, tuple[int, int, Any]] = {
        274: (3, 1, orientation),
        271: (2, 0, "Testmaker"),
        272: (2, 0, "Model T"),
        50706: (1, 4, bytes((1, 4, 0, 0))),
        50707: (1, 4, bytes((1, 1, 0, 0))),
        50708: (2, 0, "Testmaker Model T"),
    }
    if matrix is not None:
        tags[50721] = (10, 9, rational(matrix))
        tags[50778] = (3, 1, 21)
    if neutral is not None:
        tags[50728] = (5, 3, rational(neutral))
    if black is not None:
        values = np.ravel(black)
        tags[50713] = (3, 2, (2, 2) if values.size == 4 else (1, 1))
        tags[50714] = (5, int(values.size), rational(values))
    if white is not None:
        tags[50717] = (4, 1, white)
    if margin is not None:
        tags[50829] = (4, 4, margin)
    if crop is not None:
        tags[50719] = (4, 2, crop[:2])
        tags[50720] = (4, 2, crop[2:])
    if noise:
        tags[51041] = (12, len(noise), noise)
    if not mono:
        tags[33421] = (3, 2, (2, 2))
        tags[33422] = (1, 4, bytes(LETTERS.index(letter) for letter in cfa))
        tags[50710] = (1, 3, bytes((0, 1, 2)))
    for code, kind, count, value in (*first, *extra):
        tags[code] = (kind, count, value)
    linear = mosaic.ndim == 3
    tifffile.imwrite(
        path,
        mosaic,
        photometric=("rgb" if linear else "minisblack") if mono else 32803,
        subfiletype=0,
        metadata=None,
        software=False,
        extratags=[(code, *tag, True) for code, tag in sorted(tags.items())],
        **options,
    )
    if mono:  # tifffile's versions differ on what LinearRaw may hold
        with tifffile.TiffFile(path, mode="r+b") as tiff:
            tiff.pages[0].tags[262].overwrite(34892)
    return path
