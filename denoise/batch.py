"""Many files, one after the other, and what is told of each.

One file is read, its noise chosen, denoised by the engine, checked, written, and described in a sidecar.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast, get_args

from denoise.cubes.cube import HyperspectralCube
from denoise.denoiser import Denoiser
from denoise.engine import Engine
from denoise.engine.device import DTYPES
from denoise.errors import ShapeError, UsageError, nearest
from denoise.fidelity import check_fidelity
from denoise.images import Image, Photo, RawImage
from denoise.io import write, writer_of
from denoise.io.dng import Compression
from denoise.io.exif import ExifTool
from denoise.io.files import atomic_target, make_folder
from denoise.jobs import Job, Options, read_input
from denoise.noise_source import choose_noise, choose_profile, is_camera_jpeg, look_at_noise, parse_noise
from denoise.repair import remove_fixed_pattern
from denoise.version import __version__
from denoise.views import VIEWS, ViewsAveraged
from denoise.weights import load_model, resolve_model
from noise_models.base import NoiseModelError
from noise_models.level import FloatArray, NoiseLevel
from noise_models.profile import CameraProfile

_LOG = logging.getLogger(__name__)
_NOT_CHECKED = {"verdict": "not checked", "reasons": ["no noise level was measured to check it by"]}


def check_device(word: str) -> None:
    """Raise `UsageError` if a word is not the name of a device, whether this machine has it or not."""
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", word, re.ASCII) is None:
        raise UsageError(f"--device {word} was given, but auto, cpu, cuda, cuda:NUMBER or mps was expected.")


def check_options(options: Options) -> None:
    """Raise `UsageError` if an option makes no sense, whatever the image."""
    check_device(options.device)
    for name, word, known in (
        ("precision", options.precision, ("auto", *DTYPES)),
        ("compression", options.compression, get_args(Compression)),
        ("band-axis", options.band_axis, ("auto", "first", "last")),
    ):
        if word not in known:
            raise UsageError(f"--{name} {word} was given. {nearest(word, known)}")
    if options.views not in VIEWS:
        raise UsageError(f"--views {options.views} was given, but 1, 2 or 4 was expected.")
    tile = options.tile
    if tile != "auto" and not (tile.isdecimal() and int(tile) > 0):
        raise UsageError(f"--tile {tile} was given, but auto or a number of pixels above 0 was expected.")
    if options.noise not in ("auto", "file", "profile", "blind"):
        try:
            parse_noise(options.noise)
        except NoiseModelError as error:
            raise UsageError(f"--noise {options.noise} is not a noise level: {error}") from error


class Runner:
    """Denoises files with one engine, one model in memory, and one exiftool.

    Parameters
    ----------
    options : Options
        How.
    ahead : dict of Path to Future, optional
        Images that are being read already, by their files; each is taken out when its turn comes.

    Raises
    ------
    UsageError
        If an option makes no sense.
    """

    def __init__(
        self, options: Options, ahead: dict[Path, Future[RawImage | Photo | HyperspectralCube]] | None = None
    ) -> None:
        check_options(options)
        self.options = options
        self._ahead = ahead if ahead is not None else {}
        self.engine = Engine(
            options.device, options.precision, options.tile, max_memory=options.max_memory, seed=options.seed
        )
        self.exiftool = ExifTool()
        self._models: dict[str, Denoiser] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.exiftool.close()

    def plan(self, job: Job) -> dict[str, Any]:
        """Say how a file would be denoised, without doing it."""
        image, profile = self._read(job.source)
        writer_of(job.target, image.kind)
        model = self._model(image)
        noise = self._noise(image, model, profile)
        plan = self.engine.plan(image, model)
        return {"event": "planned", **_what(job, model, noise), "plan": plan.to_dict()}

    def run(self, job: Job, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
        """Denoise a file; returns what its sidecar says.

        Raises
        ------
        DenoiseError, NoiseModelError
            Whatever keeps it from being read, denoised, checked or written.
        """
        clock = _Clock()
        image, profile = self._read(job.source)
        writer_of(job.target, image.kind)
        model = self._model(image)
        clock.lap("read_s")
        noise = self._noise(image, model, profile)
        clock.lap("noise_s")
        strength = self.options.strength
        plan = self.engine.plan(image, model)
        denoised = self.engine.denoise(image, model, noise=noise, strength=strength, plan=plan, progress=progress)
        clock.lap("denoise_s")
        fidelity = (
            _NOT_CHECKED if noise is None else check_fidelity(image, denoised, noise, strength=strength).to_dict()
        )
        clock.lap("check_s")
        self._write(job, image, cast(RawImage | Photo | HyperspectralCube, denoised), noise)
        clock.lap("write_s")
        record = {
            "event": "done",
            **_what(job, model, noise),
            "strength": strength,
            "views": self.options.views,
            "plan": (self.engine.last_plan or plan).to_dict(),
            "fidelity": fidelity,
            "history": list(denoised.history),
            "input_sha256": _sha256(job.source),
            **_data_sha256(denoised),
            "version": __version__,
            "timings": {**clock.laps, **self.engine.last_timings, "total_s": clock.total()},
        }
        if self.options.sidecar:
            with atomic_target(job.target.with_name(job.target.name + ".json")) as target:
                target.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
        return record

    def _model(self, image: Image) -> Denoiser:
        if self.options.views > 1 and isinstance(image, HyperspectralCube):
            raise UsageError(f"--views {self.options.views} was given, but a cube has one view. Leave it out.")
        wish = "camera-jpeg" if self._is_camera_jpeg(image) else self.options.model
        key = resolve_model(wish, image.kind, image.shape[0])
        if key not in self._models:
            model = load_model(key)
            self._models[key] = model if self.options.views == 1 else ViewsAveraged(model, self.options.views)
        return self._models[key]

    def _is_camera_jpeg(self, image: Image) -> bool:
        """Whether nobody said which model or noise, and a photograph's noise is one that neighbours share."""
        free = self.options.model == "auto" and self.options.noise in ("auto", "blind")
        return free and isinstance(image, Photo) and is_camera_jpeg(image)

    def _read(self, source: Path) -> tuple[RawImage | Photo | HyperspectralCube, CameraProfile | None]:
        """Read a file; with a profile of its camera, its fixed pattern is taken out."""
        ahead = self._ahead.pop(source, None)
        image = ahead.result() if ahead is not None else read_input(source, self.options)
        del ahead  # it would hold the image for as long as this runs
        profile = choose_profile(image, self.options.profile) if isinstance(image, RawImage) else None
        if profile is None or not isinstance(image, RawImage):
            return image, None
        try:
            return remove_fixed_pattern(image, profile), profile
        except ShapeError as error:
            if self.options.profile:
                raise
            _LOG.warning("The profile of your folder is not used: %s", error)
            return image, None

    def _noise(self, image: Image, model: Denoiser, profile: CameraProfile | None) -> NoiseLevel | None:
        """Return the noise level; None where the model measures it by itself, or has no use for it."""
        unknown = self.options.noise == "auto" and image.noise is None and not isinstance(image, RawImage)
        served = ("ignored", "used") if isinstance(image, HyperspectralCube) else ("ignored",)
        if unknown and model.card.noise in served:
            if isinstance(image, Photo) and self.options.model != "auto":
                _warn_of_other_noise(image, model)
            return None
        return choose_noise(image, self.options.noise, model, self.engine, profile)

    def _write(
        self, job: Job, image: Image, denoised: RawImage | Photo | HyperspectralCube, noise: NoiseLevel | None
    ) -> None:
        make_folder(job.target.parent)
        if not isinstance(denoised, RawImage) or not isinstance(image, RawImage) or noise is None:
            write(job.target, denoised)
            return
        strength = self.options.strength
        denoised = replace(denoised, noise=noise.left(1 - strength))
        ending = job.target.suffix.lower()
        keywords: dict[str, Any] = {"exiftool": self.exiftool} if ending in (".dng", ".tif", ".tiff") else {}
        if ending == ".dng":
            keywords |= {
                "source": replace(image, noise=noise),
                "compression": self.options.compression,
                "noise_reduction": strength,
            }
        write(job.target, denoised, **keywords)


