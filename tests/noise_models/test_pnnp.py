"""The proxy: its size, its scale over ISO, how it is drawn and kept, and the noise model around it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from noise_models import NOISE_MODELS
from noise_models.base import ProfileError, SensorSettings
from noise_models.eld import EldNoise
from noise_models.gain_point import GainPoint
from noise_models.pnnp import PnnpNoise
from noise_models.pnnp_losses import EmpiricalLaw
from noise_models.pnnp_network import ModeProxy, NoiseProxy, ProxySampler
from noise_models.profile import CameraProfile
from noise_models.profile_shelf import load_profile

ISO = 3200.0


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def modes_of(profile: CameraProfile) -> list[tuple[GainPoint, ...]]:
    return [profile.mode_points(mode) for mode in range(len(profile.breaks_iso) + 1)]


@pytest.fixture(scope="module")
def profile() -> CameraProfile:
    return load_profile("sony-a7s2")


@pytest.fixture(scope="module")
def proxy(profile: CameraProfile) -> NoiseProxy:
    """Return a proxy whose branches are not straight, and whose scales differ."""
    made = NoiseProxy.begin(modes_of(profile), seed=3)
    chance = seeded(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=chance))
    return made


def test_a_mode_has_2274_parameters_and_one_scale_for_each_iso(proxy: NoiseProxy) -> None:
    mode = proxy.mode(0)
    network = sum(p.numel() for branch in (mode.dependent, mode.independent) for p in branch.parameters())
    assert network == 2274
    assert sum(p.numel() for p in mode.parameters()) == network + len(mode.legal_iso)
    assert "legal_iso" in dict(mode.named_buffers())


def test_it_begins_as_gaussian_noise_of_the_profiles_size(profile: CameraProfile) -> None:
    begun = NoiseProxy.begin(modes_of(profile))
    numbers = torch.linspace(-4, 4, 80)
    for point in profile.points:
        mode = begun.mode(profile.gain_mode(point.iso))
        with torch.no_grad():
            slopes = [branch.curve(numbers) / numbers for branch in (mode.dependent, mode.independent)]
            sigma = torch.hypot(mode.gain_at(point.iso) * slopes[0][0], slopes[1][0])
        assert all(float((slope / slope[0] - 1).abs().max()) < 5e-3 for slope in slopes)
        assert float(sigma) == pytest.approx(point.read_sigma_dn, rel=5e-3)


def test_the_scale_between_isos_lies_between_its_neighbours() -> None:
    mode = ModeProxy([100.0, 200.0, 400.0], (0.01, 0.0))
    with torch.no_grad():
        mode.log_scale.copy_(torch.tensor([0.0, 1.0, 3.0]))
        assert float(mode.gain_at(200.0)) == pytest.approx(2 * np.e)
        assert float(mode.gain_at(200.0 * 2**0.5)) == pytest.approx(2 * 2**0.5 * np.exp(2.0))
        assert float(mode.gain_at(400.0)) == pytest.approx(4 * np.exp(3.0))
        assert float(mode.gain_at(100.0 * 2**0.5)) == pytest.approx(2**0.5 * np.exp(0.5))


def test_pixels_are_independent_and_a_branch_is_one_function(proxy: NoiseProxy) -> None:
    mode = proxy.mode(1)
    field, other = torch.randn((1, 1, 6, 7), generator=seeded(2)), torch.randn((1, 1, 6, 7), generator=seeded(3))
    whole = mode(field, other, ISO)
    field[0, 0, 2, 2] += 1
    changed = mode(field, other, ISO) != whole
    assert changed.nonzero().tolist() == [[0, 0, 2, 2]]
    assert torch.allclose(mode.dependent(field).view(-1), mode.dependent.curve(field.view(-1)), atol=1e-6)


def test_the_sampler_draws_what_the_network_would(proxy: NoiseProxy) -> None:
    mode, count = proxy.mode(1), 400_000
    drawn = torch.zeros(count)
    ProxySampler(mode).add_(drawn, ISO, seeded(4))
    with torch.no_grad():
        fields = torch.randn((2, 1, 1, 1, count), generator=seeded(5))
        expected = mode(fields[0], fields[1], ISO).view(-1)
    one, two = EmpiricalLaw.of(drawn), EmpiricalLaw.of(expected)
    shares = torch.tensor([0.0005, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9995])
    density = (two.cumulated(two.quantiles(shares) + 0.05) - two.cumulated(two.quantiles(shares) - 0.05)) / 0.1
    error = 4 * (2 * shares * (1 - shares) / count).sqrt() / density
    assert bool(((one.quantiles(shares) - two.quantiles(shares)).abs() < error).all())
    assert float(drawn.max()) == pytest.approx(float(expected.max()), rel=0.3)  # the tails are the network's


def test_the_mean_is_taken_out(proxy: NoiseProxy, profile: CameraProfile) -> None:
    centred = NoiseProxy.begin(modes_of(profile))
    centred.load_state_dict(proxy.state_dict())
    centred.centre()
    drawn = torch.zeros(400_000)
    ProxySampler(centred.mode(0)).add_(drawn, 400.0, seeded(6))
    assert abs(float(drawn.mean())) < 4 * float(drawn.std()) / 400_000**0.5


def test_it_is_kept_beside_the_profile(proxy: NoiseProxy, profile: CameraProfile, tmp_path: Path) -> None:
    proxy.save(tmp_path / "camera.pnnp.safetensors")
    named = profile.model_copy(update={"proxy": "camera.pnnp.safetensors"})
    loaded = CameraProfile.load(named.save(tmp_path / "camera.json")).load_proxy()
    assert loaded is not None
    for name, tensor in proxy.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])
    clean = torch.full((1, 1, 8, 8), 30.0)
    model = NOISE_MODELS["pnnp"](CameraProfile.load(tmp_path / "camera.json"))
    with_proxy = PnnpNoise(profile, proxy=proxy)
    settings = [SensorSettings(ISO, 0.01)]
    assert torch.equal(model(clean, settings, generator=seeded(7)), with_proxy(clean, settings, generator=seeded(7)))


@pytest.mark.parametrize("damage", ["missing", "text", "foreign"])
def test_a_proxy_that_cannot_be_read_is_an_error_with_the_remedy(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "camera.pnnp.safetensors"
    if damage == "text":
        path.write_text("not weights")
    if damage == "foreign":
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(ProfileError, match="--proxy"):
        NoiseProxy.load(path)


def test_a_profile_without_a_proxy_or_of_other_modes_is_refused(profile: CameraProfile, proxy: NoiseProxy) -> None:
    with pytest.raises(ProfileError, match=r"denoise calibrate --proxy"):
        PnnpNoise(profile)
    with pytest.raises(ProfileError, match="gain modes"):
        PnnpNoise(profile, proxy=NoiseProxy([proxy.mode(0)]))


def test_training_strays_as_far_as_it_says_and_no_pixel_is_cut_at_black(profile: CameraProfile) -> None:
    point = profile.at(ISO)
    model = PnnpNoise(profile, without={"bias", "quantise"}, proxy=NoiseProxy.begin(modes_of(profile)))
    count, height, width = 200, 24, 64
    clean = torch.zeros((count, 1, height, width))
    noisy = model(clean, [SensorSettings(ISO, 0.01)] * count, generator=seeded(8))[:, 0].double()
    assert float((noisy < 0).double().mean()) == pytest.approx(0.5, abs=0.02)
    pixels = noisy - noisy.mean(2, keepdim=True) - noisy.mean(1, keepdim=True) + noisy.mean((1, 2), keepdim=True)
    sigmas = pixels.var((1, 2)).sqrt() / ((1 - 1 / height) * (1 - 1 / width)) ** 0.5 / point.read_sigma_dn
    own = 1 / (2 * height * width) ** 0.5  # by which the estimate itself strays
    assert float(sigmas.mean()) == pytest.approx(1.0, abs=0.02)
    assert float(sigmas.std()) == pytest.approx(np.hypot(0.05, own), rel=0.2)
    rows = (noisy.mean(2).var(1) - sigmas**2 * point.read_sigma_dn**2 / width).clamp_min(0).sqrt() / point.row_sigma_dn
    assert float(rows.median()) == pytest.approx(1.25, rel=0.1)
    assert float((rows > 2.4).double().mean()) == pytest.approx(0.1, abs=4 * (0.1 * 0.9 / count) ** 0.5)


def test_as_measured_nothing_but_the_pixels_differs_from_eld(profile: CameraProfile, proxy: NoiseProxy) -> None:
    point = profile.at(ISO).model_copy(
        update={"row_sigma_dn": 1.1, "column_sigma_dn": 0.6, "bias_sigma_dn": 0.4, "bias_dn": ((1, 2), (3, -1))}
    )
    camera = profile.model_copy(update={"points": (point,), "breaks_iso": ()})
    only = NoiseProxy([proxy.mode(1)])
    count, side = 600, 32
    settings, dark = [SensorSettings(ISO, 0.01)] * count, torch.zeros((count, 1, side, side))
    lines = {"scatter", "read", "shot", "quantise", "clip"}
    found = []
    for model in (EldNoise(camera, lines), PnnpNoise(camera, lines, proxy=only)):
        noise = model(dark, settings, generator=seeded(10))[:, 0].double()
        assert noise.view(count, 16, 2, 16, 2).mean((0, 1, 3)).numpy() == pytest.approx(
            np.array(point.bias_dn), abs=0.1
        )
        noise = noise - torch.tensor(point.bias_dn).repeat(16, 16)
        within = noise - noise.mean((1, 2), keepdim=True)
        found.append([float(part.std()) for part in (within.mean(2), within.mean(1), noise.mean((1, 2)))])
        parts = within.mean(2, keepdim=True) + within.mean(1, keepdim=True)
        assert torch.allclose(within, parts, atol=1e-5)  # rows, columns and level are all there is
    assert found[0] == pytest.approx(found[1], rel=0.1)
    assert found[1] == pytest.approx([1.1, 0.6, np.sqrt(0.4**2 + (1.1**2 + 0.6**2) / side)], rel=0.1)
    light = {"scatter", "read", "bias", "row", "column"}
    bright = torch.full((2, 1, side, side), 300.0)
    photons = [model(bright, settings[:2], generator=seeded(11)) for model in (EldNoise(camera, light), PnnpNoise(
        camera, light, proxy=only))]  # fmt: skip
    assert torch.equal(*photons)


def test_4_million_samples_take_less_than_half_a_second_of_one_core(proxy: NoiseProxy) -> None:
    import time

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        noise, sampler, chance = torch.zeros(2**22), ProxySampler(proxy.mode(0)), seeded(9)
        sampler.add_(noise[: 2**18], 400.0, chance)
        begun = time.process_time()
        sampler.add_(noise, 400.0, chance)
        seconds = time.process_time() - begun
    finally:
        torch.set_num_threads(threads)
    assert seconds < 0.5
