"""The U-Net: homogeneous, of the stated size, and honest about its work."""

from __future__ import annotations

import pytest
import torch

from denoise.networks import fused
from denoise.networks.unet import ResidualBlock, ResidualUNet, grow, of_grey


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("fold", [1, 2])
def test_scaling_image_and_noise_scales_the_answer(fold: int, generator: torch.Generator) -> None:
    network = ResidualUNet(3, widths=(8, 16), blocks=1, fold=fold)
    noisy = torch.randn(2, 3, 16, 24, generator=generator)
    level = torch.full((2, 1, 16 // fold, 24 // fold), 0.1)
    torch.testing.assert_close(network(7 * noisy, 7 * level), 7 * network(noisy, level), rtol=1e-4, atol=1e-6)
    assert network(noisy, level).shape == noisy.shape


@pytest.mark.parametrize("maps", [0, 1, 2])
def test_an_image_is_folded_by_its_first_convolution_alike_with_and_without_gradients(
    maps: int, generator: torch.Generator
) -> None:
    network = ResidualUNet(3, maps, widths=(8, 16), blocks=1, fold=2).double()
    noisy = torch.randn(2, 3, 16, 24, generator=generator, dtype=torch.float64)
    level = torch.rand(2, maps, 8, 12, generator=generator, dtype=torch.float64)
    expected = network(noisy, level).detach()
    with torch.no_grad():
        torch.testing.assert_close(network(noisy, level), expected)


def test_the_default_has_the_published_size() -> None:
    network = ResidualUNet(4)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters == pytest.approx(2_393_000, rel=0.01)
    assert network.multiple_of == 8
    assert not [name for name, _ in network.named_parameters() if name.endswith("bias")]


def test_macs_agree_with_a_count_of_the_convolutions() -> None:
    network = ResidualUNet(4, widths=(8, 16, 24), blocks=1)
    counted = 0

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal counted
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        where = inputs[0] if isinstance(module, torch.nn.ConvTranspose2d) else output
        counted += weight.numel() * where.shape[2] * where.shape[3]

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            module.register_forward_hook(count)
    network(torch.zeros(1, 4, 32, 32), torch.zeros(1, 1, 32, 32))
    assert network.macs_per_pixel() == pytest.approx(counted / 32**2)


def test_a_grown_network_computes_the_same_and_its_new_channels_learn(generator: torch.Generator) -> None:
    torch.manual_seed(0)
    narrow = ResidualUNet(3, widths=(8, 16, 24), blocks=1, fold=2).double()
    wide = ResidualUNet(3, widths=(12, 16, 32), blocks=1, fold=2).double()
    noisy = torch.randn(1, 3, 32, 32, generator=generator, dtype=torch.float64)
    level = torch.full((1, 1, 16, 16), 0.1, dtype=torch.float64)
    assert not torch.allclose(wide(noisy, level), narrow(noisy, level))
    wide.load_state_dict(grow(wide, narrow.state_dict()))
    torch.testing.assert_close(wide(noisy, level), narrow(noisy, level))
    wide(noisy, level).square().mean().backward()
    for name, weight in wide.named_parameters():
        assert weight.grad is not None
        if weight.shape != narrow.get_parameter(name).shape:
            assert weight.grad.flatten(1).abs().sum(1).count_nonzero() > narrow.get_parameter(name).shape[0] - 1, name


def test_a_colour_network_made_grey_does_what_it_did_with_grey(generator: torch.Generator) -> None:
    torch.manual_seed(0)
    colour = ResidualUNet(3, widths=(8, 16), blocks=1, fold=2).double()
    grey = ResidualUNet(1, widths=(8, 16), blocks=1, fold=2).double()
    noisy = torch.randn(1, 1, 32, 32, generator=generator, dtype=torch.float64)
    level = torch.full((1, 1, 16, 16), 0.1, dtype=torch.float64)
    grey.load_state_dict(of_grey(colour.state_dict(), 2))
    expected = colour(noisy.expand(-1, 3, -1, -1), level).mean(1, keepdim=True)
    torch.testing.assert_close(grey(noisy, level), expected)


def test_a_network_does_not_shrink() -> None:
    narrow, wide = ResidualUNet(3, widths=(8, 16), blocks=1), ResidualUNet(3, widths=(8, 24), blocks=1)
    with pytest.raises(RuntimeError, match=r"\(24, 8, 2, 2\), \(16, 8, 2, 2\) was expected"):
        grow(narrow, wide.state_dict())
    with pytest.raises(RuntimeError, match="encoders"):
        grow(ResidualUNet(3, widths=(8, 16), blocks=2), narrow.state_dict())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_gradients_a_network_computes_the_same(dtype: torch.dtype, generator: torch.Generator) -> None:
    """There its convolutions rectify and add by themselves: in bfloat16 with one rounding less, never with more."""
    torch.manual_seed(0)
    network = ResidualUNet(4, widths=(16, 24), blocks=2).to(memory_format=torch.channels_last)  # pyright: ignore
    torch.nn.init.normal_(network.tail.weight, std=0.1)
    noisy = torch.randn(2, 4, 36, 44, generator=generator)
    level = torch.full((2, 1, 36, 44), 0.1)
    exact = ResidualUNet(4, widths=(16, 24), blocks=2).double()
    exact.load_state_dict(network.state_dict())
    expected = exact(noisy.double(), level.double()).detach()

    def error(found: torch.Tensor) -> float:
        return float((found.double() - expected).square().mean().sqrt() / expected.std())

    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        plain = network(noisy, level).detach()
        with torch.inference_mode():
            at_once = network(noisy, level)
    assert error(plain) < (1e-5 if dtype == torch.float32 else 0.02)
    assert error(at_once) < 1.05 * error(plain) + 1e-7


def test_where_the_operators_are_missing_plain_convolutions_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    block = ResidualBlock(8)
    features = torch.randn(1, 8, 12, 12)
    with torch.no_grad():
        expected = block(features.clone())
        monkeypatch.setattr(fused, "_operators", object)
        fused.works.cache_clear()
        assert not fused.serves(features)
        torch.testing.assert_close(block(features), expected)
    fused.works.cache_clear()
