# ruff: noqa: RUF001  Greek letters are meant
"""The report's figures, one function each, as SVG text. Needs matplotlib; no window is opened."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from noise_models.base import CalibrationError
from noise_models.calibration.estimate import Calibration
from noise_models.calibration.probability_plot import PlotPoints, distorted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]

_INK: Final = "#1b2a41"
_SECOND: Final = "#c8553d"
_THIRD: Final = "#3a7d44"
_FAINT: Final = "#9aa5b1"
_WIDTH: Final = 5.2


def _new(rows: int = 1, height: float = 3.6, **kinds: Any) -> tuple[Figure, list[Axes]]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CalibrationError(
            "The report needs matplotlib and jinja2. Install them with: pip install 'denoise-toolkit[report]'"
        ) from error
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, 1, squeeze=False, **kinds)[:, 0]
    for axis in axes:
        axis.grid(True, color="#e3e7ec", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=9)
    return figure, list(axes)


def _svg(figure: Figure, title: str) -> str:
    import matplotlib as mpl

    text = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "denoise", "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    width, height = (float(value) for value in re.findall(r'(?:width|height)="([\d.]+)pt"', svg)[:2])
    svg = re.sub(r'(width|height)="[\d.]+pt"', "", svg, count=2)
    prefix = re.sub(r"\W+", "-", title.lower())
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{title}" data-size="{width:.0f}x{height:.0f}"', 1)


def _legend(axis: Axes) -> None:
    axis.legend(fontsize=8, framealpha=0.85, edgecolor="none")


def photon_transfer(found: Calibration) -> str | None:
    """Draw variance against signal, with residuals below."""
    fits = found.evidence.gains
    if not fits:
        return None
    figure, (curve, residual) = _new(2, 5.2 + 0.1 * len(fits), sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    colours = _colours(len(fits))
    for fit, colour in zip(fits, colours, strict=True):
        signal = np.maximum(fit.curve_dn, 1e-1)
        used = fit.curve_used
        curve.errorbar(
            signal[used], fit.curve_variance_dn2[used], fit.curve_error_dn2[used], fmt="o", ms=3, lw=0.8, color=colour,
            label=f"ISO {fit.iso:g}: K = {fit.gain_dn_per_e.value:.4g} ± {fit.gain_dn_per_e.error:.2g} DN/e⁻",
        )  # fmt: skip
        above = ~used & (fit.curve_variance_dn2 > 0)
        curve.plot(signal[above], fit.curve_variance_dn2[above], "o", ms=3, mfc="none", color=colour)
        line = np.geomspace(max(signal.min(), 1e-1), max(signal.max(), 1.0), 200)
        curve.plot(line, fit.gain_dn_per_e.value * line + fit.intercept_dn2.value, lw=0.9, color=colour)
        residual.plot(signal[used], fit.residual_percent[used], "o-", ms=2.5, lw=0.6, color=colour)
    curve.set(xscale="log", yscale="log", ylabel="variance [DN²]")
    residual.axhline(0, color=_FAINT, lw=0.8)
    residual.set(xlabel="signal above black [DN]", ylabel="residual [%]")
    figure.legend(
        fontsize=7.5,
        handlelength=1.0,
        columnspacing=1.0,
        edgecolor="none",
        loc="outside upper center",
        ncols=min(2, len(fits)),
    )
    return _svg(figure, "Photon transfer")


def _colours(count: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["viridis"](0.85 * index / max(count - 1, 1)) for index in range(count)]


def read_noise(found: Calibration) -> str:
    """Draw read, row and column noise against ISO, in DN and electrons."""
    points = found.profile.points
    known = found.profile.knows_gain
    figure, axes = _new(2 if known else 1, 5.0 if known else 3.4, sharex=True)
    iso = np.array([point.iso for point in points])
    series = (
        ("read", [point.read_sigma_dn for point in points], [point.errors.read_sigma_dn for point in points], _INK),
        ("row", [point.row_sigma_dn for point in points], [point.errors.row_sigma_dn for point in points], _SECOND),
        ("column", [p.column_sigma_dn for p in points], [p.errors.column_sigma_dn for p in points], _THIRD),
    )
    for name, values, errors, colour in series:
        value, error = np.array(values, float), np.array([item or 0.0 for item in errors])
        if value.max() <= 0:
            continue
        axes[0].errorbar(iso, value, error, fmt="o-", ms=3.5, lw=1, color=colour, label=name)
        if known:
            gain = np.array([point.gain_dn_per_e or np.nan for point in points])
            axes[1].errorbar(iso, value / gain, error / gain, fmt="o-", ms=3.5, lw=1, color=colour, label=name)
    for axis, unit in zip(axes, ("DN", "e⁻"), strict=False):
        axis.set(xscale="log", yscale="log", ylabel=f"noise [{unit}]")
        for edge in found.profile.breaks_iso:
            axis.axvline(edge, color=_FAINT, ls="--", lw=0.8)
    axes[-1].set_xlabel("ISO")
    _ticks(axes[-1], iso)
    for axis in axes:
        _label_logarithmic(axis)
    _legend(axes[0])
    return _svg(figure, "Read noise")


def _label_logarithmic(axis: Axes) -> None:
    """Label 1, 2 and 5 of every decade of the ordinate, so that one of less than a decade has labels too."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axis.get_ylim()
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,)))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _ticks(axis: Axes, iso: FloatArray) -> None:
    axis.set_xticks(iso, [f"{value:g}" for value in iso], rotation=45 if len(iso) > 6 else 0)
    axis.minorticks_off()


