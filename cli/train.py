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
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder for checkpoints, metrics and weights; or a .safetensors for --noisy."
        ),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(envvar="DENOISE_DATA", help="Folder that holds the datasets.")
    ] = None,
    data_folder: Annotated[
        Path | None, typer.Option(help="Clean RAW files of your own, or else photographs, instead of the datasets.")
    ] = None,
    profile: Annotated[
        str, typer.Option(help="A camera.json or an id: go on from the default RAW network on its noise, and compare.")
    ] = "",
    noise: Annotated[
        str, typer.Option(help="Noise of --profile: eld, pnnp or dark-frames; auto: pnnp where the profile has it.")
    ] = "auto",
    darks: Annotated[str | None, typer.Option(help="Folder of dark frames, for --noise dark-frames.")] = None,
    sample: Annotated[Path | None, typer.Option(help="A noisy RAW of the camera, to compare on as well.")] = None,
    noisy: Annotated[
        Path | None,
        typer.Option(help="Noisy photographs or RAW files of your own: for noise2score and cbsn."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replaces a value of the recipe; repeat it.")
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch datasets that are missing, if they can be checked.")
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps instead of the recipe's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the weights and of everything drawn.")] = 0,
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
    if not profile and (noise != "auto" or darks or sample):
        raise console.usage_error("--noise, --darks and --sample belong to --profile, which was not given.")
    if noisy is not None and (profile or data_folder):
        other = "--profile" if profile else "--data-folder"
        raise console.usage_error(f"--noisy and {other} were given, but a training takes one of them. Choose one.")
    with console.errors_as_lines(traceback):
        from denoise.engine.device import keep_memory
        from denoise.manifests import data_root as find_root
        from denoise.training.recipe import load_recipe, parse_override
        from denoise.training.trainer import Trainer, make_source

        keep_memory()
        root = find_root(data_root)
        changes = dict(parse_override(text) for text in set_ or [])
        changes |= {"steps": steps} if steps else {}
        if data_folder:  # of which some is held back, unless the user names what judges
            changes = {"validation": [], **changes, "data_folder": str(data_folder)}
        chosen = load_recipe(recipe, changes)
        if data_folder and chosen.source == "noisy-images":
            raise console.usage_error(
                f"--data-folder was given, but {recipe} learns from noisy images. Give them as --noisy."
            )
        if download and noisy is None:
            _fetch(chosen, root)
        if profile:
            arguments = {"seed": seed, "resume": resume, "device": device, "sample": sample}
            target = None if dry_run else output
            _train_own_camera(recipe, changes, profile, noise, darks, target, root, arguments)
            return
        if noisy is not None or chosen.source == "noisy-images":
            target = None if output is None else _weights_file(output, resume or dry_run)
            _train_on_noisy(chosen, noisy, target, root, seed, resume, device, dry_run)
            return
        source = make_source(chosen, root)
        if output is None or dry_run:
            _show_probe(chosen, source, device)
            return
        trainer = Trainer(chosen, source, output, seed=seed, device="cpu" if device == "cpu" else "auto")
        if resume:
            trainer.resume()
        with interruption_in_words(), progress_bar() as show:
            card = trainer.run(show)
        if trainer.is_first:
            _say_result(output, card)


def _fetch(recipe: Any, root: Path) -> None:
    """Fetch the datasets of a recipe that are missing."""
    from denoise.downloads import fetch_files
    from denoise.training.sources.clean_images import SCIKIT_IMAGE

    for name in (*(recipe.data if recipe.data_folder is None else ()), *recipe.validation):
        if name not in SCIKIT_IMAGE:
            fetch_files(name, root)


def _train_own_camera(
    name: str, changes: dict[str, Any], profile: str, noise: str, darks: str | None, output: Path | None,
    root: Path, arguments: dict[str, Any],
) -> None:  # fmt: skip
    """Go on from the default network on one camera's noise, and print how the two compare; without output, probe it."""
    from denoise.training.ab_comparison import read_sample
    from denoise.training.own_camera import FINE_TUNING, default_noise, fine_tuning, train_own_camera
    from denoise.training.recipe import load_recipe
    from denoise.training.sources.clean_images import load_clean
    from denoise.training.sources.exposures import OneCamera, choose_cameras
    from denoise.training.trainer import build_source
    from noise_models.profile_shelf import load_profile

    known = load_profile(profile)
    kind = default_noise(known) if noise == "auto" else noise
    camera = choose_cameras(kind, known, darks)
    assert isinstance(camera, OneCamera)
    chosen = fine_tuning(load_recipe(name, {**FINE_TUNING, **changes}), known, kind)
    if output is None:
        if arguments["sample"] is not None:
            read_sample(arguments["sample"], known)
        source = build_source(chosen, *load_clean(chosen, root), cameras=camera)
        _show_probe(chosen, source, arguments["device"])
        return
    console.say(f"{chosen.start} goes on as {chosen.card.id}: noise {kind} of {known.id}, {chosen.steps} steps")
    with interruption_in_words(), progress_bar() as show:
        card, result = train_own_camera(chosen, camera, output, root, progress=show, **arguments)
    console.say(f"wrote {output / 'weights.safetensors'}, its card ({card.id}) and comparison.json")
    _show_comparison(result)


def _show_comparison(result: Any) -> None:
    """Print the figures of both networks, and the verdict."""
    typer.echo(f"{'case':18}{'images':>7}{'noisy':>9}{'default':>9}{'tuned':>9}{'gain':>8}{'error':>8}   [dB]")
    for case in result.cases:
        error = f"{case.error_db:8.2f}" if case.images > 1 else " unknown"
        typer.echo(
            f"{case.case:18}{case.images:7}{case.noisy_db:9.2f}{case.default_db:9.2f}{case.tuned_db:9.2f}"
            f"{case.gain_db:+8.2f}{error}"
        )
    if result.sample is not None:
        typer.echo(f"{result.sample.file}: what was removed, checked against the noise of the profile")
        for word, report in (("default", result.sample.default), ("tuned", result.sample.tuned)):
            typer.echo(
                f"  {word:8} {report.verdict:5} edges {report.edge_excess:.2f}, banding {max(report.banding):.3f}, "
                f"correlation {max(map(abs, report.correlation)):.3f}, noise left {report.noise_left:.2f}, "
                f"areas unchanged {100 * report.unchanged_share:.0f} %"
            )
    typer.echo(result.verdict)


def _weights_file(output: Path, may_exist: bool) -> Path:
    """Return the file that a training on noisy images writes: a .safetensors, or weights.safetensors in a folder."""
    if output.suffix not in ("", ".safetensors") and not output.is_dir():
        raise console.usage_error(
            f"-o {output} was given, but weights are written as .safetensors. "
            f"Give {output.with_suffix('.safetensors')}, or the name of a folder."
        )
    target = output if output.suffix == ".safetensors" else output / "weights.safetensors"
    if target.exists() and not may_exist:
        raise console.usage_error(f"{target} is there already. Go on with its training (--resume), or pass another -o.")
    return target


def _train_on_noisy(
    recipe: Any,
    noisy: Path | None,
    target: Path | None,
    root: Path,
    seed: int,
    resume: bool,
    device: str,
    dry: bool,
) -> None:
    """Say what the noise of the images is and whether the method fits, then train on them alone."""
    from denoise.errors import RecipeError
    from denoise.training.noisy_training import (
        METHODS,
        count_of,
        find_clean,
        find_noisy_sets,
        train_on_noisy,
        trainings,
    )
    from denoise.training.sources.clean_images import names_of
    from denoise.training.sources.noisy_images import advise, find_noisy, measure_correlation, read_noisy

    if recipe.card.method not in METHODS:
        raise RecipeError(
            f"--noisy was given for {recipe.name}, which learns from clean images. Choose noise2score or cbsn."
        )
    images = read_noisy(find_noisy(noisy) if noisy else find_noisy_sets(recipe, root))
    found = measure_correlation(images)
    console.say(f"{count_of(images)}: {found.reason}")
    if warning := advise(found, recipe.card.method):
        console.say(warning)
    clean = None if noisy else find_clean(recipe, root)
    if target is None or dry:
        for chosen, source in trainings(recipe, images, clean):
            _show_probe(chosen, source, device)
        return
    data = ("a folder of the user's",) if noisy else names_of(recipe.data)
    with interruption_in_words(), progress_bar() as show:
        card = train_on_noisy(
            recipe, images, target, seed=seed, resume=resume, device="cpu" if device == "cpu" else "auto", data=data,
            clean=clean, progress=show, say=console.say,
        )  # fmt: skip
    console.say(f"wrote {target} and its card ({card.id}); use it: denoise run IN --model {target}")


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
        from denoise.training.recipe import list_recipes, load_recipe

        for name in list_recipes():
            recipe = load_recipe(name)
            typer.echo(f"{name:20} {recipe.card.id:32} {recipe.steps:6} steps  {recipe.card.summary}")


def _show_probe(recipe: Any, source: Any, device: str) -> None:
    from denoise.training.probe import probe
    from denoise.training.trainer import make_learner, try_batch

    if recipe.source != "noisy-images":
        try_batch(recipe, make_learner(recipe), source)
    found = probe(recipe, source, device=device)
    if found is None:
        return
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
