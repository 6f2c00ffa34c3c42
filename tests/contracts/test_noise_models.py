"""What every noise model owes its caller; a new entry of NOISE_MODELS is tested the moment it exists."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from noise_models import NOISE_MODELS
from noise_models.base import NoiseModel, NoiseModelError, SensorSettings
from noise_models.pnnp_network import NoiseProxy
from noise_models.profile import CameraProfile
from noise_models.profile_shelf import load_profile
from noise_models.simulate import simulate_dark

ISO = 3200.0
SIDE = 256
SETTINGS = [SensorSettings(iso=ISO, exposure_s=0.01)] * 2
# Heavy tails make variances stray more than a Gaussian's would.
KURTOSIS = 6.0


def camera() -> CameraProfile:
    """Return a shipped camera without black-level error, so that means can be compared."""
    profile = load_profile("sony-a7s2")
    zero = ((0.0, 0.0), (0.0, 0.0))
    points = tuple(point.model_copy(update={"bias_dn": zero, "bias_sigma_dn": 0.0}) for point in profile.points)
    return profile.model_copy(update={"points": points, "scatter": profile.scatter.model_copy(update={"ln_read": 0.0})})


def dark_frame_model(build: Callable[..., Any]) -> NoiseModel:
    """Return the model with darks that the same camera would take."""
    generator = torch.Generator().manual_seed(99)
    darks = [simulate_dark(camera(), ISO, (512, 512), generator=generator) for _ in range(6)]
    return build(camera(), {ISO: darks})


def proxy_model(build: Callable[..., Any]) -> NoiseModel:
    """Return the model with a proxy that begins as Gaussian noise of the camera's size."""
    modes = [camera().mode_points(mode) for mode in range(len(camera().breaks_iso) + 1)]
    return build(camera(), without={"scatter"}, proxy=NoiseProxy.begin(modes))


BUILDERS: dict[str, Callable[[Callable[..., Any]], NoiseModel]] = {
    "dark-frames": dark_frame_model,
    "pnnp": proxy_model,
    "virtual": lambda build: build(),
}


@pytest.fixture(scope="module", params=list(NOISE_MODELS))
def named_model(request: pytest.FixtureRequest) -> tuple[str, NoiseModel]:
    name = str(request.param)
    build = NOISE_MODELS[name]
    return name, BUILDERS[name](build) if name in BUILDERS else build(camera())


def clean_dn(level: float) -> torch.Tensor:
    return torch.full((2, 1, SIDE, SIDE), level)


def spoil(model: NoiseModel, clean: torch.Tensor, seed: int) -> torch.Tensor:
    return model(clean, SETTINGS, generator=torch.Generator().manual_seed(seed))


def test_shape_and_dtype_are_kept_and_the_input_is_left_alone(named_model: tuple[str, NoiseModel]) -> None:
    clean = clean_dn(200.0)
    noisy = spoil(named_model[1], clean, 1)
    assert noisy.shape == clean.shape
    assert noisy.dtype == torch.float32
    assert bool(torch.isfinite(noisy).all())
    assert torch.equal(clean, clean_dn(200.0))


def test_the_same_seed_is_the_same_noise(named_model: tuple[str, NoiseModel]) -> None:
    first, again, other = (spoil(named_model[1], clean_dn(50.0), seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_nothing_depends_on_global_state(named_model: tuple[str, NoiseModel]) -> None:
    before = torch.get_rng_state()
    spoil(named_model[1], clean_dn(50.0), 1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("level_dn", [0.0, 20.0, 3000.0])
def test_mean_is_kept_and_variance_is_that_of_the_noise_level(
    named_model: tuple[str, NoiseModel], level_dn: float
) -> None:
    name, model = named_model
    if name == "virtual":
        pytest.skip("another camera for every image: tests/noise_models/test_virtual.py compares it with its level")
    profile = camera()
    noise = (spoil(model, clean_dn(level_dn), 3) - level_dn).double()
    white = profile.white_dn - profile.black_dn[0][0]
    expected = float(profile.noise_level(ISO).variance(level_dn / white)[0]) * white**2
    row = profile.at(ISO).row_sigma_dn
    # The mean of an image carries its row values: 2 * SIDE of them.
    mean_error = np.sqrt(expected / noise.numel() + row**2 / (2 * SIDE))
    assert abs(float(noise.mean())) < 4 * mean_error
    spread = expected * np.sqrt((KURTOSIS - 1) / noise.numel()) + row**2 * np.sqrt(2 / (2 * SIDE))
    assert float(noise.var()) == pytest.approx(expected, abs=4 * spread)


def test_what_comes_out_is_in_the_converters_range(named_model: tuple[str, NoiseModel]) -> None:
    name, model = named_model
    profile = camera()
    white = profile.white_dn - profile.black_dn[0][0]
    bright = spoil(model, clean_dn(white * 1.2), 4)
    assert float(bright.max()) <= white * (1 + 1e-6)
    dark = spoil(model, clean_dn(0.0), 4)
    assert float(dark.min()) < 0  # negative where noise is
    if name != "virtual":
        assert float(dark.min()) >= -profile.black_dn[0][0]
        assert torch.equal(dark, dark.round())


def test_what_cannot_be_spoilt_is_refused(named_model: tuple[str, NoiseModel]) -> None:
    model, generator = named_model[1], torch.Generator().manual_seed(1)
    with pytest.raises(NoiseModelError, match="float32"):
        model(clean_dn(1.0).double(), SETTINGS, generator=generator)
    with pytest.raises(NoiseModelError, match="settings"):
        model(clean_dn(1.0), SETTINGS[:1], generator=generator)
    with pytest.raises(NoiseModelError, match=r"covers|only"):
        model(clean_dn(1.0), [SensorSettings(iso=1e7, exposure_s=0.01)] * 2, generator=generator)


def test_an_unknown_part_is_answered_with_the_nearest(named_model: tuple[str, NoiseModel]) -> None:
    name = named_model[0]
    build = NOISE_MODELS[name]
    arguments: dict[str, tuple[Any, ...]] = {
        "virtual": (1000.0,),
        "dark-frames": (camera(), {100.0: [np.ones((2, 2))]}),
    }
    with pytest.raises(NoiseModelError, match="Did you mean 'shot'"):
        build(*arguments.get(name, (camera(),)), without={"shott"})


def test_an_unknown_model_is_answered_with_the_nearest() -> None:
    with pytest.raises(NoiseModelError, match="Did you mean 'eld'"):
        NOISE_MODELS["edl"]


def test_importing_the_package_loads_neither_torch_nor_pydantic() -> None:
    code = "import sys, noise_models; print(sorted({'torch', 'pydantic', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
