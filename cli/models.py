"""``denoise models``: what can be asked for, and whether it is sound."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import console

models = typer.Typer(
    help="List, describe and verify models.\n\nExample: denoise models list",
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

    Example: denoise models info supervised-unet.raw
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
        from denoise.weights import list_models, load_model

        for name in names or list_models():
            load_model(name)
            typer.echo(f"{name}: sound")
