"""A calibrated camera: one JSON file that says how its sensor spoils light at each ISO, and how well that is known."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from noise_models.base import ProfileError, SensorSettings
from noise_models.fixed_pattern import FixedPattern
from noise_models.gain_point import (
    ByPosition,
    FrozenFile,
    GainPoint,
    Positive,
    Scatter,
    StandardErrors,
    between,
    describe,
)
from noise_models.level import NoiseLevel
from noise_models.provenance import Provenance

if TYPE_CHECKING:
    import torch

    from noise_models.pnnp_network import NoiseProxy

__all__ = ["SCHEMA_VERSION", "CameraProfile", "GainPoint", "Provenance", "Scatter", "StandardErrors"]

SCHEMA_VERSION = 1
"""Of the JSON that this version writes and reads."""

# Position (row, column) of each plane in the 2x2 cell: red, green beside red, green beside blue, blue.
_PLANES: dict[str, tuple[tuple[int, int], ...]] = {
    "RGGB": ((0, 0), (0, 1), (1, 0), (1, 1)),
    "GRBG": ((0, 1), (0, 0), (1, 1), (1, 0)),
    "GBRG": ((1, 0), (1, 1), (0, 0), (0, 1)),
    "BGGR": ((1, 1), (1, 0), (0, 1), (0, 0)),
    "MONO": ((0, 0),),
}
_ISO_TOLERANCE = 1e-3
_EXPOSURES_S = (1e-3, 0.25)


class CameraProfile(FrozenFile):
    """A calibrated camera.

    Raises
    ------
    ProfileError
        If the values contradict each other or themselves; the message names the field and the remedy.
    """

    schema_version: int = SCHEMA_VERSION
    """Of the file's layout."""
    make: Annotated[str, Field(min_length=1)]
    """Maker, as people write it: "Sony"."""
    model: Annotated[str, Field(min_length=1)]
    """Model, as people write it: "A7S2"."""
    variant: str = ""
    """Tells a second profile of the same camera apart; such a one is used only when named."""
    aliases: tuple[str, ...] = ()
    """Other names of the same model, such as the one its files carry: "ILCE-7SM2"."""
    geometry: Literal["bayer", "mono", "pushbroom"] = "bayer"
    """How the sensor sees the scene."""
    cfa: Literal["RGGB", "GRBG", "GBRG", "BGGR", "MONO"] = "RGGB"
    """Colour filter pattern, read from position [0, 0] of the mosaic."""
    bit_depth: Annotated[int, Field(ge=8, le=16)]
    """Of the converter [bit]."""
    black_dn: ByPosition
    """Nominal black by position in the 2x2 cell [DN]."""
    white_dn: Positive
    """Where the sensor or its converter saturates [DN]."""
    points: Annotated[tuple[GainPoint, ...], Field(min_length=1)]
    """What was measured, sorted by ISO."""
    breaks_iso: tuple[Positive, ...] = ()
    """The first ISO of every gain mode but the lowest [ISO]; a point at or above it belongs to the next mode."""
    scatter: Scatter = Scatter()
    """How far single frames stray from `points`."""
    fixed_pattern: str | None = None
    """Name of the ``.npz`` file of a `FixedPattern`, relative to the profile's folder."""
    proxy: str | None = None
    """Name of the ``.safetensors`` file of a `NoiseProxy`, relative to the profile's folder."""
    provenance: Provenance
    """Where the numbers come from."""

    _folder: Path | None = PrivateAttr(default=None)

    @field_validator("points", mode="after")
    @classmethod
    def _sort(cls, points: tuple[GainPoint, ...]) -> tuple[GainPoint, ...]:
        isos = [point.iso for point in points]
        if len(set(isos)) < len(isos):
            twice = sorted({iso for iso in isos if isos.count(iso) > 1})
            raise ValueError(f"points hold ISO {', '.join(f'{iso:g}' for iso in twice)} more than once")
        return tuple(sorted(points, key=lambda point: point.iso))

    @field_validator("breaks_iso", mode="after")
    @classmethod
    def _ascending(cls, breaks: tuple[float, ...]) -> tuple[float, ...]:
        if list(breaks) != sorted(set(breaks)):
            raise ValueError(f"breaks_iso must ascend, but is {list(breaks)}")
        return breaks

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, values: Any, handler: Any) -> Any:
        name = "The camera profile"
        if isinstance(values, dict):
            name = f"The profile of {values.get('make')} {values.get('model')}"
            version = values.get("schema_version", SCHEMA_VERSION)
            if isinstance(version, int) and version > SCHEMA_VERSION:
                raise ProfileError(
                    f"{name} is written in schema {version}, but this version reads up to {SCHEMA_VERSION}. "
                    "Update this program (pip install -U denoise-toolkit), or calibrate with this version."
                )
        try:
            profile = handler(values)
        except ValidationError as error:
            known = (*cls.model_fields, *Scatter.model_fields, *Provenance.model_fields)
            raise ProfileError(describe(error, name, known)) from None
        problems = profile._contradictions()
        if problems:
            raise ProfileError(
                f"{name} is not valid: {'; '.join(problems)}. Correct it, or calibrate the camera again."
            )
        return profile

    def _contradictions(self) -> list[str]:
        problems = []
        black = np.asarray(self.black_dn)
        if black.max() >= self.white_dn:
            problems.append(f"white_dn {self.white_dn:g} must be above black_dn {black.tolist()}")
        if black.min() < 0:
            problems.append(f"black_dn {black.tolist()} must not be negative")
        if self.white_dn > 2**self.bit_depth:
            problems.append(f"white_dn {self.white_dn:g} does not fit into bit_depth {self.bit_depth}")
        span = self.white_dn - float(black.min())
        for point in self.points:
            sizes = {
                "gain_dn_per_e": point.gain_dn_per_e or 0.0,
                "read noise": point.read_sigma_dn,
                "row_sigma_dn": point.row_sigma_dn,
                "column_sigma_dn": point.column_sigma_dn,
                "bias_dn": float(np.abs(point.bias_dn).max()),
            }
            problems += [
                f"{name} at ISO {point.iso:g} is {size:g} DN, more than the whole range of {span:g} DN"
                for name, size in sizes.items()
                if size > span > 0
            ]
        if (self.geometry == "bayer") == (self.cfa == "MONO"):
            problems.append(f"geometry '{self.geometry}' does not go with cfa '{self.cfa}'")
        if self.schema_version < 1:
            problems.append(f"schema_version {self.schema_version} is not one of 1 to {SCHEMA_VERSION}")
        edges = [0.0, *self.breaks_iso, math.inf]
        for low, high in itertools.pairwise(edges):
            if not any(low <= point.iso < high for point in self.points):
                problems.append(f"breaks_iso {list(self.breaks_iso)} leave no point from ISO {low:g} to {high:g}")
        return problems

    @property
    def id(self) -> str:
        """Name of the profile and of its file: make, model and variant in kebab case."""
        words = f"{self.make} {self.model} {self.variant}".lower()
        return re.sub(r"[^a-z0-9]+", "-", words).strip("-")

    @property
    def iso_range(self) -> tuple[float, float]:
        """Lowest and highest ISO that was measured."""
        return self.points[0].iso, self.points[-1].iso

    @property
    def knows_gain(self) -> bool:
        """True if every point has a gain; False for a camera measured from dark frames alone."""
        return all(point.gain_dn_per_e is not None for point in self.points)

    @property
    def positions(self) -> tuple[tuple[int, int], ...]:
        """Position in the 2x2 cell of each plane: red, green beside red, green beside blue, blue; one if mono."""
        return _PLANES[self.cfa]

    def gain_mode(self, iso: float) -> int:
        """Return the number of the gain mode in which the sensor works at this ISO, 0 for the lowest."""
        return sum(iso >= edge * (1 - _ISO_TOLERANCE) for edge in self.breaks_iso)

    def mode_points(self, mode: int) -> tuple[GainPoint, ...]:
        """Return the points of one gain mode, sorted by ISO."""
        return tuple(point for point in self.points if self.gain_mode(point.iso) == mode)

    def at(self, iso: float) -> GainPoint:
        """Return what the sensor does at an ISO, interpolated between its neighbours in the same gain mode.

        Gain and sigmas follow straight lines in ln against ln ISO; lambda and black-level error against ln ISO.

        Parameters
        ----------
        iso : float
            Sensitivity [ISO].

        Returns
        -------
        GainPoint
            ``fit_r2`` and standard errors are the worse of the two neighbours'.

        Raises
        ------
        ProfileError
            If the ISO lies outside what was measured, or between two gain modes.
        """
        if not (math.isfinite(iso) and iso > 0):
            raise ProfileError(f"The profile {self.id} was asked for ISO {iso}, but an ISO is a positive number.")
        points = self.mode_points(self.gain_mode(iso))
        for point in points:
            if abs(point.iso / iso - 1) <= _ISO_TOLERANCE:
                return point
        below = [point for point in points if point.iso < iso]
        above = [point for point in points if point.iso > iso]
        if not below or not above:
            raise ProfileError(self._out_of_range(iso))
        return between(below[-1], above[0], iso)

    def _out_of_range(self, iso: float) -> str:
        ranges = []
        for mode in range(len(self.breaks_iso) + 1):
            points = self.mode_points(mode)
            first, last = points[0].iso, points[-1].iso
            ranges.append(f"{first:g}-{last:g}" if last > first else f"{first:g}")
        low, high = self.iso_range
        why = ""
        if low < iso < high:
            why = f" The sensor changes its gain mode near ISO {iso:g}, so nothing is interpolated there."
        return (
            f"The noise at ISO {iso:g} was asked for, but {self.id}.json covers ISO {' and '.join(ranges)}.{why} "
            f"Calibrate at ISO {iso:g} or pass --noise blind."
        )

    def gain_dn_per_e(self, iso: float) -> float:
        """Return the gain K [DN/e-] at an ISO.

        Raises
        ------
        ProfileError
            If the ISO is out of range, or the camera was measured from dark frames alone.
        """
        gain = self.at(iso).gain_dn_per_e
        if gain is None:
            raise ProfileError(
                f"The gain of {self.id} at ISO {iso:g} was asked for, but the profile was made from dark frames alone, "
                "which do not show it. Calibrate with flat frames (--flats) or photographs (--photos)."
            )
        return gain

    def noise_level(self, iso: float) -> NoiseLevel:
        """Return the noise level (C,) at an ISO, planes in the order red, green beside red, green beside blue, blue.

        Raises
        ------
        ProfileError
            If the ISO is out of range, or the gain is not known.

        Notes
        -----
        shot = K / R, R = white - black                                                                           (1)
        read = (read_sigma**2 + row_sigma**2 + column_sigma**2 + 1/12) / R**2                                     (2)
        """
        point, gain = self.at(iso), self.gain_dn_per_e(iso)
        black = np.asarray(self.black_dn)
        span = self.white_dn - np.array([black[position] for position in self.positions])
        variance = point.read_sigma_dn**2 + point.row_sigma_dn**2 + point.column_sigma_dn**2 + 1 / 12
        return NoiseLevel(shot=gain / span, read=variance / span**2, source=f"profile {self.id}")  # (1) (2)

    def draw(self, generator: torch.Generator) -> SensorSettings:
        """Draw an exposure: ln ISO uniform over what was measured, ln exposure uniform from 1 ms to 1/4 s."""
        import torch

        modes = [self.mode_points(mode) for mode in range(len(self.breaks_iso) + 1)]
        spans = [math.log(points[-1].iso / points[0].iso) for points in modes]
        where, when = torch.rand(2, generator=generator, device=generator.device, dtype=torch.float64).tolist()
        where *= sum(spans)
        iso = modes[-1][-1].iso
        for points, span in zip(modes, spans, strict=True):
            if where <= span:
                iso = points[0].iso * math.exp(where)
                break
            where -= span
        shortest, longest = _EXPOSURES_S
        return SensorSettings(iso=iso, exposure_s=shortest * (longest / shortest) ** when)

    def load_fixed_pattern(self, *, iso: float | None = None) -> FixedPattern | None:
        """Read the maps beside the profile; None if it has none. With an ISO only what a photograph of it needs.

        Raises
        ------
        ProfileError
            If the file is named but not there or not sound.
        """
        if self.fixed_pattern is None:
            return None
        mode = None if iso is None else self.gain_mode(iso)
        return FixedPattern.load((self._folder or Path()) / self.fixed_pattern, mode=mode)

    def load_proxy(self) -> NoiseProxy | None:
        """Read the noise proxy beside the profile; None if it has none.

        Raises
        ------
        ProfileError
            If the file is named but not there or not sound.
        """
        if self.proxy is None:
            return None
        from noise_models.pnnp_network import NoiseProxy

        return NoiseProxy.load((self._folder or Path()) / self.proxy)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CameraProfile:
        """Read a profile.

        Raises
        ------
        ProfileError
            If the file is not there, not JSON, of a newer schema, or edited into nonsense.
        """
        path = Path(path)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ProfileError(
                f"The camera profile {path} cannot be read: {error.strerror}. Make one with: denoise calibrate"
            ) from error
        except ValueError as error:
            raise ProfileError(
                f"{path} is not a camera profile: {error}. Expected JSON as denoise calibrate writes it."
            ) from error
        if not isinstance(values, dict):
            raise ProfileError(f"{path} is not a camera profile: it holds a {type(values).__name__}, not an object.")
        try:
            profile = cls.model_validate(values)
        except ProfileError as error:
            raise ProfileError(f"{path.name}: {error}") from error
        object.__setattr__(profile, "_folder", path.parent)  # past pydantic: two equal profiles may lie in two folders
        return profile

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the profile whole or not at all, and return where it lies."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            partial.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path
