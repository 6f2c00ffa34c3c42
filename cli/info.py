"""``denoise info``: what a file is, as this toolkit sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import console


def info(
    path: Annotated[Path, typer.Argument(help="A RAW file, a photograph or a cube.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    variable: Annotated[str, typer.Option(help="Which array of a .mat, .h5 or .nc file that holds several.")] = "",
    band_axis: Annotated[
        str, typer.Option(help="Where a .npy, .mat or .h5 has its bands: auto, first or last.")
    ] = "auto",
    blind: Annotated[bool, typer.Option("--blind", help="Estimate the noise from the image as well.")] = False,
) -> None:
    """Show size, levels, colour data or bands, and noise of a file.

    Example: denoise info night.ARW
    """
    console.start_logging(verbose=False, quiet=False)
    with console.errors_as_lines():
        from denoise.describe import describe

        facts = describe(path, blind=blind, variable=variable, band_axis=band_axis)
    if as_json:
        console.emit(facts)
        return
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        typer.echo(f"{name:<{width}}  {value}")
