"""What LibRaw knows of a camera's colours, in the terms of a DNG."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import rawpy

from denoise.io.raw_tags import RawTags

D65: Final = 21
"""EXIF LightSource of noon daylight."""
XYZ_TO_SRGB: Final = np.array(
    [[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560], [0.0556434, -0.2040259, 1.0572252]]
)
"""XYZ under D65 to linear sRGB."""

_BASE, _STEP, _PATCH = 0.4, 0.1, 16


def camera_matrix(raw: rawpy.RawPy) -> tuple[npt.NDArray[np.float64], ...]:
    """Return the matrix (3, 3) XYZ (D65) to camera of a file that says none itself; empty if LibRaw knows none.

    Destroys the pixels of ``raw`` if LibRaw's table does not hold the camera.
    """
    if raw.num_colors != 3:
        return ()
    table = np.asarray(raw.rgb_xyz_matrix, np.float64)[:3]
    if table.shape == (3, 3) and np.isfinite(table).all() and abs(np.linalg.det(table)) > 1e-9:
        return (np.asarray(table, np.float64),)
    to_srgb = _probed_matrix(raw)
    if to_srgb is None or np.allclose(to_srgb, np.eye(3), atol=2e-3) or abs(np.linalg.det(to_srgb)) < 1e-3:
        return ()
    return (np.asarray(np.linalg.inv(to_srgb) @ XYZ_TO_SRGB, np.float64),)


def _probed_matrix(raw: rawpy.RawPy) -> npt.NDArray[np.float64] | None:
    """Return the matrix camera to linear sRGB that LibRaw renders with, which rawpy does not show.

    Some old cameras have one without a line in the table. Four grey patches, three with one colour raised, are put in
    place of the picture: what the rendering adds for each raised colour is a column of the matrix.
    """
    pattern, sizes = raw.raw_pattern, raw.sizes
    if pattern is None or pattern.shape != (2, 2) or min(sizes.width // 4, sizes.height) < _PATCH:
        return None
    black = np.asarray(raw.black_level_per_channel, np.float64)
    visible = raw.raw_image_visible
    width = sizes.width // 8 * 2
    for patch in range(4):
        for row in range(2):
            for column in range(2):
                color = int(pattern[row, column])
                share = _BASE + (_STEP if (1 if color == 3 else color) == patch - 1 else 0.0)
                level = black[color] + share * (raw.white_level - black[color])
                visible[row::2, patch * width + column : (patch + 1) * width : 2] = round(level)
    try:
        rendered = raw.postprocess(
            half_size=True,
            output_bps=16,
            gamma=(1, 1),
            no_auto_bright=True,
            adjust_maximum_thr=0.0,
            user_wb=[1, 1, 1, 1],
            user_flip=0,
            output_color=rawpy.ColorSpace.sRGB,  # pyright: ignore[reportArgumentType]
        )
    except (rawpy.LibRawError, rawpy.NotSupportedError):
        return None
    middle = rendered.shape[0] // 2
    means = np.array([rendered[middle, (2 * patch + 1) * width // 4].astype(np.float64) for patch in range(4)])
    return ((means[1:] - means[0]) / (_STEP * 65535)).T


def as_shot_neutral(raw: rawpy.RawPy, tags: RawTags) -> tuple[float, float, float] | None:
    """Return the camera values of a neutral, green = 1: by the DNG's tags, or by the camera's white balance."""
    if len(tags.as_shot_neutral) == 3 and min(tags.as_shot_neutral) > 0:
        red, green, blue = tags.as_shot_neutral
        return red / green, 1.0, blue / green
    if tags.white_xy is not None and tags.color_matrices and tags.white_xy[1] > 0:
        x, y = tags.white_xy
        camera = tags.color_matrices[-1] @ np.array([x / y, 1.0, (1 - x - y) / y])
        if camera.shape == (3,) and camera.min() > 0:
            return float(camera[0] / camera[1]), 1.0, float(camera[2] / camera[1])
    gains = raw.camera_whitebalance
    if not tags.is_dng and raw.num_colors == 3 and min(gains[:3]) > 0:
        return gains[1] / gains[0], 1.0, gains[1] / gains[2]
    return None
