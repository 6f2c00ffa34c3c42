"""``denoise train``: train a model by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import console


def train(
    recipe: Annotated[str, typer.Argument(help="The name of a shipped recipe, or a .toml file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for checkpoints, metrics and weights.")],
    data_root: Annotated[
        Path | None, typer.Option(envvar="DENOISE_DATA", help="Folder that holds the datasets.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps instead of the recipe's.")] = None,
    seed: Annotated[int, typer.Option(help="Of the weights and of everything drawn.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the folder's checkpoint.")] = False,
) -> None:
    """Train a model; stop it at any time and go on with --resume.

    Example: denoise train supervised-photo -o runs/photo --data-root data
    """
    console.start_logging(verbose=True, quiet=False)
    with console.errors_as_lines():
        from denoise.engine.device import keep_memory
        from denoise.manifests import data_root as find_root
        from denoise.recipe import load_recipe
        from denoise.trainer import Trainer, make_source

        keep_memory()
        chosen = load_recipe(recipe, {"steps": steps} if steps else None)
        trainer = Trainer(chosen, make_source(chosen, find_root(data_root)), output, seed=seed)
        if resume:
            trainer.resume()
        card = trainer.run(
            lambda now: (
                console.say(f"step {now.step} of {now.steps}, loss {now.total:.5f}") if now.step % 50 == 0 else None
            )
        )
        console.say(f"wrote {output / 'weights.safetensors'} ({card.id}, {card.measured})")
