"""What one ISO does to light, and how well that is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field, model_validator

from noise_models.base import ProfileError
from noise_models.names import nearest
from noise_models.tukey_lambda import LOWEST_LAMBDA, scale_from_sigma, sigma_from_scale

ByPosition = tuple[tuple[float, float], tuple[float, float]]
"""One value for each (row, column) of the 2x2 cell."""
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]

ZERO_BY_POSITION: ByPosition = ((0.0, 0.0), (0.0, 0.0))

# How far a sigma written beside scale and lambda may lie from them: the last digits of a rounded file, no more.
_SIGMA_TOLERANCE = 5e-3


class FrozenFile(BaseModel):
    """A part of a profile file: frozen, finite numbers only, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def describe(error: ValidationError, what: str, known: tuple[str, ...]) -> str:
    """Turn pydantic's report into one line: where, what was found, what was expected."""
    found = []
    for item in error.errors(include_url=False):
        place = ".".join(str(step) for step in item["loc"])
        if item["type"] == "extra_forbidden":
            found.append(f"unknown key '{place}' ({nearest(str(item['loc'][-1]), known)})")
        elif item["type"] == "missing":
            found.append(f"'{place}' is missing")
        elif item["type"] == "value_error":
            found.append(str(item.get("ctx", {}).get("error", item["msg"])))
        else:
            value = "" if isinstance(item["input"], dict) else f" = {item['input']!r}"
            found.append(f"{place}{value}: {item['msg'][:1].lower()}{item['msg'][1:]}")
    return f"{what} is not valid: {'; '.join(found)}. Correct it, or calibrate the camera again."


class StandardErrors(FrozenFile):
    """One standard deviation of the estimate of each field of a `GainPoint`; None where it was not stated."""

    gain_dn_per_e: NotNegative | None = None
    """Of the gain [DN/e-]."""
    read_scale_dn: NotNegative | None = None
    """Of the read noise's scale [DN]."""
    read_lambda: NotNegative | None = None
    """Of the read noise's shape [1]."""
    read_sigma_dn: NotNegative | None = None
    """Of the read noise's standard deviation [DN]."""
    row_sigma_dn: NotNegative | None = None
    """Of the row noise [DN]."""
    column_sigma_dn: NotNegative | None = None
    """Of the column noise [DN]."""
    bias_dn: NotNegative | None = None
    """Of the black-level error, the worst position [DN]."""
    dark_current_e_per_s: NotNegative | None = None
    """Of the dark current [e-/s]."""


class Scatter(FrozenFile):
    """How far single frames stray from the profile: residual standard deviations of natural logarithms."""

    ln_read: NotNegative = 0.0
    """Of ln(read scale) [1]."""
    ln_row: NotNegative = 0.0
    """Of ln(row sigma) [1]."""


class GainPoint(FrozenFile):
    """What the sensor does at one ISO, in DN above black.

    Raises
    ------
    ProfileError
        If a value is impossible (negative sigma, lambda <= -0.5, NaN), a key is unknown, or a ``read_sigma_dn`` that
        stands beside scale and lambda contradicts them.
    """

    iso: Positive
    """Sensitivity as the camera names it [ISO]."""
    gain_dn_per_e: Positive | None
    """System gain K [DN/e-]; None where only dark frames were measured."""
    read_scale_dn: NotNegative
    """Scale of the Tukey-lambda read noise [DN]; not its standard deviation."""
    read_lambda: Annotated[float, Field(gt=LOWEST_LAMBDA, le=2)]
    """Shape of the read noise [1]: 0.14 is near a Gaussian, less has heavier tails."""
    row_sigma_dn: NotNegative = 0.0
    """Standard deviation of the value that a whole sensor row shares [DN]."""
    column_sigma_dn: NotNegative = 0.0
    """Standard deviation of the value that a whole sensor column shares [DN]."""
    bias_dn: ByPosition = ZERO_BY_POSITION
    """Black-level error, measured dark mean minus the nominal black, by position in the 2x2 cell [DN]."""
    bias_sigma_dn: NotNegative = 0.0
    """Standard deviation from frame to frame of the dark mean [DN]."""
    dark_current_e_per_s: NotNegative | None = None
    """Dark current [e-/s]; None where it was not measured."""
    fit_r2: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the read noise's quantiles that the Tukey-lambda law explains [1]."""
    errors: StandardErrors = StandardErrors()
    """Standard errors of the above."""

    @computed_field
    @property
    def read_sigma_dn(self) -> float:
        """Standard deviation of the read noise [DN], from scale and lambda."""
        return sigma_from_scale(self.read_scale_dn, self.read_lambda)

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, values: Any, handler: Any) -> Any:
        stated = None
        if isinstance(values, dict) and "read_sigma_dn" in values:
            values = dict(values)
            stated = values.pop("read_sigma_dn")
        try:
            point = handler(values)
        except ValidationError as error:
            iso = values.get("iso") if isinstance(values, dict) else None
            raise ProfileError(
                describe(error, f"The gain point at ISO {iso}", (*cls.model_fields, "read_sigma_dn"))
            ) from None
        if stated is not None:
            _check_sigma(point, stated)
        return point


def _check_sigma(point: GainPoint, stated: object) -> None:
    expected = point.read_sigma_dn
    value = float(stated) if isinstance(stated, int | float) else math.nan
    if not abs(value - expected) <= _SIGMA_TOLERANCE * max(expected, 1e-9):
        raise ProfileError(
            f"The gain point at ISO {point.iso:g} states read_sigma_dn {stated}, but read_scale_dn "
            f"{point.read_scale_dn:g} with read_lambda {point.read_lambda:g} gives {expected:.6g} DN. "
            "Change all three together, or remove read_sigma_dn and let it follow from the other two."
        )


def between(low: GainPoint, high: GainPoint, iso: float) -> GainPoint:
    """Interpolate two neighbours at ``iso``: straight in ln ISO, values above 0 in ln."""
    share = math.log(iso / low.iso) / math.log(high.iso / low.iso)

    def line(first: float, second: float) -> float:
        return first + share * (second - first)

    def power(first: float | None, second: float | None) -> float | None:
        if first is None or second is None:
            return None
        return math.exp(line(math.log(first), math.log(second))) if min(first, second) > 0 else line(first, second)

    def worst(first: float | None, second: float | None, choose: Callable[..., float] = max) -> float | None:
        return None if first is None or second is None else choose(first, second)

    shape = line(low.read_lambda, high.read_lambda)
    bias = np.asarray(low.bias_dn) * (1 - share) + np.asarray(high.bias_dn) * share
    names = StandardErrors.model_fields
    return GainPoint(
        iso=iso,
        gain_dn_per_e=power(low.gain_dn_per_e, high.gain_dn_per_e),
        read_scale_dn=scale_from_sigma(power(low.read_sigma_dn, high.read_sigma_dn) or 0.0, shape),
        read_lambda=shape,
        row_sigma_dn=power(low.row_sigma_dn, high.row_sigma_dn) or 0.0,
        column_sigma_dn=power(low.column_sigma_dn, high.column_sigma_dn) or 0.0,
        bias_dn=((bias[0, 0], bias[0, 1]), (bias[1, 0], bias[1, 1])),
        bias_sigma_dn=power(low.bias_sigma_dn, high.bias_sigma_dn) or 0.0,
        dark_current_e_per_s=power(low.dark_current_e_per_s, high.dark_current_e_per_s),
        fit_r2=worst(low.fit_r2, high.fit_r2, min),
        errors=StandardErrors(**{name: worst(getattr(low.errors, name), getattr(high.errors, name)) for name in names}),
    )
