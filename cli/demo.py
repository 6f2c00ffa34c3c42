"""``denoise demo``: the whole way on an image that is always there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import console


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("demo-output"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the results of an earlier demo.")] = False,
    seed: Annotated[int, typer.Option(help="Of the simulated noise.")] = 0,
) -> None:
    """Make a noisy RAW of a photograph, denoise it as any file of yours, and show before and after.

    Example: denoise demo -o demo-output
    """
    console.start_logging(verbose=False, quiet=False)
    names = [output / name for name in ("noisy.dng", "denoised.dng", "before_after.png")]
    there = [str(name) for name in names if name.exists()]
    if there and not overwrite:
        raise console.usage_error(f"{', '.join(there)} already there. Pass --overwrite or another -o.")
    with console.errors_as_lines():
        from denoise.demo import run_demo

        result = run_demo(output, seed=seed)
    console.say(
        f"The noise of this demo is simulated: a small sensor ({result.camera}), from its published parameters."
    )
    console.say(f"before        {result.noisy}")
    console.say(f"after         {result.denoised}")
    console.say(f"side by side  {result.picture}")
    console.say(
        f"PSNR of the mosaic against the clean one: noisy {result.noisy_psnr_db:.2f} dB, "
        f"denoised {result.denoised_psnr_db:.2f} dB ({result.model}, {result.seconds:.1f} s)"
    )
