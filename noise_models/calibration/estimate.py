"""From frames to a camera profile: the order of the measurements, and what each gives to the next."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from noise_models.base import CalibrationError
from noise_models.calibration.blind_gain import GainPerIso
from noise_models.calibration.checks import Check, verdict
from noise_models.calibration.dark_sums import sum_darks
from noise_models.calibration.evidence import Evidence
from noise_models.calibration.frames import FrameInfo, FrameStack
from noise_models.calibration.linearity import fit_linearity
from noise_models.calibration.maps import MapsFile, make_maps
from noise_models.calibration.points import Gains, make_points, modes_of
from noise_models.calibration.stages import Progress, measure_darks, measure_gains
from noise_models.fixed_pattern import FixedPattern
from noise_models.pnnp_network import NoiseProxy
from noise_models.profile import CameraProfile, GainPoint, Provenance, Scatter

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was measured of a camera, and whether to trust it."""

    profile: CameraProfile
    """The camera."""
    maps: MapsFile | None
    """Its maps, in a temporary file; None where none were asked for."""
    evidence: Evidence
    """Every fit behind the profile."""
    checks: tuple[Check, ...]
    """What was looked at, the grave first."""
    proxy: NoiseProxy | None = None
    """Trained on the dark frames, where that was asked for."""

    @property
    def fixed_pattern(self) -> FixedPattern | None:
        """Its maps, read into memory; None where none were asked for."""
        return None if self.maps is None else FixedPattern.load(self.maps.path)

    @property
    def go(self) -> bool:
        """True if nothing was found that makes the profile wrong."""
        return verdict(self.checks)

    def save(self, path: Path) -> Path:
        """Write the profile, and beside it its maps and its noise proxy.

        Parameters
        ----------
        path : path
            Of the JSON; the maps get the same name with ``.npz``, the proxy with ``.pnnp.safetensors``.

        Returns
        -------
        path
            Of the JSON.

        Raises
        ------
        CalibrationError
            If the verdict is no-go, or the folder cannot be written to; no profile is left then.
        """
        if not self.go:
            stops = [check for check in self.checks if check.severity == "stop"]
            raise CalibrationError(
                f"No profile was written, because it would be wrong: {stops[0].found}. {stops[0].remedy}"
            )
        profile = self.profile
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if self.maps is not None:
                maps = path.with_suffix(".npz")
                self.maps.copy_to(maps)
                profile = profile.model_copy(update={"fixed_pattern": maps.name})
            if self.proxy is not None:
                weights = self.proxy.save(path.with_suffix(".pnnp.safetensors"))
                profile = profile.model_copy(update={"proxy": weights.name})
            return profile.save(path)
        except OSError as error:
            raise CalibrationError(
                f"The profile {path} cannot be written: {error.strerror or error}. Pass another -o."
            ) from error


def calibrate(
    stacks: Sequence[FrameStack],
    *,
    make: str = "",
    model: str = "",
    photos: GainPerIso | None = None,
    maps: bool = True,
    tool_version: str = "",
    progress: Progress | None = None,
) -> Calibration:
    """Measure a sensor.

    Parameters
    ----------
    stacks : sequence of FrameStack
        As `noise_models.calibration.frames.group` makes them; dark frames are needed, flats are better than none.
    make, model : str
        Name of the camera; by default what the files say.
    photos : GainPerIso, optional
        Gain from photographs, used where there are no flats.
    maps : bool
        Whether to make the maps of the fixed pattern.
    tool_version : str
        Written into the profile.
    progress : callable, optional
        Told what is being done.

    Returns
    -------
    Calibration
        Profile, evidence, checks, verdict.

    Raises
    ------
    CalibrationError
        If the frames cannot give a profile: no darks, single frames, light in the darks, flats all saturated, frames
        that are constant or not finite, frames of several sizes.
    """
    tell = progress or _silent
    darks, flats, checks = _sorted(stacks)
    info = darks[0].info
    black = None if info.black_dn is None else np.asarray(info.black_dn, np.float64)
    white, bit_depth = _white(flats, info, checks)
    with tempfile.TemporaryDirectory(prefix="denoise-calibrate-") as folder:
        measured = measure_darks(darks, black, white, Path(folder), checks, tell)
        read = {iso: measured.means[iso].fit for iso in sorted(measured.means)}
        if black is None:
            black = np.rint(next(iter(read.values())).level_dn)
            checks.append(Check("black level", "note", f"taken from the darks: {black.mean():.0f} DN", ""))
        gain_fits, sums, levels = measure_gains(flats, measured.fits, read, white, checks, tell)
        gains = Gains.of(gain_fits, photos, tuple(read))
        points, rates = make_points(read, measured.fits, gains, black)
        read_modes, row_modes = modes_of(points)
        maps_file = pattern = None
        if maps:
            tell("making the maps of the fixed pattern")
            maps_file, pattern = make_maps(measured.means, read_modes.breaks_iso, flats, gain_fits, sums)
    saturation = gain_fits[0].saturation_dn if gain_fits else white - float(read[min(read)].level_dn.mean())
    linear = [fit_linearity(sums[iso], levels[iso], saturation) for iso in sums]
    evidence = Evidence(
        darks=tuple(measured.fits),
        read=read,
        gains=tuple(gain_fits),
        gain_source=gains.source,
        linearity=max(filter(None, linear), key=lambda item: item.used.sum(), default=None),
        read_modes=read_modes,
        row_modes=row_modes,
        rates_dn_per_s=rates,
        fidelity=measured.fidelity,
        pattern=pattern,
        saturation_dn=saturation,
        dark_frames=sum(len(stack) for stack in darks),
        flat_frames=sum(len(stack) for stack in flats),
        notes=gains.notes,
    )
    levels_dn = _Levels(black, white, bit_depth)
    profile = _profile(stacks, make, model, levels_dn, points, evidence, gains.unverified, tool_version)
    checks += [*gains.checks, *_passed([*checks, *gains.checks], bool(gain_fits))]
    order = {"stop": 0, "note": 1, "ok": 2}
    checks.sort(key=lambda check: order[check.severity])
    return Calibration(profile, maps_file, evidence, tuple(checks))


