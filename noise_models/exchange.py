"""Noise levels in the words of other programs: darktable's noise profiles, and the NoiseProfile tag of DNG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from noise_models.base import ProfileError
from noise_models.level import NoiseLevel
from noise_models.profile import CameraProfile

_DARKTABLE_VERSION = 0


def to_darktable(profiles: Iterable[CameraProfile]) -> dict[str, Any]:
    """Return what darktable keeps in ``noiseprofiles.json``.

    Parameters
    ----------
    profiles : iterable of CameraProfile
        Their gains must be known.

    Returns
    -------
    dict
        One entry for each camera and ISO that was measured: ``a`` is the slope of the variance and ``b`` its value at
        black, for red, green and blue, of signals from 0 (black) to 1 (white).

    Raises
    ------
    ProfileError
        If a camera was measured from dark frames alone.

    Notes
    -----
    Rounding and row noise are part of ``b``; darktable knows white noise only.
    """
    makers: dict[str, list[dict[str, Any]]] = {}
    for profile in profiles:
        entries = []
        for point in profile.points:
            level = profile.noise_level(point.iso)
            entries.append(
                {
                    "name": f"{profile.make} {profile.model} iso {point.iso:g}",
                    "iso": int(point.iso) if point.iso == int(point.iso) else point.iso,
                    "a": _colours(level.shot),
                    "b": _colours(level.read),
                }
            )
        makers.setdefault(profile.make, []).append({"model": profile.model, "profiles": entries})
    listed = [{"maker": maker, "models": models} for maker, models in makers.items()]
    return {"version": _DARKTABLE_VERSION, "noiseprofiles": listed}


def from_darktable(content: Mapping[str, Any], maker: str, model: str) -> dict[float, NoiseLevel]:
    """Return the noise levels of one camera in a ``noiseprofiles.json``, by ISO.

    Parameters
    ----------
    content : mapping
        The file, parsed.
    maker, model : str
        As the file says them; case does not matter.

    Returns
    -------
    dict of float to NoiseLevel
        (4,) each, planes red, green, green, blue. A fit whose ``b`` lies below 0, as darktable allows, counts as 0.

    Raises
    ------
    ProfileError
        If the camera is not in the file, or the file is laid out otherwise.
    """
    levels: dict[float, NoiseLevel] = {}
    try:
        for entry in content["noiseprofiles"]:
            if str(entry["maker"]).lower() != maker.lower():
                continue
            for camera in entry["models"]:
                if str(camera["model"]).lower() != model.lower():
                    continue
                for profile in camera["profiles"]:
                    if not profile.get("skip", False):
                        levels[float(profile["iso"])] = _from_colours(profile["a"], profile["b"], profile["name"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ProfileError(
            f"The noise profiles are not laid out as darktable's: {error!r}. "
            "Expected noiseprofiles -> models -> profiles with iso, a and b of three colours."
        ) from error
    if not levels:
        raise ProfileError(f"darktable's noise profiles hold no {maker} {model}. Name a camera that they hold.")
    return levels


def to_dng(level: NoiseLevel) -> tuple[float, ...]:
    """Return the values of a DNG's NoiseProfile tag: slope and offset of the variance for red, green, blue.

    Parameters
    ----------
    level : NoiseLevel
        (4,) red, green, green, blue; or (1,) for any number of equal planes.

    Returns
    -------
    tuple of float
        Six values, or two.

    Raises
    ------
    ProfileError
        If the level is of another shape.
    """
    if level.shot.shape == (1,):
        return float(level.shot[0]), float(level.read[0])
    if level.shot.shape != (4,):
        raise ProfileError(
            f"A noise level of shape {level.shot.shape} cannot stand in a DNG: it takes one of (4,) or (1,), one image."
        )
    pairs = zip(_colours(level.shot), _colours(level.read), strict=True)
    return tuple(value for pair in pairs for value in pair)


def from_dng(values: Sequence[float]) -> NoiseLevel:
    """Return the noise level (1,) or (4,) of a DNG's NoiseProfile tag of two or six values; the inverse of `to_dng`.

    Raises
    ------
    ProfileError
        If there are neither two nor six values.
    NoiseModelError
        If a value is negative or not finite.
    """
    if len(values) == 2:
        return NoiseLevel(np.array([values[0]]), np.array([values[1]]), source="DNG NoiseProfile")
    if len(values) != 6:
        raise ProfileError(
            f"A DNG NoiseProfile holds {len(values)} values, but a camera with three colours has 2 or 6: "
            "slope and offset for all planes, or for red, green and blue."
        )
    return _from_colours(values[0::2], values[1::2], "", source="DNG NoiseProfile")


def _colours(planes: np.ndarray) -> list[float]:
    if planes.shape == (1,):
        return [float(planes[0])] * 3
    return [float(planes[0]), float(planes[1] + planes[2]) / 2, float(planes[3])]


def _from_colours(shot: Sequence[float], read: Sequence[float], name: str, source: str = "") -> NoiseLevel:
    order = [0, 1, 1, 2]
    slope = np.asarray(shot, np.float64)[order]
    offset = np.asarray(read, np.float64)[order]
    if not source:
        offset = np.maximum(offset, 0.0)
    return NoiseLevel(slope, offset, source=source or f"darktable {name}")
