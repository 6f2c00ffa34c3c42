# ruff: noqa: RUF001  Greek letters are meant
"""One self-contained HTML page of a calibration: verdict, numbers with errors, curves. No script, no request."""

from __future__ import annotations

import contextlib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noise_models.base import CalibrationError
from noise_models.calibration.estimate import Calibration
from noise_models.calibration.figures import FIGURES

_TEMPLATE = Path(__file__).with_name("report.html.jinja")


@dataclass(frozen=True)
class Row:
    """One line of the table of numbers."""

    symbol: str
    """As in formulas."""
    meaning: str
    """In words."""
    unit: str
    """Of value and error."""
    value: str
    """Rounded to its error."""
    error: str
    """One standard error; empty where it is not stated."""


def with_error(value: float | None, error: float | None) -> tuple[str, str]:
    """Return value and error as text, rounded to two digits of the error."""
    if value is None:
        return "not measured", ""
    if not error:
        return f"{value:.0f}" if abs(value) >= 1e4 else f"{value:.4g}", ""
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f}", f"{error:.{digits}f}"


def rows(found: Calibration, index: int) -> list[Row]:
    """Return the table of one ISO."""
    point = found.profile.points[index]
    errors = point.errors
    gain = point.gain_dn_per_e
    figures: list[tuple[str, str, str, float | None, float | None]] = [
        ("K", "system gain", "DN/e⁻", gain, errors.gain_dn_per_e),
        ("σ_read", "read noise, standard deviation", "DN", point.read_sigma_dn, errors.read_sigma_dn),
        ("λ", "its shape: 0.14 Gaussian, less has heavier tails", "1", point.read_lambda, errors.read_lambda),
        ("s", "its Tukey-lambda scale", "DN", point.read_scale_dn, errors.read_scale_dn),
        ("σ_row", "value that a row shares", "DN", point.row_sigma_dn, errors.row_sigma_dn),
        ("σ_col", "value that a column shares", "DN", point.column_sigma_dn, errors.column_sigma_dn),
    ]
    if gain is not None:
        error = math.hypot(
            (errors.read_sigma_dn or 0) / gain, point.read_sigma_dn * (errors.gain_dn_per_e or 0) / gain**2
        )
        figures.insert(2, ("σ_read/K", "read noise in electrons", "e⁻", point.read_sigma_dn / gain, error))
        figures.append(("N_sat", "full well that the range reaches", "e⁻", found.evidence.saturation_dn / gain, None))
    for place, name in enumerate(("μ(0,0)", "μ(0,1)", "μ(1,0)", "μ(1,1)")):
        row, column = divmod(place, 2)
        figures.append((name, "black-level error", "DN", point.bias_dn[row][column], errors.bias_dn))
    figures.append(("σ_bias", "dark level, frame to frame", "DN", point.bias_sigma_dn, None))
    rate = found.evidence.rates_dn_per_s.get(point.iso)
    if rate is not None:
        figures.append(("μ'", "growth of the dark level", "DN/s", rate.value, rate.error))
    if point.dark_current_e_per_s is not None:
        figures.append(("I_dark", "dark current", "e⁻/s", point.dark_current_e_per_s, errors.dark_current_e_per_s))
    lines = [Row(symbol, meaning, unit, *with_error(value, error)) for symbol, meaning, unit, value, error in figures]
    return [*lines, Row("R²", "of the probability plot", "1", f"{point.fit_r2:.5f}" if point.fit_r2 else "-", "")]


def render(found: Calibration) -> str:
    """Return the page.

    Parameters
    ----------
    found : Calibration
        With its evidence.

    Returns
    -------
    str
        HTML without scripts and without any address to fetch.

    Raises
    ------
    CalibrationError
        If jinja2 or matplotlib is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise CalibrationError(
            "The report needs matplotlib and jinja2. Install them with: pip install 'denoise-toolkit[report]'"
        ) from error
    figures: list[dict[str, Any]] = []
    for heading, caption, draw in FIGURES:
        svg = draw(found)
        if svg is not None:
            figures.append({"heading": heading, "caption": caption, "svg": Markup(svg)})
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    profile, evidence = found.profile, found.evidence
    return template.render(
        profile=profile,
        evidence=evidence,
        go=found.go,
        checks=found.checks,
        figures=figures,
        tables=[(point, rows(found, index)) for index, point in enumerate(profile.points)],
        found_proxy=found.proxy is not None,
        fidelity=[(iso, distances) for iso, distances in evidence.fidelity.items() if distances],
    )


def write_report(found: Calibration, path: Path) -> Path:
    """Write the page whole or not at all, and return where it lies.

    Raises
    ------
    CalibrationError
        As `render`; or if the place cannot be written to.
    """
    text = render(found)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise CalibrationError(
            f"The report {path} cannot be written: {error.strerror or error}. Pass another --report."
        ) from error
    return path
