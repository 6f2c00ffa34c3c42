"""The small picture in a DNG: the camera's own preview where there is one, else a plain rendering."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from denoise import cfa as cfa_layout
from denoise.images import RawImage
from denoise.io.dng_tags import color_matrices, neutral
from denoise.io.raw_color import XYZ_TO_SRGB


def thumbnail(image: RawImage, long_side: int = 1024) -> npt.NDArray[np.uint8]:
    """Return a small picture of a RAW image in sensor orientation.

    Parameters
    ----------
    image : RawImage
        With or without an embedded preview.
    long_side : int, optional
        Most pixels of the longer side.

    Returns
    -------
    (h, w, 3) uint8
        sRGB.
    """
    picture = _from_preview(image, long_side)
    return _render(image, long_side) if picture is None else picture


def _from_preview(image: RawImage, long_side: int) -> npt.NDArray[np.uint8] | None:
    jpeg = image.metadata.thumbnail
    if not jpeg:
        return None
    flags = cv2.IMREAD_IGNORE_ORIENTATION
    try:
        probe = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_REDUCED_COLOR_8 | flags)
        if probe is None or min(probe.shape[:2]) < 8:
            return None
        # The smallest reduced decoding that is still large enough: a full-size preview is not decoded in full.
        wanted = min(long_side, 8 * max(probe.shape[:2]))
        reduction = next((step for step in (8, 4, 2) if 8 * max(probe.shape[:2]) // step >= wanted), 1)
        modes = {
            1: cv2.IMREAD_COLOR,
            2: cv2.IMREAD_REDUCED_COLOR_2,
            4: cv2.IMREAD_REDUCED_COLOR_4,
            8: cv2.IMREAD_REDUCED_COLOR_8,
        }
        picture = probe if reduction == 8 else cv2.imdecode(np.frombuffer(jpeg, np.uint8), modes[reduction] | flags)
    except cv2.error:
        return None
    if picture is None:
        return None
    picture = _to_sensor_orientation(np.asarray(picture, np.uint8), image)
    return np.ascontiguousarray(_shrink(picture, long_side)[..., ::-1])


def _to_sensor_orientation(picture: npt.NDArray[np.uint8], image: RawImage) -> npt.NDArray[np.uint8]:
    """Undo the camera's rotation if the preview was stored upright."""
    height, width = image.mosaic.shape
    orientation = image.metadata.orientation
    stored_upright = orientation in (5, 6, 7, 8) and (picture.shape[0] > picture.shape[1]) != (height > width)
    if not stored_upright:
        return picture
    turn = cv2.ROTATE_90_COUNTERCLOCKWISE if orientation in (6, 7) else cv2.ROTATE_90_CLOCKWISE
    return np.asarray(cv2.rotate(picture, turn), np.uint8)


def _shrink(picture: npt.NDArray[np.uint8], long_side: int) -> npt.NDArray[np.uint8]:
    height, width = picture.shape[:2]
    scale = long_side / max(height, width)
    if scale >= 1:
        return picture
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _render(image: RawImage, long_side: int) -> npt.NDArray[np.uint8]:
    """Render through white balance, colour matrix and the sRGB curve: no curve of taste.

    Camera values are divided by the neutral, turned to linear sRGB by the matrix whose rows are scaled so that white
    stays white, and limited at the sensor's white.
    """
    planes = [_small_plane(image, index, long_side) for index in range(image.shape[0])]
    gain = 2.0**image.metadata.baseline_exposure
    if len(planes) == 1:
        linear = np.repeat(planes[0][..., None], 3, axis=2) * np.float32(gain)
    else:
        camera = np.stack([planes[0], (planes[1] + planes[2]) / 2, planes[3]], axis=-1)
        camera /= np.asarray(neutral(image), np.float32)
        np.clip(camera, 0, 1, out=camera)
        camera_to_srgb = XYZ_TO_SRGB @ np.linalg.inv(color_matrices(image)[0][-1])
        camera_to_srgb = np.linalg.inv(_rows_to_one(np.asarray(np.linalg.inv(camera_to_srgb), np.float64)))
        linear = camera @ camera_to_srgb.T.astype(np.float32) * np.float32(gain)
    np.clip(linear, 0, 1, out=linear)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(encoded * 255).astype(np.uint8)


def _rows_to_one(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return matrix / matrix.sum(axis=1, keepdims=True)


def _small_plane(image: RawImage, index: int, long_side: int) -> npt.NDArray[np.float32]:
    """Return one plane, averaged down, in house units."""
    step = cfa_layout.period(image.cfa)
    _, height, width = image.shape
    scale = min(1.0, long_side / max(height, width))
    row, column = cfa_layout.positions(image.cfa)[index]
    plane = np.ascontiguousarray(image.mosaic[row::step, column::step])
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.float32)
    return (small - np.float32(image.black_by_plane[index])) / np.float32(image.range_by_plane[index])