def probability(found: Calibration) -> str:
    """Draw the quantiles of the read noise against those of a Gaussian and of the Tukey-lambda law."""
    fits = list(found.evidence.read.values())
    chosen = fits[-1]
    figure, (axis,) = _new(1, 3.8)
    plot = chosen.plot
    few = np.unique(np.linspace(0, len(plot.values) - 1, 400).astype(int))
    share, values = plot.probability[few], plot.values[few]
    z = ndtri(share)
    gaussian = z * np.sqrt(chosen.pixel_variance_dn2.value + 1 / 12)
    seen = PlotPoints(values, share, plot.weight[few])
    law = distorted(chosen.read_lambda.value, chosen.read_scale_dn.value, chosen.distortion, seen).values
    axis.plot(z, values, "o", ms=2.5, color=_INK, label="measured")
    axis.plot(z, gaussian, lw=1, color=_FAINT, label=f"Gaussian, R² = {chosen.gaussian_r2:.5f}")
    label = f"Tukey-lambda {chosen.read_lambda.value:+.3f}, R² = {chosen.r2:.5f}"
    axis.plot(z, law, lw=1, color=_SECOND, label=label)
    axis.set(xlabel="Gaussian quantile [σ]", ylabel=f"read noise at ISO {chosen.iso:g} [DN]")
    _legend(axis)
    return _svg(figure, "Probability plot")


def spectra(found: Calibration) -> str:
    """Draw the power of row and column means by frequency, white noise being 1."""
    chosen = list(found.evidence.read.values())[-1]
    figure, (axis,) = _new(1, 3.4)
    for name, spectrum, ratio, colour in (
        ("rows", chosen.row_spectrum, chosen.row_banding, _SECOND),
        ("columns", chosen.column_spectrum, chosen.column_banding, _THIRD),
    ):
        groups = np.array_split(spectrum, min(len(spectrum), 160))
        power = [float(part.mean()) for part in groups]
        frequency = (np.arange(len(power)) + 0.5) / (2 * len(power))
        axis.plot(frequency, power, lw=1, color=colour, label=f"{name}: banding ratio {ratio:.2f}")
    axis.axhline(1, color=_FAINT, lw=0.8)
    axis.set(yscale="log", xlabel="frequency [1/px]", ylabel=f"power / white noise, ISO {chosen.iso:g}")
    _legend(axis)
    return _svg(figure, "Row and column spectra")


def shading_map(found: Calibration) -> str | None:
    """Draw the dark shading at the highest ISO."""
    pattern = found.evidence.pattern
    if pattern is None:
        return None
    limit = float(np.quantile(np.abs(pattern.shading), 0.995)) or 1.0
    return _map(
        pattern.shading, f"dark shading at ISO {found.profile.points[-1].iso:g} [DN]", "RdBu_r", (-limit, limit)
    )


def hot_map(found: Calibration) -> str | None:
    """Draw where hot pixels lie."""
    pattern = found.evidence.pattern
    if pattern is None:
        return None
    top = max(float(pattern.hot_density.max()), 1.0)
    return _map(pattern.hot_density, "hot pixels in each cell [1]", "magma_r", (0.0, top), title="Hot pixels")


def _map(
    values: npt.NDArray[np.float32], label: str, colours: str, limits: tuple[float, float], title: str = "Dark shading"
) -> str:
    figure, (axis,) = _new(1, _WIDTH * min(max(values.shape[0] / values.shape[1], 0.4), 1.2) * 0.85)
    axis.grid(False)
    image = axis.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1], interpolation="nearest", aspect="equal")
    axis.set(xticks=[], yticks=[])
    figure.colorbar(image, ax=axis, label=label, shrink=0.85)
    return _svg(figure, title)


