"""Checks without truth: they see correlation, structure and disagreement, and nothing where there is none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from denoise.errors import ShapeError
from denoise.self_check import noise_correlation, self_check


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def scene(side: int = 256) -> Tensor:
    """Even areas, slopes, and hard edges."""
    rows, columns = torch.meshgrid(torch.arange(float(side)), torch.arange(float(side)), indexing="ij")
    waves = 0.4 + 0.2 * torch.sin(rows / 40) + 0.25 * ((columns // 64) % 2)
    return torch.stack([waves, 0.9 * waves, 0.8 * waves + 0.1])


def blurred(noise: Tensor, reach: int) -> Tensor:
    """Spread noise evenly over reach x reach pixels, its deviation kept."""
    kernel = torch.ones(noise.shape[0], 1, reach, reach) / reach
    return functional.conv2d(noise[None], kernel, padding=reach // 2, groups=noise.shape[0])[0, :, :256, :256]


def test_white_noise_is_independent_and_measured(generator: torch.Generator) -> None:
    found = noise_correlation(scene() + 0.08 * torch.randn(3, 256, 256, generator=generator))
    assert found.method == "noise2score"
    # 5 % of 3 x 256 blocks of 256 pixels: the standard error of a correlation is 0.01
    assert max(abs(value) for value in found.along + found.down) < 0.05
    assert found.sigma == pytest.approx(0.08, rel=0.1)


def test_the_noise_of_a_camera_jpeg_is_seen(generator: torch.Generator) -> None:
    """A mean over 3 x 3 pixels has the triangular autocorrelation 2/3, 1/3, 0."""
    found = noise_correlation(scene() + 0.05 * blurred(torch.randn(3, 256, 256, generator=generator), 3))
    assert found.method == "cbsn"
    assert found.along[:2] == pytest.approx((0.66, 0.33), abs=0.17)
    assert "correlated" in found.reason


def test_shadows_that_a_tone_curve_crushed_do_not_hide_the_noise(generator: torch.Generator) -> None:
    noisy = scene() + 0.05 * torch.randn(3, 256, 256, generator=generator)
    noisy[:, 96:] = 4 / 255
    assert noise_correlation(noisy).sigma == pytest.approx(0.05, rel=0.1)
    dark = 0.01 + 0.02 * scene() + 0.002 * torch.randn(3, 256, 256, generator=generator)  # a RAW, dark as a whole
    assert noise_correlation(dark).sigma == pytest.approx(0.002, rel=0.1)


def test_noise_that_reaches_too_far_and_no_noise_fit_neither(generator: torch.Generator) -> None:
    coarse = functional.interpolate(torch.randn(1, 3, 32, 32, generator=generator), scale_factor=8, mode="bicubic")[0]
    found = noise_correlation(scene() + 0.05 * coarse)
    assert found.method is None
    assert "reaches" in found.reason
    clean = noise_correlation(scene())
    assert clean.method is None
    assert "nothing to learn" in clean.reason
    assert noise_correlation(torch.zeros(1, 64, 64)).method is None
    with pytest.raises(ShapeError, match="blocks"):
        noise_correlation(torch.zeros(1, 16, 40))


def test_texture_is_not_taken_for_the_noise_of_a_camera_jpeg(generator: torch.Generator) -> None:
    """White noise on texture that fades to one side; and areas of which some are rough and some are fine."""
    white = 0.5 + 0.02 * torch.randn(3, 256, 256, generator=generator)
    drawn = torch.randn(3, 256, 256, generator=generator)
    fading = noise_correlation(white + blurred(drawn, 3) * torch.linspace(0.01, 0.15, 256))
    assert fading.along[0] > 0.15
    assert fading.method is None
    assert "texture" in fading.reason
    rough = torch.arange(256).div(16, rounding_mode="floor") % 2 == 0
    patchwork = noise_correlation(0.5 + 0.05 * torch.where(rough, drawn, blurred(drawn, 3)))
    assert patchwork.along[0] > 0.15
    assert patchwork.method is None


def test_the_best_estimate_leaves_noise_at_edges_and_edges_is_below_0(generator: torch.Generator) -> None:
    """White noise and Gaussian texture, where the best estimate is known: a share of what is seen, block by block."""
    busy = torch.rand(16, 16, generator=generator).repeat_interleave(16, 0).repeat_interleave(16, 1)
    noisy = busy * 0.05 * torch.randn(1, 256, 256, generator=generator)
    noisy = noisy + 0.05 * torch.randn(noisy.shape, generator=generator)
    best = noisy * busy**2 / (busy**2 + 1)
    assert self_check(noisy, best).edges < -0.3


def test_a_perfect_result_passes_and_a_blur_does_not(generator: torch.Generator) -> None:
    clean = scene()
    noisy = clean + 0.05 * torch.randn(clean.shape, generator=generator)
    good = self_check(noisy, clean)
    assert good.whiteness < 0.05
    assert good.excess < 0.05
    assert abs(good.edges) < 0.1
    assert good.removed_sigma == pytest.approx(0.05, rel=0.02)
    assert good.disagreement is None
    blur = self_check(noisy, functional.avg_pool2d(noisy[None], 9, stride=1, padding=4)[0])
    assert blur.edges > 0.2
    assert blur.excess > 0.1


def test_two_halves_agree_where_noise_is_gone(generator: torch.Generator) -> None:
    clean = scene()
    noisy = clean + 0.05 * torch.randn(clean.shape, generator=generator)

    def smooth(image: Tensor) -> Tensor:
        return functional.avg_pool2d(image, 5, stride=1, padding=2, count_include_pad=False)

    def nothing(image: Tensor) -> Tensor:
        return image

    assert self_check(noisy, noisy, denoise=nothing).disagreement == pytest.approx(1.0)
    assert self_check(noisy, noisy, denoise=smooth).disagreement == pytest.approx(0.2, abs=0.05)  # a mean of 25
    assert set(self_check(noisy, clean).to_dict()) >= {"whiteness", "edges", "disagreement"}


def test_shapes_must_agree() -> None:
    with pytest.raises(ShapeError, match="compares"):
        self_check(torch.zeros(1, 64, 64), torch.zeros(1, 64, 65))
