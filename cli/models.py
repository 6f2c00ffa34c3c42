"""``denoise models``: what can be asked for, whether it is sound, and taking it elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import console

models = typer.Typer(
    help="List, describe, verify and export models.\n\nExample: denoise models list",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@models.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Show every model with the images it is made for.

    Example: denoise models list
    """
    with console.errors_as_lines():
        from denoise.weights import list_models

        cards = list_models()
    if as_json:
        console.emit({name: card.model_dump(mode="json") for name, card in cards.items()})
        return
    width = max(len(name) for name in cards)
    for name, card in cards.items():
        typer.echo(f"{name:<{width}}  {card.domain:<5}  {card.summary}")


@models.command("info")
def info(
    name: Annotated[str, typer.Argument(help="An id, or a .safetensors file.")],
) -> None:
    """Show a model's card as JSON: training, licences, what it measured.

    Example: denoise models info supervised-unet.virtual-cameras
    """
    with console.errors_as_lines():
        from denoise.weights import find_card

        typer.echo(find_card(name).model_dump_json(indent=2))


@models.command("verify")
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Ids or files; all shipped models by default.")] = None,
) -> None:
    """Compare weights with the checksums on their cards.

    Example: denoise models verify
    """
    with console.errors_as_lines():
        from denoise.weights import first_kind, list_models, load_model

        for name in names or list_models():
            load_model(name, kind=first_kind(name))
            typer.echo(f"{name}: sound")


@models.command("export")
def export(
    name: Annotated[str, typer.Argument(help="An id, or a .safetensors file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .onnx file.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a model as ONNX, with its stabiliser inside and its card in the metadata.

    Example: denoise models export supervised-unet.virtual-cameras -o raw.onnx
    """
    if output.exists() and not overwrite:
        raise console.usage_error(f"{output} is there already. Pass --overwrite or another -o.")
    if not output.parent.is_dir():
        raise console.usage_error(f"-o {output} was given, but there is no folder {output.parent}. Create it first.")
    with console.errors_as_lines():
        from denoise.export import export_onnx

        card = export_onnx(name, output)
        console.say(f"wrote {output} ({card.id}; how to use it stands in its metadata 'usage')")
