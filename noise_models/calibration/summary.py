"""A calibration in a few lines, for a terminal or another program."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from noise_models.calibration.estimate import Calibration
from noise_models.gain_point import GainPoint


def as_text(found: Calibration, target: Path, page: Path | None) -> list[str]:
    """Return the verdict, what was found, and a line for each ISO.

    Parameters
    ----------
    found : Calibration
        The result.
    target, page : path
        Where profile and report lie.

    Returns
    -------
    list of str
        Lines of plain text.
    """
    profile = found.profile
    evidence = found.evidence
    lines = [
        f"{profile.make} {profile.model}, {evidence.dark_frames} dark and {evidence.flat_frames} flat frames",
        "    ISO    K DN/e-   read DN  read e-  lambda  row DN column DN",
    ]
    lines += [_line(point) for point in profile.points]
    if profile.breaks_iso:
        lines.append(f"the conversion gain switches at ISO {', '.join(f'{iso:g}' for iso in profile.breaks_iso)}")
    if found.proxy is not None:
        lines += _fidelity(found)
    for check in found.checks:
        if check.severity != "ok":
            lines.append(f"{check.severity}: {check.name}: {check.found}. {check.remedy}".rstrip())
    lines.append(f"verdict: {'go' if found.go else 'no-go'}")
    if found.go:
        lines.append(f"profile: {target}")
    if page is not None:
        lines.append(f"report: {page}")
    return lines


def _line(point: GainPoint) -> str:
    gain = point.gain_dn_per_e
    electrons = f"{point.read_sigma_dn / gain:8.2f}" if gain else f"{'-':>8}"
    return (
        f"{point.iso:7g} {f'{gain:10.4f}' if gain else '   unknown'} {point.read_sigma_dn:9.3f} {electrons} "
        f"{point.read_lambda:7.3f} {point.row_sigma_dn:7.3f} {point.column_sigma_dn:9.3f}"
    )


def _fidelity(found: Calibration) -> list[str]:
    """Return how far each model's frames are from real ones."""
    lines = ["    ISO    KL from held-back darks [nat]"]
    for iso, distances in found.evidence.fidelity.items():
        if distances:
            models = ", ".join(f"{item.model} {item.kl:.5f}" for item in distances)
            lines.append(f"{iso:7g}    {models} (by chance {distances[-1].kl_chance:.5f})")
    return lines


def as_record(found: Calibration, target: Path, page: Path | None) -> dict[str, Any]:
    """Return the same as a record of plain values."""
    return {
        "verdict": "go" if found.go else "no-go",
        "profile": str(target) if found.go else None,
        "report": str(page) if page is not None else None,
        "camera": {"make": found.profile.make, "model": found.profile.model},
        "breaks_iso": list(found.profile.breaks_iso),
        "points": [point.model_dump() for point in found.profile.points],
        "fidelity": [
            {"iso": iso, "kl": item.kl, **asdict(item)}
            for iso, distances in found.evidence.fidelity.items()
            for item in distances
        ],
        "checks": [
            {"name": check.name, "severity": check.severity, "found": check.found, "remedy": check.remedy}
            for check in found.checks
        ],
    }
