"""``denoise simulate``: a photograph spoilt as a camera would spoil it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import console


def simulate(
    photo: Annotated[Path, typer.Argument(help="An RGB picture: PNG, JPEG or TIFF.")],
    profile: Annotated[str, typer.Option(help="A camera.json, or the id of a shipped profile.")],
    iso: Annotated[float, typer.Option(help="Sensitivity, within what the profile covers.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The DNG to write.")] = Path("noisy.dng"),
    ratio: Annotated[float, typer.Option(help="How many times too short the exposure is.")] = 1.0,
    noise: Annotated[
        str, typer.Option(help="Noise model: eld, pnnp (of a profile with a proxy) or poisson-gaussian.")
    ] = "eld",
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")] = False,
) -> None:
    """Make a noisy DNG of a photograph, as a calibrated camera would have shot it.

    Example: denoise simulate holiday.jpg --profile sony-a7s2 --iso 12800 --ratio 30 -o noisy.dng
    """
    console.start_logging(verbose=False, quiet=False)
    if output.exists() and not overwrite:
        raise console.usage_error(f"{output} is already there. Pass --overwrite or another -o.")
    with console.errors_as_lines():
        from denoise.io import write
        from denoise.io.photo import read_photo
        from denoise.simulate import simulate_raw
        from noise_models.profile_shelf import load_profile

        image, _ = simulate_raw(read_photo(photo).pixels, load_profile(profile), iso, ratio, seed=seed, model=noise)
        write(output, image)
    console.say(f"{output}: {image.history[-1]}")
