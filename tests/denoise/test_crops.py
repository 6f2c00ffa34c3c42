"""Crops of photographs: busy ones more often, regular textures over some, colours changed in some."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from denoise.training.sources.crops import Crops
from denoise.training.sources.patches import PhotoPatches
from denoise.training.sources.weaves import lay_weave


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def half_sky() -> Tensor:
    """A photograph (3, 256, 256), its upper half even and its lower half of chance."""
    photo = torch.full((3, 256, 256), 120, dtype=torch.uint8)
    photo[:, 128:] = torch.randint(0, 256, (3, 128, 256), generator=generator(), dtype=torch.uint8)
    return photo


def test_busy_crops_come_more_often() -> None:
    def share(busy: float) -> float:
        crops = Crops([half_sky()], 32, busy=busy, recolour=0.0)
        chance = generator(2)
        return float(np.mean([float(crops.draw(chance).std()) > 0.02 for _ in range(300)]))

    seldom, often = share(0.0), share(1.0)
    assert 0.5 < seldom < 0.75
    assert often == pytest.approx(1 - (1 - seldom) ** 6, abs=0.06)  # unless all of six are even


def test_a_weave_darkens_at_the_period_it_has_and_leaves_the_rest() -> None:
    photo = torch.full((3, 128, 128), 0.8)
    depths = []
    for seed in range(40):
        woven = lay_weave(photo, generator(seed))
        assert woven.shape == photo.shape
        assert float(woven.min()) >= 0
        depths.append(float((photo - woven).mean()))
        spectrum = torch.fft.rfft2(woven[1] - woven[1].mean()).abs().square()
        ring = torch.hypot(torch.fft.fftfreq(128)[:, None], torch.fft.rfftfreq(128)[None])
        fine = float(spectrum[ring > 0.04].sum() / spectrum.sum())
        assert fine > 0.05  # stripes, not clouds
    assert float(np.std(depths)) > 0.02
    assert torch.equal(lay_weave(photo, generator(3)), lay_weave(photo, generator(3)))


def test_colours_are_changed_where_asked_only() -> None:
    photo = torch.zeros(3, 96, 96, dtype=torch.uint8)
    photo[0], photo[1], photo[2] = 200, 120, 40
    kept = Crops([photo], 32, recolour=0.0).draw(generator())
    assert torch.allclose(kept.mean((1, 2)), torch.tensor([200, 120, 40]) / 255, atol=1e-5)
    chance = generator(4)
    crops = Crops([photo], 32)
    colours = {tuple(crops.draw(chance).mean((1, 2)).mul(255).round().int().tolist()) for _ in range(30)}
    assert len(colours) > 10


@pytest.mark.parametrize("grey", [0.0, 1.0])
def test_grey_batches_are_as_many_as_asked(grey: float) -> None:
    source = PhotoPatches([half_sky()], [half_sky()], patch=32, grey=grey)
    chance = generator()
    assert {source.draw(2, generator=chance).noisy.shape[1] for _ in range(8)} == {1 if grey else 3}
    assert next(source.validation()).noisy.shape[1] == (1 if grey else 3)
