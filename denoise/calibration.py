"""From folders of frames to a camera profile: finds the files, reads them, and lets `noise_models` measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from denoise.errors import DenoiseError, FileFormatError
from denoise.io.frames import CameraFrameReader, find_frames, is_raw
from denoise.io.raw import read_raw
from denoise.version import __version__
from noise_models import blind
from noise_models.base import CalibrationError, NoiseModelError
from noise_models.calibration.blind_gain import BlindGain, GainPerIso, pool
from noise_models.calibration.estimate import Calibration, calibrate
from noise_models.calibration.frames import FrameFile, from_csv, group
from noise_models.calibration.regions import Region


def estimate_gain(path: Path, camera: tuple[str, str] | None = None) -> BlindGain:
    """Estimate the gain of a camera from one ordinary photograph.

    Parameters
    ----------
    path : path
        A RAW file.
    camera : (make, model), optional
        Whose photograph it must be.

    Returns
    -------
    BlindGain
        K and its standard error [DN/e-].

    Raises
    ------
    NoiseModelError
        If the file cannot be read, is of another camera, states no ISO, or shows no flat areas.
    """
    try:
        image = read_raw(path)
    except DenoiseError as error:
        raise NoiseModelError(str(error)) from error
    own = (image.metadata.make, image.metadata.model)
    if camera is not None and own != camera:
        raise NoiseModelError(
            f"{path} was taken with {' '.join(own)}, but the dark frames with {' '.join(camera)}. "
            "The gain differs from camera to camera: give photographs of the same one."
        )
    if image.settings is None:
        raise NoiseModelError(f"{path} does not state its ISO, so its gain belongs to none. Give other photographs.")
    found = blind.measure(image)
    span = float(np.mean(image.range_by_plane))
    shot, error = float(np.mean(found.level.shot)), float(np.mean(found.shot_error))
    return BlindGain(image.settings.iso, shot * span, error * span)


def calibrate_files(
    *,
    darks: Sequence[str] = (),
    flats: Sequence[str] = (),
    table: Path | None = None,
    photos: Sequence[str] = (),
    region: Region | None = None,
    make: str = "",
    model: str = "",
    proxy_folder: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Calibration:
    """Measure a camera from files.

    Parameters
    ----------
    darks, flats : sequence of str
        Folders, globs or files.
    table : path, optional
        CSV of frames instead; see `noise_models.calibration.frames.from_csv`.
    photos : sequence of str
        Ordinary RAW photographs of the camera, for the gain where there are no flats.
    region : Region, optional
        Part of the sensor to use.
    make, model : str
        Name of the camera, where the files do not say it.
    proxy_folder : path, optional
        Also train a noise proxy; its checkpoints lie here until it is ready, and a training that was stopped goes on.
    progress : callable, optional
        Told what is being done.

    Returns
    -------
    Calibration
        Profile, evidence, checks, verdict; the proxy is left out where the verdict is no-go.

    Raises
    ------
    CalibrationError, FileFormatError
        If files are missing, damaged, or cannot give a profile.
    """
    files = from_csv(table) if table else []
    files += [FrameFile(path, "dark") for path in find_frames(darks, "dark frames")]
    files += [FrameFile(path, "flat") for path in find_frames(flats, "flat frames")]
    missing = [file.path for file in files if not file.path.is_file()]
    if missing:
        raise FileFormatError(
            f"{missing[0]} does not exist, and {len(missing) - 1} more. Check the paths in the table."
        )
    _refuse_twice(files)
    stacks = group(files, CameraFrameReader(), region=region, progress=progress)
    info = stacks[0].info
    needs_gain = photos and not any(stack.kind == "flat" for stack in stacks)
    gain = _gain_of(photos, (info.make, info.model), progress) if needs_gain else None
    try:
        found = calibrate(
            stacks, make=make, model=model, photos=gain, tool_version=f"denoise {__version__}", progress=progress
        )
    except OSError as error:
        raise CalibrationError(
            f"Calibration keeps a mean frame of each ISO in the temporary folder meanwhile, which failed: {error}. "
            "Make room there, or name another folder in the environment variable TMPDIR."
        ) from error
    if proxy_folder is None or not found.go:
        return found
    from denoise.proxy import add_proxy

    return add_proxy(found, stacks, proxy_folder, progress)


def _refuse_twice(files: Sequence[FrameFile]) -> None:
    kinds: dict[Path, Literal["dark", "flat"]] = {}
    for file in files:
        if kinds.setdefault(file.path.resolve(), file.kind) != file.kind:
            raise CalibrationError(f"{file.path} was given as dark and as flat. Keep the two in separate folders.")


def _gain_of(photos: Sequence[str], camera: tuple[str, str], progress: Callable[[str], None] | None) -> GainPerIso:
    paths = [path for path in find_frames(photos, "photographs") if is_raw(path)]
    if progress:
        progress(f"gain from {len(paths)} photographs")
    return pool(paths, lambda path: estimate_gain(path, camera))
