"""How good a model is: figures of every image, their means, peers on the same inputs, and the protocol in words.

Every figure can be made again: inputs depend on the seed, the case and the file's name alone. LPIPS is not among the
figures: its networks come only with torchvision, or from a download that nothing here could check.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from denoise.card import ModelCard
from denoise.denoiser import Denoiser
from denoise.engine import Engine
from denoise.engine.run import run_batch
from denoise.errors import DenoiseError, ManifestError, UsageError
from denoise.evaluation.cases import DEFAULT_CASES, CameraNoise, Case, FloatPlanes, Picture, RealPairs, Sample
from denoise.evaluation.peers import Peer
from denoise.evaluation.record import Evaluation, Score, View
from denoise.manifests import Manifest, Pair, altered_files, find_files, find_pairs, load_manifest
from denoise.metrics import illuminance_scalar, psnr_db, ssim
from denoise.noise_source import choose_noise
from denoise.self_check import disagreement, middle, of_halves, self_check
from denoise.version import __version__
from denoise.weights import find_card, load_model, resolve_model
from noise_models.level import NoiseLevel

NOISY: Final = "noisy"
"""The name under which the input itself is scored."""
CLEAN: Final = "clean"
"""The name of the truth among the pictures."""
METRICS: Final = (
    "PSNR = -10 log10(mean squared error over all planes), peak 1; SSIM of scikit-image: 7x7 uniform window, sample "
    "covariance, data range 1, mean over planes; both in float64 of values cut to 0..1, not rounded to 8 bit; means "
    "are over images. Without truth: whiteness, the largest autocorrelation of what was taken away, 1 to 6 pixels "
    "along rows and columns, near 0 is good where the noise is white; edges, its rank correlation with the result's "
    "edges over blocks of 16x16: above 0 edges were taken with the noise, and the best possible estimate is below 0, "
    "as it leaves noise where the picture is busy; excess, how much larger the autocorrelation is than that of the "
    "noise in the flattest blocks, 0 or less is good; halves, the difference of the results of two halves of the "
    "pixels of the middle 384x384 over that of the halves: 1 is untouched, near 0 is good, detail that differs stays"
)
SCALED: Final = (
    "'scaled': after multiplying with the one scalar that fits the truth best, as low-light benchmarks do (ELD, TPAMI "
    "2022); it hides errors in brightness, so compare the unscaled figures first"
)

_VIEW: Final = 384
_CHECKED: Final = 64
_HALVED: Final = 384
"""Of the middle of an image, whose two halves are denoised as well: a fifth of the pixels of 768 x 512."""


def evaluate(
    model: str,
    dataset: str,
    root: Path,
    *,
    cases: Sequence[Case] = (),
    peers: Sequence[str] = (),
    limit: int | None = None,
    blind: bool = False,
    seed: int = 0,
    engine: Engine | None = None,
    views: int = 2,
    progress: Callable[[str], None] | None = None,
) -> Evaluation:
    """Measure a model on a set of images.

    Parameters
    ----------
    model : str
        As `denoise.weights.load_model` takes it.
    dataset : str
        A manifest by name or path.
    root : Path
        Data root.
    cases : sequence of Case, optional
        How clean images are spoilt; by default `DEFAULT_CASES` of the model's domain. Sets of pairs take none.
    peers : sequence of str
        Keys of `denoise.evaluation.peers.PEERS`, run on the same inputs.
    limit : int, optional
        Only the first images.
    blind : bool
        Whether the model must estimate the noise from each image, instead of being told the true level.
    seed : int
        Of everything drawn.
    engine : Engine, optional
        That runs the model.
    views : int
        Images of each case kept for the eye.
    progress : callable, optional
        Called with a line for people after each image.

    Returns
    -------
    Evaluation
        Figures, protocols, crops; and the files that failed, which the figures are without.

    Raises
    ------
    ManifestError
        If the set is not there, or not of the kind that can be evaluated.
    UsageError
        If cases are given for a set of pairs, or a peer is not known.
    FileFormatError
        If no file can be read; the error is that of the last.
    WeightsError, ShapeError
        If the model is not known, or not made for such images.
    """
    manifest = load_manifest(dataset)
    cases = _choose_cases(model, manifest, cases)
    kind = "raw" if isinstance(cases[0], CameraNoise) or manifest.kind == "raw" else "photo"
    resolve_model(model, kind)  # a name that is not known is told before data that is not there
    items = find_pairs(dataset, root) if manifest.holds == "pairs" else find_files(dataset, root)
    items = items[:limit]
    planes = _planes_of_first(cases[0], items, seed)
    denoiser = load_model(model, kind=kind, planes=planes)
    run = _Run(denoiser, engine or Engine(), [Peer(name) for name in peers], blind)
    scores: list[Score] = []
    kept: list[View] = []
    failed: dict[str, str] = {}
    last: DenoiseError | None = None
    protocols: dict[str, str] = {}
    for case in cases:
        done = 0
        for number, item in enumerate(items):
            name = _name_of(item)
            place = f"{case.name} {number + 1} of {len(items)} {name}"
            try:
                found, view = run.score(case.name, case.make(item, seed))  # type: ignore[arg-type]
            except DenoiseError as error:
                failed[name] = str(error)
                last = error
                if progress is not None:
                    progress(f"{place}: failed: {error}")
                continue
            scores += found
            kept += [view] if done < views else []
            done += 1
            if progress is not None:
                progress(f"{place}: " + ", ".join(map(_brief, found)))
        if done:
            protocols[case.name] = _protocol(case, run, manifest, done, seed)
    if last is not None and not scores:
        raise last
    notes = _notes(denoiser.card, manifest, items, root)
    return Evaluation(denoiser.card, manifest, protocols, tuple(scores), tuple(kept), notes, failed)


def _planes_of_first(case: Case, items: Sequence[Path | Pair], seed: int) -> int:
    """Return the number of planes of the first image that can be read; the error of the last if none can."""
    for left, item in zip(range(len(items) - 1, -1, -1), items, strict=True):
        try:
            return case.make(item, seed).noisy.shape[0]  # type: ignore[arg-type]
        except DenoiseError:
            if not left:
                raise
    raise ManifestError("An evaluation was asked for, but the set leaves out all of its files.")


def _name_of(item: Path | Pair) -> str:
    return (item.noisy if isinstance(item, Pair) else item).name


class _Run:
    """A model and peers that see the same inputs."""

    def __init__(self, model: Denoiser, engine: Engine, peers: Sequence[Peer], blind: bool) -> None:
        self.model, self.engine, self.peers, self.blind = model, engine, peers, blind
        self._warm: set[tuple[int, ...]] = set()

    def score(self, case: str, sample: Sample) -> tuple[list[Score], View]:
        """Return the figures of the input and of every method, and a crop of each result."""
        wish = "blind" if self.blind else "auto"
        told = None if self.blind else sample.noise
        own = told or choose_noise(sample.noisy, wish, self.model, self.engine)
        noise = sample.noise or own
        planes = sample.noisy.to_tensor().numpy()
        results = {NOISY: (planes, 0.0), self.model.card.id: self._denoise(sample, own)}
        again: dict[str, Callable[[Tensor], Tensor]] = {self.model.card.id: partial(self._half, own)}
        for peer in self.peers:
            begun = time.perf_counter()
            results[peer.name] = (peer(planes, noise), time.perf_counter() - begun)
            again[peer.name] = partial(_peers_half, peer, noise)
        shown = {name: result * np.float32(sample.ratio) for name, (result, _) in results.items()}
        raw = sample.noisy.kind == "raw"
        scores = [
            replace(
                _score(case, sample, name, shown[name], seconds, scaled=raw),
                **_without_truth(planes, results[name][0], again.get(name), math.lcm(16, self.model.card.multiple_of)),
            )
            for name, (_, seconds) in results.items()
        ]
        pictures = {name: _crop(sample.show(image)) for name, image in {**shown, CLEAN: sample.clean}.items()}
        return scores, View(case, sample.name, pictures)

    def _denoise(self, sample: Sample, noise: NoiseLevel) -> tuple[FloatPlanes, float]:
        if sample.noisy.shape not in self._warm:
            self.engine.denoise(sample.noisy, self.model, noise=noise)  # the first run of a size prepares kernels
            self._warm.add(sample.noisy.shape)
        begun = time.perf_counter()
        denoised = self.engine.denoise(sample.noisy, self.model, noise=noise)
        seconds = time.perf_counter() - begun
        return denoised.to_tensor().numpy(), seconds

    def _half(self, noise: NoiseLevel, half: Tensor) -> Tensor:
        """Denoise (1, C, h, w), a mean of two pixels, as the engine does its tiles."""
        plan = self.engine.last_plan
        assert plan is not None
        level = of_halves(noise.for_channels(half.shape[1]))
        return run_batch(self.model, half.to(plan.device), level, precision=plan.precision).cpu()

    @property
    def how(self) -> str:
        """How the methods ran, in words."""
        plan = self.engine.last_plan
        ran = f"on {plan.device} in {plan.precision}" if plan is not None else ""
        peers = "".join(f"; {peer.name}: {peer.what}" for peer in self.peers)
        return (
            f"{self.model.card.id} by denoise {__version__} {ran}, tiled as `denoise run` does, a RAW result at its "
            f"16-bit scale{peers}; seconds: wall time of one image without reading and scoring, "
            f"{torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}"
        )


def _choose_cases(model: str, manifest: Manifest, cases: Sequence[Case]) -> Sequence[Case]:
    if manifest.kind == "cube" or manifest.holds not in ("clean", "pairs"):
        raise ManifestError(
            f"Dataset '{manifest.name}' was to be evaluated, but it holds {manifest.holds} of kind {manifest.kind}. "
            "Give clean photographs, or pairs of photographs or RAW files."
        )
    if manifest.holds == "pairs":
        if cases:
            raise UsageError(f"--case was given, but '{manifest.name}' holds real pairs: leave it out.")
        return (RealPairs(),)
    if cases:
        return tuple(dict.fromkeys(cases))
    return DEFAULT_CASES["raw" if find_card(model).domain == "raw" else "photo"]


def _protocol(case: Case, run: _Run, manifest: Manifest, count: int, seed: int) -> str:
    told = ""
    if not isinstance(case, RealPairs):
        peers = ", peers are told the true level" if run.peers else ""
        told = (
            f"; the model estimates the noise from each image alone{peers}"
            if run.blind
            else ("; every method is told the true noise level")
        )
    elif run.blind:
        told = "; the file's own level is not used"
    scaled = f". {SCALED}" if isinstance(case, CameraNoise) or manifest.kind == "raw" else ""
    return (
        f"Set {manifest.name}, images: {count}. Inputs: {case.protocol}; seed {seed}{told}. Methods: {run.how}. "
        f"Figures: {METRICS}{scaled}."
    )


def _notes(card: ModelCard, manifest: Manifest, items: Sequence[Path | Pair], root: Path) -> tuple[str, ...]:
    notes = []
    for word, names in (
        ("learned from", card.training.data if card.training else ()),
        ("was chosen on", card.training.validation if card.training else ()),
    ):
        if seen := [name for name in names if name == manifest.name or name in manifest.overlaps]:
            notes.append(f"{card.id} {word} {', '.join(seen)}: these figures say nothing about other images.")
    files = [path for item in items for path in ((item.noisy, item.clean) if isinstance(item, Pair) else (item,))]
    altered = altered_files(manifest, files, root)
    if altered:
        notes.append(
            f"{len(altered)} of {len(files)} files are not those of the manifest by their sha256 ({altered[0]}): do "
            "not compare these figures with others."
        )
    elif not manifest.sha256:
        notes.append(f"The manifest of {manifest.name} knows no checksums: nobody can tell whether files were altered.")
    if manifest.count is not None and len(files) < manifest.count - len(manifest.leave_out):
        notes.append(f"Only {len(files)} of {manifest.count} files were looked at.")
    return tuple(notes)


def _score(case: str, sample: Sample, method: str, image: FloatPlanes, seconds: float, *, scaled: bool) -> Score:
    scaled_psnr_db = scaled_ssim = None
    if scaled:
        fitted = np.clip(image, 0, 1) * illuminance_scalar(image, sample.clean)
        scaled_psnr_db, scaled_ssim = psnr_db(fitted, sample.clean), ssim(fitted, sample.clean)
    return Score(
        case, sample.name, method, psnr_db(image, sample.clean), ssim(image, sample.clean),
        scaled_psnr_db, scaled_ssim, seconds,
    )  # fmt: skip


def _without_truth(
    noisy: FloatPlanes, result: FloatPlanes, denoise: Callable[[Tensor], Tensor] | None, multiple: int
) -> dict[str, float | None]:
    """Return the figures that need no truth, for an image large enough to have them."""
    if min(noisy.shape[1:]) < _CHECKED:
        return {}
    if denoise is None:
        return {"whiteness": 0.0, "edges": 0.0, "excess": 0.0, "halves": 1.0}
    before, after = torch.from_numpy(noisy), torch.from_numpy(np.ascontiguousarray(result, np.float32))
    found = self_check(before, after)
    halves = disagreement(middle(before, _HALVED), denoise, multiple)
    return {"whiteness": found.whiteness, "edges": found.edges, "excess": found.excess, "halves": halves}


def _peers_half(peer: Peer, noise: NoiseLevel, half: Tensor) -> Tensor:
    level = of_halves(noise)
    assert level is not None
    return torch.from_numpy(peer(half[0].numpy(), level))[None]


def _brief(score: Score) -> str:
    return f"{score.method} {score.psnr_db:.2f} dB" + (f" in {score.seconds:.2f} s" if score.seconds else "")


def _crop(picture: Picture) -> Picture:
    """Return the middle of a picture, small enough for a page."""
    height, width = picture.shape[:2]
    top, left = (max(0, (size - _VIEW) // 2) for size in (height, width))
    return np.ascontiguousarray(picture[top : top + _VIEW, left : left + _VIEW])
