"""Patterns written for RE2, run by Python's `re`: anchors and classes are translated, so that both agree on them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from hub.api.errors import InvalidObjectError

_POSIX: Final = {
    "alpha": "A-Za-z",
    "digit": "0-9",
    "alnum": "A-Za-z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": r"\s",
    "xdigit": "0-9A-Fa-f",
    "word": r"\w",
    "punct": r"!-/:-@\[-`{-~",
}
_PIECE = re.compile(r"\\.|\[:(?P<posix>[a-z]+):\]|\[\^?\]?|\]|\$|.", re.DOTALL)


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """An RE2 pattern for `search`. Raises `InvalidObjectError` when Python has no equal."""
    translated: list[str] = []
    inside = False
    for match in _PIECE.finditer(pattern):
        piece = match[0]
        if inside and match["posix"]:
            piece = _POSIX.get(match["posix"], piece)
        elif not inside and piece.startswith("["):
            inside = True
        elif inside and piece == "]":
            inside = False
        elif inside and piece.startswith("["):
            inside = not piece.endswith("]")
            piece = piece.replace("[", r"\[")
        elif not inside and piece in ("$", r"\z"):
            piece = r"\Z"
        translated.append(piece)
    try:
        return re.compile("".join(translated), re.ASCII)
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidObjectError(f"{pattern!r} is not a pattern we can match: {error}") from error
