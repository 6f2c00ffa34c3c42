"""The noise of an image from its score, on images whose score is known exactly."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from denoise.errors import DenoiseError
from denoise.noise_from_score import detect_family, estimate_parameter, respond, search_parameter
from denoise.training.sources.noisy_sources import Family, spoil

CASES: list[tuple[Family, float]] = [
    ("gaussian", 10 / 255), ("gaussian", 25 / 255), ("gaussian", 50 / 255),
    ("poisson", 0.005), ("poisson", 0.03), ("gamma", 50.0), ("gamma", 100.0),
]  # fmt: skip


def picture() -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(128.0), torch.arange(192.0), indexing="ij")
    waves = 0.45 + 0.35 * torch.sin(rows / 15) * torch.cos(columns / 21)
    return torch.stack([waves, 0.8 * waves + 0.1, 0.9 - waves])[None]


def score_of(family: Family, parameter: float, clean: Tensor) -> Callable[[Tensor], Tensor]:
    """The score where the clean image is known for certain: of the noise's own law."""
    if family == "gaussian":
        return lambda y: (clean - y) / parameter**2
    if family == "poisson":
        return lambda y: ((clean / parameter).log() - torch.digamma(y / parameter + 1)) / parameter
    if family == "gamma":
        return lambda y: (parameter - 1) / y - parameter / clean
    return lambda y: (clean - y) / (parameter * clean + parameter / 2)


@pytest.mark.parametrize(("family", "parameter"), CASES)
def test_the_parameter_is_found(family: Family, parameter: float) -> None:
    """Sigma within 5 %, zeta and k within 10 %; the family is found as well."""
    generator = torch.Generator().manual_seed(5)
    clean = picture().double()
    noisy = spoil(clean, family, parameter, generator).clamp_min(1e-4)
    response = respond(score_of(family, parameter, clean), noisy, generator=generator)
    found = estimate_parameter(response, family)  # type: ignore[arg-type]
    assert found == pytest.approx(parameter, rel=0.05 if family == "gaussian" else 0.1)
    assert detect_family(response).family == family


@pytest.mark.parametrize(("family", "parameter"), [("gaussian", 25 / 255), ("poisson", 0.02), ("gamma", 80.0)])
def test_the_penalty_search_is_near(family: Family, parameter: float) -> None:
    generator = torch.Generator().manual_seed(6)
    clean = picture()
    noisy = spoil(clean, family, parameter, generator).clamp_min(1e-4)
    found = search_parameter(noisy, score_of(family, parameter, clean)(noisy), family)  # type: ignore[arg-type]
    assert math.log(found / parameter) == pytest.approx(0, abs=0.2)


def test_uncertain_texture_does_not_pass_for_noise() -> None:
    """In half of the picture the score falls only half as steeply, as where texture is uncertain."""
    generator = torch.Generator().manual_seed(10)
    clean = picture()
    noisy = spoil(clean, "gaussian", 0.1, generator)
    certain = (torch.arange(192) < 96).float() * 0.5 + 0.5
    response = respond(lambda y: certain * (clean - y) / 0.01, noisy, generator=generator)
    assert estimate_parameter(response, "gaussian") == pytest.approx(0.1, rel=0.05)


def test_a_sensors_noise_is_told_from_pure_families() -> None:
    generator = torch.Generator().manual_seed(7)
    clean = picture()
    noisy = spoil(clean, "shot-and-read", 0.01, generator)
    estimate = detect_family(respond(score_of("shot-and-read", 0.01, clean), noisy, generator=generator))
    assert estimate.family == "shot-and-read"
    assert 0.25 < estimate.index < 0.75


def test_it_refuses_when_unsure() -> None:
    """An even grey cannot tell; a variance that falls with brightness is no family."""
    generator = torch.Generator().manual_seed(8)
    grey = torch.full((1, 3, 64, 64), 0.5)
    even = detect_family(respond(score_of("gaussian", 0.1, grey), grey + 0.01, generator=generator))
    assert even.family is None
    assert "brightness" in even.reason
    clean = picture()
    strange = detect_family(respond(lambda y: (clean - y) * clean**1.5 / 0.01, clean, generator=generator))
    assert strange.family is None
    assert strange.index < -1


def test_what_cannot_be_estimated_is_said() -> None:
    generator = torch.Generator().manual_seed(9)
    tiny = torch.zeros(1, 1, 8, 8)
    with pytest.raises(DenoiseError, match="blocks of it answer"):
        estimate_parameter(respond(lambda y: -y, tiny, generator=generator), "poisson")
    with pytest.raises(DenoiseError, match="not known"):
        search_parameter(tiny, tiny, "gausian")  # type: ignore[arg-type]
