"""How an unknown name is answered: with the nearest known one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """Name the known word nearest to a misspelt one, as the end of a message.

    Parameters
    ----------
    word : str
        What was asked for.
    known : iterable of str
        What exists.

    Returns
    -------
    str
        ``"Did you mean 'x'? Known: x, y."``, or only the list where nothing is near.
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.4)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    return f"{hint}Known: {', '.join(names) or 'none'}."
