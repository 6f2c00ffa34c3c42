"""``denoise doctor``: what this machine offers, and what is missing."""

from __future__ import annotations

import typer

from cli import console


def doctor() -> None:
    """Show versions, devices, precision and tools of this machine.

    Example: denoise doctor
    """
    with console.errors_as_lines():
        from denoise.describe import describe_machine

        facts = describe_machine()
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        typer.echo(f"{name:<{width}}  {value}")
