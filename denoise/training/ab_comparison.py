"""Two models on the same noisy images, and whether the one is worth having beside the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from denoise.denoiser import Batch, Denoiser
from denoise.engine import Engine
from denoise.errors import UnsupportedInputError
from denoise.fidelity import FidelityReport, check_fidelity
from denoise.images import RawImage
from denoise.io import read
from denoise.metrics import psnr_db
from denoise.repair import iso_of, remove_fixed_pattern
from noise_models.level import NoiseLevel
from noise_models.profile import CameraProfile

WORTH_DB: Final = 0.1
"""Mean gain from which another model is worth having; less is not seen."""
_SURE: Final = 2.0


@dataclass(frozen=True)
class CaseResult:
    """One kind of exposure."""

    case: str
    """ISO and ratio."""
    images: int
    """How many there were."""
    noisy_db: float
    """Mean PSNR of the input [dB]."""
    default_db: float
    """Of the default model's result [dB]."""
    tuned_db: float
    """Of the other's [dB]."""
    gain_db: float
    """Mean difference [dB]."""
    error_db: float
    """Standard error of that difference over the images [dB]; NaN of one image."""


@dataclass(frozen=True, eq=False)
class SampleResult:
    """A noisy file, denoised by both under the same noise level."""

    file: str
    """Its name."""
    default: FidelityReport
    """What the default model removed."""
    tuned: FidelityReport
    """What the other removed."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """What was found, and what follows."""

    cases: tuple[CaseResult, ...]
    """On pairs that neither saw."""
    sample: SampleResult | None
    """On a noisy file."""
    worth: bool | None
    """Whether the tuned model is worth having; None where too few images cannot tell."""
    reasons: tuple[str, ...]
    """Why, or why not."""

    @property
    def verdict(self) -> str:
        """The answer in one line."""
        answer = "cannot be told" if self.worth is None else "worth it" if self.worth else "not worth it"
        return f"{answer}: {' '.join(self.reasons)}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        sample = None
        if self.sample is not None:
            sample = {"file": self.sample.file, "default": self.sample.default.to_dict(),
                      "tuned": self.sample.tuned.to_dict()}  # fmt: skip
        cases = [{name: None if value != value else value for name, value in asdict(case).items()}
                 for case in self.cases]  # fmt: skip
        return {"verdict": self.verdict, "worth": self.worth, "cases": cases, "sample": sample}


def compare_on_pairs(
    default: Denoiser, tuned: Denoiser, batches: Iterable[Batch], cases: Sequence[str]
) -> tuple[CaseResult, ...]:
    """Denoise the same noisy images by both.

    Parameters
    ----------
    default, tuned : Denoiser
        On the CPU.
    batches : iterable of Batch
        Clean and noisy, one image each, the cases in turn.
    cases : sequence of str
        Their names.
    """
    found: dict[str, list[tuple[float, float, float]]] = {case: [] for case in cases}
    with torch.inference_mode():
        for number, batch in enumerate(batches):
            assert batch.clean is not None
            noisy = batch.noisy.contiguous(memory_format=torch.channels_last)
            results = (noisy, *(model.denoise(noisy, batch.noise).float() for model in (default, tuned)))
            noisy_db, default_db, tuned_db = (psnr_db(result, batch.clean) for result in results)
            found[cases[number % len(cases)]].append((noisy_db, default_db, tuned_db))
    return tuple(_summed_up(case, np.array(values)) for case, values in found.items() if values)


def read_sample(path: Path, profile: CameraProfile) -> tuple[RawImage, NoiseLevel]:
    """Read a noisy RAW, its fixed pattern taken out, and what the profile says of its noise.

    Raises
    ------
    UnsupportedInputError
        If it is not a RAW file.
    FileFormatError
        If it cannot be read.
    ProfileError
        If the profile does not cover its ISO.
    """
    image = read(path)
    if not isinstance(image, RawImage):
        raise UnsupportedInputError(f"--sample {path} was given, but it is no RAW. Give a noisy RAW of the camera.")
    image = remove_fixed_pattern(image, profile)
    return image, profile.noise_level(iso_of(image)).for_channels(image.shape[0])


def compare_on_sample(default: Denoiser, tuned: Denoiser, path: Path, profile: CameraProfile) -> SampleResult:
    """Denoise a noisy RAW by both, under the noise level of the profile, and check what each removed.

    Raises
    ------
    DenoiseError, ProfileError
        As `read_sample` does.
    """
    image, noise = read_sample(path, profile)
    engine = Engine()
    reports = [check_fidelity(image, engine.denoise(image, model, noise=noise), noise) for model in (default, tuned)]
    return SampleResult(path.name, *reports)


def judge(cases: Sequence[CaseResult], sample: SampleResult | None = None) -> Comparison:
    """Say whether the tuned model is worth having.

    It is if it gains at least `WORTH_DB` on average and twice the standard error of that, loses as much in no case,
    and its residual on the sample is no worse than the default's. Of one image in a case the error is not known, and
    nothing can be told.
    """
    gains = np.array([case.gain_db for case in cases])
    errors = np.array([case.error_db for case in cases])
    mean, error = float(gains.mean()), float(np.sqrt((errors**2).sum()) / len(errors))
    if np.isnan(error):
        few = next(case for case in cases if np.isnan(case.error_db))
        reason = (
            f"{mean:+.2f} dB on its own noise, but {few.case} has {few.images} image, so that the error of this is not "
            "known. Give more images: at least four held out, of which half are compared."
        )
        return Comparison(tuple(cases), sample, None, (reason,))
    worst = min(cases, key=lambda case: case.gain_db)
    reasons = [f"{mean:+.2f} dB (standard error {error:.2f}) on its own noise, {len(cases)} cases."]
    worth = mean >= WORTH_DB and mean >= _SURE * error
    if not worth:
        reasons.append(f"A gain below {WORTH_DB:g} dB or within its error is not seen: keep the default model.")
    if worst.gain_db <= -WORTH_DB:
        worth = False
        reasons.append(f"It loses {-worst.gain_db:.2f} dB at {worst.case}.")
    if sample is not None and sample.tuned.verdict == "warn" and sample.default.verdict == "ok":
        worth = False
        reasons.append(f"On {sample.file} it removes what is not noise: {sample.tuned.reasons[0]}")
    return Comparison(tuple(cases), sample, worth, tuple(reasons))


def _summed_up(case: str, values: np.ndarray) -> CaseResult:
    gains = values[:, 2] - values[:, 1]
    error = float(gains.std(ddof=1) / len(gains) ** 0.5) if len(gains) > 1 else float("nan")
    noisy_db, default_db, tuned_db = (round(float(value), 3) for value in values.mean(0))
    gain_db = round(float(gains.mean()), 3)
    return CaseResult(case, len(values), noisy_db, default_db, tuned_db, gain_db, round(error, 3))
