"""``denoise train``: train a model by a recipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import console


def train(
    recipe: Annotated[str, typer.Argument(help="The name of a shipped recipe, or a .toml file.")] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for checkpoints, metrics and weights.")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(envvar="DENOISE_DATA", help="Folder that holds the datasets.")
    ] = None,
    data_folder: Annotated[
        Path | None, typer.Option(help="Clean RAW files of your own, or else photographs, instead of the datasets.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replaces a value of the recipe; repeat it.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps instead of the recipe's.")] = None,
    seed: Annotated[int, typer.Option(help="Of the weights and of everything drawn.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the folder's checkpoint.")] = False,
    device: Annotated[str, typer.Option(help="auto or cpu.")] = "auto",
    list_: Annotated[bool, typer.Option("--list", help="Show the shipped recipes and stop.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show sizes, memory and time by a short probe.")] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error arose.")] = False,
) -> None:
    """Train a model; stop it at any time and go on with --resume.

    Example: denoise train smoke -o runs/smoke
    """
    console.start_logging(verbose=False, quiet=False)
    if list_:
        _show_recipes()
        return
    if not recipe or (output is None and not dry_run):
        raise console.usage_error("Give a recipe and a folder: denoise train smoke -o runs/smoke, or see --list.")
    if device not in ("auto", "cpu"):
        raise console.usage_error(f"--device {device} was given, but auto or cpu was expected (CUDA is found by auto).")
    with console.errors_as_lines(traceback):
        from denoise.engine.device import keep_memory
        from denoise.manifests import data_root as find_root
        from denoise.recipe import load_recipe, parse_override
        from denoise.trainer import Trainer, make_source

        keep_memory()
        changes = dict(parse_override(text) for text in set_ or [])
        changes |= {"steps": steps} if steps else {}
        changes |= {"data_folder": str(data_folder)} if data_folder else {}
        chosen = load_recipe(recipe, changes)
        source = make_source(chosen, find_root(data_root))
        if output is None or dry_run:
            _show_probe(chosen, source, device)
            return
        trainer = Trainer(chosen, source, output, seed=seed, device="cpu" if device == "cpu" else "auto")
        if resume:
            trainer.resume()
        with interruption_in_words(), progress_bar() as show:
            card = trainer.run(show)
        _say_result(output, card)


@contextmanager
def interruption_in_words() -> Iterator[None]:
    """Say how to go on after an interruption, and end with its exit code."""
    try:
        yield
    except KeyboardInterrupt as stop:
        console.say(str(stop) or "interrupted")
        raise typer.Exit(console.INTERRUPTED) from None


@contextmanager
def progress_bar() -> Iterator[Callable[[Any], None]]:
    """Show a training's progress: a bar on a terminal, else a line every half minute."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    screen = Console(stderr=True)
    if not screen.is_terminal:
        last = time.monotonic() - 25  # the first line after five seconds

        def say(now: Any) -> None:
            nonlocal last
            if time.monotonic() - last > 30 or now.step == now.steps:
                last = time.monotonic()
                console.say(f"step {now.step} of {now.steps}, {_in_words(now)}")

        yield say
        return
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[words]}"))
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task("", total=None, words="")
        yield lambda now: bar.update(task, completed=now.step, total=now.steps, words=_in_words(now))


def _in_words(now: Any) -> str:
    score = "" if now.score != now.score else f", best {now.score:.2f} dB"
    return f"loss {now.total:.5f}, {now.samples_per_s:.1f} samples/s, {_clock(now.seconds_left)} left{score}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _say_result(folder: Path, card: Any) -> None:
    console.say(f"wrote {folder / 'weights.safetensors'} and its card ({card.id}, step {card.training.steps})")
    for case, value in card.measured.items():
        console.say(f"  {case} {value:.2f}")


def _show_recipes() -> None:
    with console.errors_as_lines():
        from denoise.recipe import list_recipes, load_recipe

        for name in list_recipes():
            recipe = load_recipe(name)
            typer.echo(f"{name:20} {recipe.card.id:32} {recipe.steps:6} steps  {recipe.card.summary}")


def _show_probe(recipe: Any, source: Any, device: str) -> None:
    from denoise.probe import probe

    found = probe(recipe, source, device=device)
    for name, value in (
        ("recipe", f"{recipe.name}: {recipe.card.id}"),
        ("network", f"{found.parameters:,} parameters, weights of {found.weights_mib:.1f} MiB"),
        ("checkpoint", f"{found.checkpoint_mib:.1f} MiB, {recipe.keep} kept"),
        ("batch", f"{recipe.batch} examples in {recipe.accumulate} pass(es), {found.processes} process(es)"),
        ("device", f"{found.device}, {recipe.precision}"),
        ("memory", f"{found.peak_gib:.2f} GiB at its peak"),
        ("steps", f"{found.steps}, {1000 * found.step_s:.0f} ms each"),
        ("time", f"{_clock(3600 * found.hours)} without validation"),
    ):
        typer.echo(f"{name:12}{value}")
