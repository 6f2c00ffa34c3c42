"""What a camera profile knows of its sensor, taken out of a photograph: dark shading, hot and dead pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from denoise import cfa as cfa_layout
from denoise.errors import ShapeError
from denoise.images import RawImage, scale_to_16_bit
from noise_models.base import ProfileError
from noise_models.profile import CameraProfile


def remove_fixed_pattern(image: RawImage, profile: CameraProfile) -> RawImage:
    """Subtract the dark shading of a profile and mend the pixels that it names hot or dead.

    Parameters
    ----------
    image : RawImage
        As shot, (H, W), of the profile's camera.
    profile : CameraProfile
        With a fixed pattern, or the image is returned as it is.

    Returns
    -------
    RawImage
        On the 16-bit scale, so that a shading of less than one step counts.

    Raises
    ------
    ShapeError
        If the maps are not as large as the image.
    ProfileError
        If the image does not say its ISO, or the maps cannot be read.
    """
    if profile.fixed_pattern is None:
        return image
    iso = iso_of(image)
    pattern = profile.load_fixed_pattern(iso=iso)
    if pattern is None:
        return image
    if pattern.shape != image.mosaic.shape:
        raise ShapeError(
            f"The fixed pattern of {profile.id} is {pattern.shape[1]}x{pattern.shape[0]}, but the photograph is "
            f"{image.mosaic.shape[1]}x{image.mosaic.shape[0]}. Calibrate with frames of the same size and crop."
        )
    scale = scale_to_16_bit(image.white_dn)
    levels = image.mosaic * np.float32(scale)
    levels -= pattern.shading_dn(iso, profile.gain_mode(iso)) * np.float32(scale)
    broken = pattern.hot | pattern.dead
    mend_pixels(levels, broken, image.cfa)
    np.clip(np.rint(levels, out=levels), 0, 65535, out=levels)
    note = f"dark shading of {profile.id} subtracted, {int(broken.sum())} hot or dead pixels mended"
    return replace(
        image,
        mosaic=levels.astype(np.uint16),
        black_dn=image.black_dn * scale,
        white_dn=image.white_dn * scale,
        history=(*image.history, note),
    )


def mend_pixels(levels: npt.NDArray[np.float32], broken: npt.NDArray[np.bool_], cfa: str) -> None:
    """Replace broken pixels, in place, by the median of the sound ones of their colour among the eight nearest.

    Parameters
    ----------
    levels : (H, W) float32
        Mosaic [DN].
    broken : (H, W) bool
        Which pixels to replace.
    cfa : str
        Pattern of the mosaic.
    """
    step = cfa_layout.period(cfa)
    height, width = levels.shape
    around = [(row * step, column * step) for row in (-1, 0, 1) for column in (-1, 0, 1) if row or column]
    for row, column in np.argwhere(broken):
        near = [(row + down, column + right) for down, right in around]
        sound = [levels[y, x] for y, x in near if 0 <= y < height and 0 <= x < width and not broken[y, x]]
        if sound:
            levels[row, column] = np.median(sound)


def iso_of(image: RawImage) -> float:
    """Return the ISO of an image.

    Raises
    ------
    ProfileError
        If the file does not state it.
    """
    if image.settings is None or not image.settings.iso > 0:
        raise ProfileError(
            "A profile was to be used, but the photograph does not state its ISO. Pass --noise blind or SHOT,READ."
        )
    return image.settings.iso
