"""The noise proxy of a calibrated camera, trained on its dark frames by the toolkit's one loop."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from denoise.training.checkpoints import list_checkpoints
from denoise.training.loop import Loop, Progress
from denoise.training.settings import LoopSettings
from noise_models.calibration.estimate import Calibration
from noise_models.calibration.frames import FrameStack
from noise_models.calibration.proxy import read_pixels, with_proxy
from noise_models.pnnp_network import NoiseProxy
from noise_models.pnnp_training import PixelNoise, PixelNoiseSource, ProxyLearner, start_from
from noise_models.profile import CameraProfile

STEPS: Final = 2000
_ISOS_A_STEP: Final = 4


def train_proxy(
    profile: CameraProfile,
    noises: Sequence[PixelNoise],
    folder: Path,
    *,
    steps: int = STEPS,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> NoiseProxy:
    """Train the proxy of a camera.

    Parameters
    ----------
    profile : CameraProfile
        Its gain modes and read noise, from which the proxy starts as Gaussian noise.
    noises : sequence of PixelNoise
        At each of its ISOs, from dark frames.
    folder : path
        Holds the checkpoints while it trains and is removed afterwards; a training that was stopped goes on from
        them, if the dark frames are the same.
    steps : int
        Optimiser steps.
    seed : int
        Of the weights and of everything drawn.
    progress : callable, optional
        Called after every step.

    Returns
    -------
    NoiseProxy
        Its mean is zero.

    Raises
    ------
    CalibrationError
        If there is no noise to learn from.
    KeyboardInterrupt
        After SIGINT or SIGTERM, once the checkpoint is written; the same call goes on from it.
    """
    proxy = NoiseProxy.begin([profile.mode_points(mode) for mode in range(len(profile.breaks_iso) + 1)], seed)
    learner = ProxyLearner(proxy, noises)
    own = _make_room(folder, _fingerprint(noises, steps, seed))
    resumed = bool(list_checkpoints(own))
    if not resumed:
        start_from(proxy, noises)
    loop = Loop(learner, PixelNoiseSource(noises), _settings(steps, len(noises)), own, seed=seed, device="cpu")
    if resumed:
        loop.load_checkpoint()
    try:
        learner.load_state_dict(loop.run(progress).weights)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped at step {loop.step} of {steps} of the noise proxy; the checkpoint is in {own}. "
            "Give the same command again to go on."
        ) from None
    shutil.rmtree(folder)
    proxy.centre()
    return proxy.requires_grad_(False)


def _settings(steps: int, isos: int) -> LoopSettings:
    """Return how a proxy of so many ISOs is trained; nothing is validated, and the last average is kept."""
    return LoopSettings(
        steps=steps,
        batch=min(_ISOS_A_STEP, isos),
        accumulate=1,
        optimiser="adamw",
        learning_rate=0.0015,
        weight_decay=0.0,
        steady=0.05,
        warm_up=50,
        ema=0.99,
        clip=1.0,
        precision="float32",
        validate_steps=None,
        validate_minutes=60.0,
        checkpoint_minutes=0.5,
        keep=1,
    )


def _make_room(folder: Path, name: str) -> Path:
    """Return the folder of a training's checkpoints, those of other dark frames beside it removed."""
    own = folder / name
    for other in folder.glob("*"):
        if other != own and other.is_dir():
            shutil.rmtree(other)
    return own


def add_proxy(
    found: Calibration,
    stacks: Sequence[FrameStack],
    folder: Path,
    progress: Callable[[str], None] | None = None,
    *,
    steps: int = STEPS,
) -> Calibration:
    """Train a proxy after a calibration, on its dark frames, and measure it on those held back.

    Parameters
    ----------
    found : Calibration
        Of these frames.
    stacks : sequence of FrameStack
        That it was made from.
    folder : path
        See `train_proxy`.
    progress : callable, optional
        Told what is being done.
    steps : int
        Optimiser steps.

    Returns
    -------
    Calibration
        With the proxy, and the fidelity of all three noise models.

    Raises
    ------
    KeyboardInterrupt
        As `train_proxy`.
    """
    tell = progress or (lambda text: None)
    frames = read_pixels(found, stacks, tell)

    def told(now: Progress) -> None:
        if now.step % max(steps // 20, 1) == 0:
            tell(f"noise proxy {now.step}/{now.steps}, distance {now.total:.4f}, {now.seconds_left / 60:.1f} min left")

    proxy = train_proxy(found.profile, frames.noises, folder, steps=steps, progress=told)
    return with_proxy(found, proxy, frames.held)


def _fingerprint(noises: Sequence[PixelNoise], steps: int, seed: int) -> str:
    """Return a word that changes with the dark frames, the number of steps and the seed."""
    code = zlib.crc32(repr((steps, seed)).encode())
    for noise in noises:
        head = repr((noise.iso, noise.mode, noise.frames, noise.rounded)).encode()
        code = zlib.crc32(np.ascontiguousarray(noise.law.values[::997].numpy()).tobytes(), zlib.crc32(head, code))
    return f"{code:08x}"
