"""3-D networks: the same numbers as conv3d, homogeneous, of any number of bands, pooling space more than spectrum."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from denoise.networks.cube3d import (
    CubeAutoencoder,
    CubeEncoder,
    Down,
    LatentUNet,
    SpatialConvolution,
    SpectralConvolution,
    Up,
)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_folded_convolutions_are_3d_convolutions(generator: torch.Generator) -> None:
    features = torch.randn(2, 5, 6, 7, 3, generator=generator)
    channels_first = features.movedim(-1, 1)
    spatial, spectral = SpatialConvolution(3, 4), SpectralConvolution(3, 4)
    expected = functional.conv3d(channels_first, spatial.weight[:, :, None], padding=(0, 1, 1))
    torch.testing.assert_close(spatial(features).movedim(-1, 1), expected)
    expected = functional.conv3d(channels_first, spectral.weight[..., None], padding=(1, 0, 0))
    torch.testing.assert_close(spectral(features).movedim(-1, 1), expected)


def test_folding_copies_nothing(generator: torch.Generator) -> None:
    features = torch.randn(2, 4, 6, 8, 16, generator=generator)
    for folded in (features.flatten(0, 1).movedim(-1, 1), features.flatten(2, 3).movedim(-1, 1)):
        assert folded.is_contiguous(memory_format=torch.channels_last)
        assert folded.data_ptr() == features.data_ptr()
    assert SpectralConvolution(16, 16)(SpatialConvolution(16, 16)(features)).is_contiguous()


def test_pooling_is_a_convolution_of_its_stride(generator: torch.Generator) -> None:
    features = torch.randn(1, 4, 6, 8, 3, generator=generator)
    down, up = Down(3, 5), Up(5, 3)
    kernel = down.weight.view(5, 2, 2, 2, 3).permute(0, 4, 1, 2, 3)
    expected = functional.conv3d(features.movedim(-1, 1), kernel, stride=2)
    torch.testing.assert_close(down(features).movedim(-1, 1), expected)
    coarse = torch.randn(1, 2, 3, 4, 5, generator=generator)
    kernel = up.weight.view(2, 2, 2, 3, 5).permute(4, 3, 0, 1, 2)
    expected = functional.conv_transpose3d(coarse.movedim(-1, 1), kernel, stride=2)
    torch.testing.assert_close(up(coarse).movedim(-1, 1), expected)


@pytest.mark.parametrize("bands", [2, 6, 20])
def test_any_number_of_bands_and_a_factor_goes_through(bands: int, generator: torch.Generator) -> None:
    autoencoder = CubeAutoencoder(3, (8, 12))
    cube = torch.randn(2, bands, 8, 12, generator=generator)
    latents = autoencoder.encode(cube)
    assert latents.shape == (2, bands // 2, 2, 3, 3)
    decoded = autoencoder.decode(latents)
    assert decoded.shape == cube.shape
    torch.testing.assert_close(autoencoder.decode(autoencoder.encode(7 * cube)), 7 * decoded, rtol=1e-4, atol=1e-4)
    assert not [name for name, _ in autoencoder.named_parameters() if name.endswith("bias")]


def test_the_latent_network_knows_its_step_and_stays_homogeneous(generator: torch.Generator) -> None:
    network = LatentUNet(3, 4, steps=5, widths=(8, 12), blocks=1)
    state, anchor = (torch.randn(2, 4, 4, 6, 3, generator=generator) for _ in range(2))
    condition = torch.randn(2, 4, 4, 6, 4, generator=generator)
    step = torch.tensor([0, 4])
    answer = network(state, anchor, condition, step)
    assert answer.shape == state.shape
    torch.testing.assert_close(network(3 * state, 3 * anchor, 3 * condition, step), 3 * answer, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("weights"):
                parameter[:, 4] = 0.5
    assert torch.equal(network(state, anchor, condition, step)[0], answer[0])
    assert not torch.equal(network(state, anchor, condition, step)[1], answer[1])


def test_it_learns_to_keep_a_cube(generator: torch.Generator) -> None:
    """Cubes of two spectra: far fewer numbers than values are enough."""
    torch.manual_seed(0)
    autoencoder = CubeAutoencoder(8, (16, 24))
    optimiser = torch.optim.Adam(autoencoder.parameters(), 2e-3)
    spectra = torch.randn(8, 2, generator=generator)
    maps = functional.interpolate(torch.randn(2, 2, 4, 4, generator=generator), size=(16, 16), mode="bicubic")
    cube = torch.einsum("bk,nkhw->nbhw", spectra, maps)
    errors = []
    for _ in range(50):
        loss = (autoencoder.decode(autoencoder.encode(cube)) - cube).square().mean() / cube.square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        errors.append(loss.item())
    assert errors[-1] < 0.1


def test_an_encoder_sees_several_cubes(generator: torch.Generator) -> None:
    encoder = CubeEncoder(2, 4, (8, 12))
    cubes = torch.randn(1, 2, 4, 8, 8, generator=generator)
    other = cubes.clone()
    other[:, 1] += 1
    assert not torch.allclose(encoder(cubes), encoder(other))
