"""The whole way on a photograph that scikit-image ships: simulated RAW, denoised DNG, before and after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import skimage.data

from denoise.batch import Runner
from denoise.images import RawImage
from denoise.io import read, write
from denoise.io.files import atomic_target, make_folder
from denoise.io.render import render
from denoise.jobs import Job, Options
from denoise.metrics import psnr_db
from denoise.simulate import simulate_raw
from noise_models.profile_shelf import load_profile

CAMERA: Final = "xiaomi-redmi-k30"
ISO: Final = 1600.0


@dataclass(frozen=True)
class DemoResult:
    """Where the files of a demo are, and how near they come to the clean photograph."""

    noisy: Path
    """The simulated RAW."""
    denoised: Path
    """The DNG that was made of it."""
    picture: Path
    """Noisy, denoised and clean side by side, as PNG."""
    camera: str
    """The camera that was simulated."""
    noisy_psnr_db: float
    """PSNR of the noisy planes [dB]."""
    denoised_psnr_db: float
    """PSNR of the denoised planes [dB]."""
    model: str
    """Id of the model."""
    seconds: float
    """For reading, denoising, checking and writing [s]."""


def run_demo(folder: Path, *, model: str = "auto", seed: int = 0) -> DemoResult:
    """Simulate a RAW, denoise it through the same path as a user's file, and draw the comparison.

    Raises
    ------
    FileFormatError
        If the folder cannot be written.
    """
    make_folder(folder)
    photo = skimage.data.astronaut()
    image, clean = simulate_raw(photo, load_profile(CAMERA), ISO, seed=seed)
    noisy_path, denoised_path = folder / "noisy.dng", folder / "denoised.dng"
    write(noisy_path, image)
    with Runner(Options(model=model)) as runner:
        record = runner.run(Job(noisy_path, denoised_path))
    noisy, denoised = read(noisy_path), read(denoised_path)
    assert isinstance(noisy, RawImage)
    assert isinstance(denoised, RawImage)
    picture = folder / "before_after.png"
    panels = [render(part, linear=False) for part in (noisy, denoised, _with_planes(image, clean))]
    with atomic_target(picture) as target:
        cv2.imencode(".png", side_by_side(panels, ("noisy", "denoised", "clean")))[1].tofile(target)
    return DemoResult(
        noisy_path,
        denoised_path,
        picture,
        f"{image.metadata.make} {image.metadata.model}, ISO {ISO:g}",
        psnr_db(noisy.to_tensor(), clean),
        psnr_db(denoised.to_tensor(), clean),
        record["model"]["id"],
        record["timings"]["total_s"],
    )


def _with_planes(image: RawImage, planes: npt.NDArray[np.float32]) -> RawImage:
    canvas = image.canvas()
    canvas.put(0, planes)
    return canvas.finish("")


def side_by_side(panels: list[npt.NDArray[np.uint8]], names: tuple[str, ...]) -> npt.NDArray[np.uint8]:
    """Put rendered pictures (H, W, 3) RGB beside each other under their names; BGR for OpenCV."""
    strip = 28
    framed = []
    for panel, name in zip(panels, names, strict=True):
        head = np.full((strip, panel.shape[1], 3), 32, np.uint8)
        cv2.putText(head, name, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (230, 230, 230), 1, cv2.LINE_AA)
        framed.append(np.vstack((head, panel[..., ::-1])))
    return np.hstack(framed)
