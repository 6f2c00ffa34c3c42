"""The tags that only a DNG has."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from denoise.io.raw_tags import PROFILE_TAGS, RAW_TAGS, DngRaw, RawTags
from denoise.io.tiff_values import number, tag_text, values

_COLOR_LETTERS: Final = {0: "R", 1: "G", 2: "B"}


def _matrix(tags: Any, code: int) -> npt.NDArray[np.float64] | None:
    entries = np.asarray(values(tags, code), np.float64)
    if entries.size not in (3, 9) or not np.isfinite(entries).all() or not entries.any():
        return None
    return entries.reshape(-1, 3)


def read_profile(first: Any, tags: RawTags) -> None:
    """Fill what the first IFD of a DNG says of camera and colours."""
    tags.unique_model = tag_text(first, 50708)
    pairs = [(_matrix(first, 50721), number(first, 50778)), (_matrix(first, 50722), number(first, 50779))]
    known = [(matrix, int(light or 0)) for matrix, light in pairs if matrix is not None]
    tags.color_matrices = tuple(matrix for matrix, _ in known)
    tags.illuminants = tuple(light for _, light in known)
    tags.as_shot_neutral = values(first, 50728)
    white = values(first, 50729)
    tags.white_xy = (white[0], white[1]) if len(white) == 2 else None
    tags.baseline_exposure = number(first, 50730) or 0.0
    _keep(first, PROFILE_TAGS, tags)


def _keep(page_tags: Any, codes: frozenset[int], tags: RawTags) -> None:
    for code in codes:
        tag = page_tags.get(code)
        if tag is not None:
            tags.dng_tags[code] = (int(tag.dtype), int(tag.count), tag.value)


def read_raw_ifd(raw: Any, first: Any, tags: RawTags) -> DngRaw:
    """Return what the raw IFD of a DNG says."""
    counts = values(raw, 279) or values(raw, 325)
    found = DngRaw(
        photometric=int(number(raw, 262) or 0),
        samples=int(number(raw, 277) or 1),
        bits=int(number(raw, 258) or 16),
        is_float=(number(raw, 339) or 1) == 3,
        compression=int(number(raw, 259) or 1),
        width=int(number(raw, 256) or 0),
        height=int(number(raw, 257) or 0),
        data_bytes=int(sum(counts)),
        tiled=raw.get(324) is not None,
    )
    if found.photometric == 32803:
        repeat = tuple(int(side) for side in values(raw, 33421)) or (2, 2)
        colors = [int(color) for color in values(raw, 33422)]
        letters = "".join(_COLOR_LETTERS.get(color, "?") for color in colors)
        found.cfa = letters if repeat == (2, 2) and len(letters) == 4 else f"{repeat[0]}x{repeat[-1]}:{letters}"
        found.plane_colors = tuple(int(color) for color in values(raw, 50710)) or (0, 1, 2)
    elif found.samples == 1:
        found.cfa = "MONO"
    area = tuple(int(side) for side in values(raw, 50829))
    if len(area) == 4 and 0 <= area[0] < area[2] <= found.height and 0 <= area[1] < area[3] <= found.width:
        found.active_area = (area[0], area[1], area[2], area[3])
    found.black_dn = _black_level(raw)
    found.white_dn = number(raw, 50717)
    origin, size = values(raw, 50719), values(raw, 50720)
    if len(size) == 2:
        left, top = origin if len(origin) == 2 else (0.0, 0.0)
        found.default_crop = (round(left), round(top), round(size[0]), round(size[1]))
    found.noise_profile = values(raw, 51041) or values(first, 51041)
    _keep(raw, RAW_TAGS, tags)
    return found


def _black_level(raw: Any) -> npt.NDArray[np.float64] | None:
    """Return the black level (2, 2) by position, with the mean of what rows and columns add to it."""
    levels = np.asarray(values(raw, 50714), np.float64)
    if not levels.size:
        return None
    repeat = [int(side) for side in values(raw, 50713)] or [1, 1]
    rows, columns = repeat[0], repeat[-1]
    if rows not in (1, 2) or columns not in (1, 2):
        return np.full((2, 2), levels.mean())
    cell = levels[: rows * columns].reshape(rows, columns) if levels.size >= rows * columns else levels[:1, None]
    black = np.tile(cell, (2 // cell.shape[0], 2 // cell.shape[1]))
    for code, axis in ((50715, 0), (50716, 1)):  # deltas by column (H), by row (V)
        delta = np.asarray(values(raw, code), np.float64)
        if delta.size >= 2:
            pair = np.array([delta[0::2].mean(), delta[1::2].mean()])
            black = black + (pair[None, :] if axis == 0 else pair[:, None])
    return black