@dataclass(frozen=True, eq=False)
class _Levels:
    """Of the converter."""

    black_dn: FloatArray
    """(2, 2) nominal black by position [DN]."""
    white_dn: float
    """Saturation [DN]."""
    bit_depth: int
    """[bit]."""


def _profile(
    stacks: Sequence[FrameStack],
    make: str,
    model: str,
    levels: _Levels,
    points: tuple[GainPoint, ...],
    evidence: Evidence,
    unverified: tuple[str, ...],
    tool_version: str,
) -> CameraProfile:
    """Put the profile together."""
    temperatures = [value for stack in stacks for value in stack.temperatures_c]
    info, region, black = stacks[0].info, stacks[0].region, levels.black_dn
    return CameraProfile(
        make=make or info.make or "unknown",
        model=model or info.model or "camera",
        variant=region.name if region else "",  # a part of a sensor is not the profile of the camera
        geometry="mono" if info.cfa == "MONO" else "bayer",
        cfa=info.cfa,  # pyright: ignore[reportArgumentType]
        bit_depth=levels.bit_depth,
        black_dn=((black[0, 0], black[0, 1]), (black[1, 0], black[1, 1])),
        white_dn=levels.white_dn,
        points=points,
        breaks_iso=evidence.read_modes.breaks_iso,
        scatter=Scatter(
            ln_read=evidence.read_modes.scatter, ln_row=evidence.row_modes.scatter if evidence.row_modes else 0.0
        ),
        provenance=Provenance(
            date=datetime.now(UTC).date().isoformat(),
            sources=("denoise calibrate",),
            tool_version=tool_version,
            dark_frames=evidence.dark_frames,
            flat_frames=evidence.flat_frames,
            temperature_c=float(np.mean(temperatures)) if temperatures else None,
            unverified=unverified,
            notes=evidence.notes,
        ),
    )


def _silent(text: str) -> None:
    del text


def _sorted(stacks: Sequence[FrameStack]) -> tuple[list[FrameStack], list[FrameStack], list[Check]]:
    """Return darks and flats of two frames or more, and a note on those left out."""
    darks = [stack for stack in stacks if stack.kind == "dark"]
    flats = [stack for stack in stacks if stack.kind == "flat"]
    if not darks:
        raise CalibrationError(
            "No dark frame was given, but calibration begins with them: they show the black level and the read noise. "
            "Shoot some with the lens capped and give them with --darks."
        )
    usable = [stack for stack in darks if len(stack) >= 2]
    if not usable:
        sum_darks(darks[0])  # raises, and says why one frame is not enough
    single = [stack for stack in (*darks, *flats) if len(stack) < 2]
    checks = []
    if single:
        where = ", ".join(f"{stack.kind} ISO {stack.iso:g} {stack.exposure_s:g} s" for stack in single[:4])
        checks.append(
            Check("repeated frames", "note", f"{len(single)} stacks of one frame were left out ({where})",
                  "Shoot every combination of ISO, exposure and light twice or more.")
        )  # fmt: skip
    return usable, [stack for stack in flats if len(stack) >= 2], checks


def _white(flats: Sequence[FrameStack], info: FrameInfo, checks: list[Check]) -> tuple[float, int]:
    """Return white [DN] and the converter's depth [bit], from the brightest flats where no file states them."""
    if info.white_dn is not None:
        return info.white_dn, info.bit_depth or max(8, int(np.ceil(np.log2(info.white_dn + 1))))
    depth, why = 16, "no flat frame shows it"
    if flats:
        by_light = sorted(flats, key=lambda stack: (stack.photons_per_pixel or 0.0, stack.exposure_s))
        brightest = {stack.iso: stack for stack in by_light}.values()
        highest = max(float(frame.mosaic.max()) for stack in brightest for frame in stack)
        depth = min(max(8, int(np.ceil(np.log2(highest + 1)))), 16)
        why = f"the highest value of the brightest flats is {highest:.0f} DN"
    white = 2.0**depth - 1
    checks.append(
        Check("white level", "note", f"no file states it; {white:.0f} DN is assumed, because {why}",
              "If the converter reaches another one, add a pair of overexposed flats.")
    )  # fmt: skip
    return white, depth


def _passed(checks: Sequence[Check], has_flats: bool) -> list[Check]:
    """Return what was looked at and found in order."""
    names = ["dark frames not clipped", "dark frames even", "dark level steady", "enough dark frames"]
    if has_flats:
        names += [
            "enough brightnesses",
            "flats even",
            "light steady",
            "photon transfer straight",
            "flats and darks agree",
        ]
    seen = {check.name for check in checks}
    return [Check(name, "ok", "in order") for name in names if name not in seen]
