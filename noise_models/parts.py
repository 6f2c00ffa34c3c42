"""Parts of a noise model that a caller switches off by name."""

from __future__ import annotations

from collections.abc import Iterable

from noise_models.base import NoiseModelError
from noise_models.names import nearest


def switched_off(without: Iterable[str], parts: tuple[str, ...], model: str) -> frozenset[str]:
    """Return the names of the parts to leave out.

    Raises
    ------
    NoiseModelError
        If the model has no part of that name; the message names the nearest.
    """
    names = frozenset([without] if isinstance(without, str) else without)
    for name in sorted(names):
        if name not in parts:
            raise NoiseModelError(f"The noise model '{model}' has no part '{name}'. {nearest(name, parts)}")
    return names