def _warn_of_other_noise(photo: Photo, model: Denoiser) -> None:
    """Say where a model for the noise of a camera's JPEG meets a photograph without it: it would take texture."""
    seen = look_at_noise(photo)
    if seen.method != "cbsn":
        _LOG.warning(
            "%s is made for noise that neighbours share, as in a camera's JPEG. Found here: %s. Fine texture may go as "
            "well; compare with --model auto.", model.card.id, seen.reason,
        )  # fmt: skip


class _Clock:
    """Laps of a run [s]."""

    def __init__(self) -> None:
        self.begun = self.last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self.last, 3)
        self.last = now

    def total(self) -> float:
        return round(time.perf_counter() - self.begun, 3)


def _what(job: Job, model: Denoiser, noise: NoiseLevel | None) -> dict[str, Any]:
    """Describe a job, its model and its noise as JSON can hold it."""
    card = model.card
    own = "measured by the model, band by band" if card.domain == "cube" else "not needed by the model"
    return {
        "input": str(job.source),
        "output": str(job.target),
        "model": {"id": card.id, "sha256": card.sha256, "licence_weights": card.licence_weights},
        "noise": {
            "source": own.partition(",")[0] if noise is None else noise.source,
            "shot": None if noise is None else noise.shot.tolist(),
            "read": None if noise is None else noise.read.tolist(),
            "text": own if noise is None else describe_noise(noise),
        },
    }


def describe_noise(noise: NoiseLevel) -> str:
    """Return a noise level as a line for people."""
    shot, read = (_values(part) for part in (noise.shot, noise.read))
    return f"{noise.source}: shot {shot}, read {read}"


def _values(part: FloatArray) -> str:
    words = list(dict.fromkeys(f"{value:.3g}" for value in part))
    return ", ".join(words) if len(words) <= 4 else f"{part.min():.3g} to {part.max():.3g}"


def _data_sha256(image: Image) -> dict[str, str]:
    """Return the checksum of a data file that stands beside the header that was named."""
    data = image.metadata.entries.get("data") if isinstance(image, HyperspectralCube) else None
    return {} if data is None else {"input_data_sha256": _sha256(data)}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
