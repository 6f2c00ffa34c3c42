"""What a cube says of itself: the noise of each band, the rank of its signal, stripes, dead elements.

Everything rests on one fact: the signal of a scene lives in a few spectra, and noise does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from denoise.cubes.band_noise import mean_of_valid
from denoise.cubes.flaws import Flaws, find_flaws
from denoise.cubes.low_rank import fit_low_rank


@dataclass(frozen=True, eq=False)
class BandQuality:
    """How good the bands of a cube are."""

    sigma: Tensor
    """(bands,) standard deviation of the noise, house units."""
    snr: Tensor
    """(bands,) mean signal over noise."""
    rank: int
    """Spectra that the signal needs."""
    striped: Tensor
    """(bands,) share of columns with an offset of their own."""
    dead: Tensor
    """(bands,) share of stuck columns."""
    flaws: Flaws
    """Where."""

    @property
    def best_first(self) -> list[int]:
        """Numbers of the bands, highest signal-to-noise ratio first."""
        return self.snr.argsort(descending=True, stable=True).tolist()


def band_quality(planes: Tensor) -> BandQuality:
    """Measure every band of a cube (bands, H, W) from itself.

    The noise of a band is what the other bands do not foretell of it; its bias by what they fit of the noise is taken
    out.
    """
    flaws = find_flaws(planes)
    model = fit_low_rank(planes, flaws)
    level = mean_of_valid(planes, flaws.valid)[:, 0, 0].abs()
    return BandQuality(
        sigma=model.sigma,
        snr=level / model.sigma,
        rank=model.spectra.shape[1],
        striped=(model.offsets != 0).float().mean(1),
        dead=flaws.stuck.float().mean(1),
        flaws=flaws,
    )