def linearity(found: Calibration) -> str | None:
    """Draw the deviation of the signal from a straight line in the light."""
    fit = found.evidence.linearity
    if fit is None:
        return None
    figure, (curve, residual) = _new(2, 4.8, sharex=True, gridspec_kw={"height_ratios": [2, 1]})
    unit = "photons per pixel" if fit.light_unit == "photons" else "exposure [s]"
    curve.plot(fit.light, fit.signal_dn, "o", ms=3, mfc="none", color=_INK)
    curve.plot(fit.light[fit.used], fit.signal_dn[fit.used], "o", ms=3, color=_INK)
    residual.plot(fit.light[fit.used], fit.residual_percent[fit.used], "o-", ms=3, lw=0.8, color=_SECOND)
    residual.axhline(0, color=_FAINT, lw=0.8)
    curve.set_ylabel("signal [DN]")
    residual.set(xlabel=unit, ylabel="residual [%]")
    return _svg(figure, "Linearity")


def black_level(found: Calibration) -> str:
    """Draw the black-level error by ISO, and by exposure where several were taken."""
    black = float(np.mean(found.profile.black_dn))
    darks = found.evidence.darks
    times = sorted({fit.exposure_s for fit in darks})
    figure, axes = _new(2 if len(times) > 1 else 1, 5.0 if len(times) > 1 else 3.2)
    points = found.profile.points
    iso = np.array([point.iso for point in points])
    names = ("(0,0)", "(0,1)", "(1,0)", "(1,1)")
    for place, (name, mark) in enumerate(zip(names, "osd^", strict=True)):
        row, column = divmod(place, 2)
        values = [point.bias_dn[row][column] for point in points]
        errors = [point.errors.bias_dn or 0.0 for point in points]
        axes[0].errorbar(iso, values, errors, fmt=f"{mark}-", ms=3.5, lw=0.8, label=f"position {name}")
    axes[0].set(xscale="log", xlabel="ISO", ylabel="black-level error [DN]")
    _ticks(axes[0], iso)
    _legend(axes[0])
    if len(times) > 1:
        isos = sorted({fit.iso for fit in darks})
        for value, colour in zip(isos, _colours(len(isos)), strict=True):
            same = sorted((fit.exposure_s, float(fit.level_dn.mean()) - black) for fit in darks if fit.iso == value)
            axes[1].plot([max(t, 1e-6) for t, _ in same], [d for _, d in same], "o-", ms=3, lw=0.8, color=colour,
                         label=f"ISO {value:g}")  # fmt: skip
        axes[1].set(xscale="log", xlabel="exposure [s]", ylabel="dark level − black [DN]")
        _legend(axes[1])
    return _svg(figure, "Black level")


def dynamic_range(found: Calibration) -> str | None:
    """Draw saturation over read noise by ISO."""
    if not found.profile.knows_gain:
        return None
    points = found.profile.points
    iso = np.array([point.iso for point in points])
    noise = [np.hypot(np.hypot(p.read_sigma_dn, p.row_sigma_dn), np.sqrt(1 / 12)) for p in points]
    stops = np.log2(found.evidence.saturation_dn / np.array(noise))
    figure, (axis,) = _new(1, 3.0)
    axis.plot(iso, stops, "o-", ms=4, lw=1, color=_INK)
    axis.set(xscale="log", xlabel="ISO", ylabel="dynamic range [EV]")
    _ticks(axis, iso)
    return _svg(figure, "Dynamic range")


FIGURES: Final[tuple[tuple[str, str, Callable[[Calibration], str | None]], ...]] = (
    ("Photon transfer", "The variance of light grows with its mean; the slope is the gain K. Filled points, below 70 % "
     "of saturation, were fitted.", photon_transfer),
    ("Read noise against ISO", "In DN it grows with the gain; in electrons it falls, and falls back at once where the "
     "sensor switches its conversion gain (dashed).", read_noise),
    ("Shape of the read noise", "Dots on the grey line would be a Gaussian; ends that bend outwards are heavy tails, "
     "which the Tukey-lambda law follows.", probability),
    ("Row and column spectra", "Power of row and column means over that of white noise: 1 means no banding.", spectra),
    ("Dark shading", "The mean dark frame at the highest ISO, above its own mean.", shading_map),
    ("Hot pixels", "Where pixels stand out in the dark.", hot_map),
    ("Linearity", "Signal against light, and its deviation from a straight line between 5 % and 70 %.", linearity),
    ("Black level", "Measured dark mean minus nominal black, for each position of the 2x2 cell.", black_level),
    ("Dynamic range", "Saturation over the noise without light, per pixel.", dynamic_range),
)  # fmt: skip
"""Heading, caption, and the function that draws it; a figure without data is left out."""
