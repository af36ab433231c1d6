"""What a mistyped word may have been meant to be. Pure."""

from __future__ import annotations

from collections.abc import Iterable


def find_nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is nearest to ``word``: one that it begins, else one that looks like it; None where none does."""
    # Needed for a mistake alone, and large for a dashboard that makes none.
    import difflib

    words = sorted(known)
    begun = [one for one in words if word and one.startswith(word)]
    return next(iter(begun or difflib.get_close_matches(word, words, 1)), None)


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """The end of a message about an unknown ``word``: "did you mean status?", or ``otherwise`` where nothing is near."""
    near = find_nearest(word, known)
    return f"did you mean {near}?" if near is not None else otherwise
