"""``denoise info``: what a file is, as this toolkit sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import console


def info(
    path: Annotated[Path, typer.Argument(help="A RAW file or a photograph.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    blind: Annotated[bool, typer.Option("--blind", help="Estimate the noise from the image as well.")] = False,
) -> None:
    """Show size, levels, colour data and noise of a file.

    Example: denoise info night.ARW
    """
    console.start_logging(verbose=False, quiet=False)
    with console.errors_as_lines():
        from denoise.describe import describe

        facts = describe(path, blind=blind)
    if as_json:
        console.emit(facts)
        return
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        typer.echo(f"{name:<{width}}  {value}")
