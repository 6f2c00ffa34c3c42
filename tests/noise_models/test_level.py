"""The noise currency: shapes, limits, arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from noise_models.base import NoiseModelError
from noise_models.level import NoiseLevel


def test_variance_is_a_line_above_black() -> None:
    level = NoiseLevel(np.array([1e-3, 2e-3]), np.array([1e-5, 4e-5]))
    assert level.variance([0.5, 0.25]) == pytest.approx([5.1e-4, 5.4e-4])
    assert level.variance([-0.3, 0.0]) == pytest.approx([1e-5, 4e-5])
    batch = NoiseLevel(np.ones((3, 2)), np.zeros((3, 2)))
    assert batch.channels == 2
    assert batch.variance(0.5).shape == (3, 2)


def test_one_value_serves_any_number_of_planes() -> None:
    spread = NoiseLevel(1e-3, 1e-5, "given").for_channels(4)  # type: ignore[arg-type]
    assert spread.shot.tolist() == [1e-3] * 4
    assert spread.source == "given"
    assert spread.for_channels(4) is spread
    with pytest.raises(NoiseModelError, match="describes 4 planes, but the image has 3"):
        spread.for_channels(3)


def test_pick_and_left() -> None:
    level = NoiseLevel(np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0]), "given")
    assert level.pick([2, 0]).shot.tolist() == [3.0, 1.0]
    quarter = level.left(0.5)
    assert quarter.shot.tolist() == [0.25, 0.5, 0.75]
    assert np.sqrt(quarter.variance(0.3)) == pytest.approx(0.5 * np.sqrt(level.variance(0.3)))
    assert level.left(0.0).variance(1.0).tolist() == [0.0] * 3


@pytest.mark.parametrize(
    ("shot", "read", "words"),
    [
        ([1.0, 2.0], [1.0], "as many shot as read"),
        ([-1e-3], [1e-5], "not negative"),
        ([1e-3], [float("nan")], "finite"),
        ([float("inf")], [1e-5], "finite"),
    ],
)
def test_impossible_values_are_refused(shot: list[float], read: list[float], words: str) -> None:
    with pytest.raises(NoiseModelError, match=words):
        NoiseLevel(np.array(shot), np.array(read))
