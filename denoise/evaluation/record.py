"""What an evaluation found: figures of images, their means, crops for the eye, each with its protocol."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from denoise.card import ModelCard
from denoise.evaluation.cases import Picture
from denoise.manifests import Manifest


@dataclass(frozen=True)
class Score:
    """The figures of one image, one case and one method."""

    case: str
    """Name of the case."""
    image: str
    """Name of the file."""
    method: str
    """The model's id, a peer's name, or "noisy"."""
    psnr_db: float
    """Against the truth."""
    ssim: float
    """Against the truth."""
    scaled_psnr_db: float | None
    """The same after the illuminance scalar; None for photographs."""
    scaled_ssim: float | None
    """The same after the illuminance scalar; None for photographs."""
    seconds: float
    """Wall time of the denoising alone; 0 for the input."""
    whiteness: float | None = None
    """Largest autocorrelation of what was taken away; 0 for the input, None for an image too small to say."""
    edges: float | None = None
    """Rank correlation of what was taken away with the result's edges; 0 for the input."""
    excess: float | None = None
    """How much larger the autocorrelation is than the noise's own; 0 for the input."""
    halves: float | None = None
    """How far the results of two halves of the pixels differ, over the halves themselves; 1 for the input."""


@dataclass(frozen=True, eq=False)
class View:
    """A crop of one image by every method, for the eye."""

    case: str
    """Name of the case."""
    image: str
    """Name of the file."""
    pictures: dict[str, Picture]
    """(H, W, 3) by method, with "noisy" and "clean"."""


@dataclass(frozen=True)
class Evaluation:
    """Everything that was found, and how."""

    card: ModelCard
    """Of the model."""
    manifest: Manifest
    """Of the set."""
    protocols: dict[str, str]
    """By case: how its figures came to be, complete."""
    scores: tuple[Score, ...]
    """By case, image, method."""
    views: tuple[View, ...]
    """For the page."""
    notes: tuple[str, ...]
    """What a reader must know: images that were learned from, files that were altered."""
    failed: dict[str, str] = field(default_factory=dict)
    """File to the reason why it could not be evaluated; the figures are without it."""

    def means(self, case: str) -> list[Score]:
        """Return the mean over the images of each method of a case; ``image`` says of how many."""
        methods = dict.fromkeys(score.method for score in self.scores if score.case == case)
        return [_mean([s for s in self.scores if (s.case, s.method) == (case, method)]) for method in methods]

    def to_dict(self) -> dict[str, Any]:
        """Return all figures with their protocols, as JSON holds them."""
        cases = {
            case: {
                "protocol": protocol,
                "means": {mean.method: _figures(mean) for mean in self.means(case)},
                "images": [
                    {"image": score.image, "method": score.method, **_figures(score)}
                    for score in self.scores
                    if score.case == case
                ],
            }
            for case, protocol in self.protocols.items()
        }
        return {"model": self.card.id, "model_sha256": self.card.sha256, "dataset": self.manifest.name,
                "notes": list(self.notes), "failed": dict(self.failed), "cases": cases}  # fmt: skip


def _mean(scores: Sequence[Score]) -> Score:
    def mean(name: str) -> Any:
        values = [getattr(score, name) for score in scores]
        return None if None in values else statistics.fmean(values)

    first = scores[0]
    return Score(
        first.case, f"mean of {len(scores)}", first.method, mean("psnr_db"), mean("ssim"), mean("scaled_psnr_db"),
        mean("scaled_ssim"), mean("seconds"), mean("whiteness"), mean("edges"), mean("excess"),
        mean("halves"),
    )  # fmt: skip


def _figures(score: Score) -> dict[str, float | str | None]:
    """Return the figures as JSON holds them: rounded, an endless PSNR as a word."""
    places = {"seconds": 4, "ssim": 5, "scaled_ssim": 5}
    return {
        name: None if value is None else "inf" if math.isinf(value) else round(value, places.get(name, 3))
        for name, value in islice(asdict(score).items(), 3, None)
    }
