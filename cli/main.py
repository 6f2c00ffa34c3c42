"""The command ``denoise``: one function a command, each in its own file.

Only typer is imported here; torch and the rest are loaded inside a command's body, so that ``denoise --help`` answers
at once.
"""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from cli.calibrate import calibrate_command
from cli.demo import demo
from cli.doctor import doctor
from cli.evaluate import evaluate
from cli.info import info
from cli.models import models
from cli.run import run
from cli.simulate import simulate
from cli.train import train

app = typer.Typer(
    name="denoise",
    help="Denoise RAW photographs, ordinary photographs and hyperspectral cubes, from the sensor's physics.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(asked: bool) -> None:
    if asked:
        from denoise.version import __version__

        typer.echo(f"denoise {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """Denoise RAW photographs, ordinary photographs and hyperspectral cubes, from the sensor's physics."""


app.command()(run)
app.command()(info)
app.add_typer(models, name="models")
app.command()(demo)
app.command()(doctor)
app.command()(train)
app.command()(evaluate)
app.command("calibrate")(calibrate_command)
app.command()(simulate)


def main() -> None:
    """Run the command line.

    A command lives for seconds and loads a hundred thousand objects that stay: looking through them for garbage while
    they load, and once more at the end, would cost it half a second.
    """
    gc.set_threshold(100_000)
    try:
        app()
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
