"""What is shown, before it is known how: tables, facts and lines as plain values, for a terminal or a page.

Cells are text, numbers or None (nothing to say). Which of them fits where, colours and cutting are the printer's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hub.api.errors import InvalidObjectError
from hub.api.timestamps import format_duration, parse_time

Cell = str | int | None
SIMULATED: Final = "simulated"


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    # Only with -o wide.
    wide: bool = False
    right: bool = False
    # May be cut with … when the terminal is narrow; the others keep their width.
    elastic: bool = False
    # Sentences: broken between words instead, or put below the row.
    prose: bool = False
    # Where cutting is not enough, columns are left out, the highest first; 0 never.
    spare: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a description: any of facts (label, value), a table, lines as they are. `empty` is said when none."""

    title: str
    facts: tuple[tuple[str, Cell], ...] = ()
    table: Table | None = None
    lines: tuple[str, ...] = ()
    empty: str = ""


def moment(text: object) -> float | None:
    """Epoch seconds of a wire time; None where it is no time."""
    try:
        return parse_time(str(text)).timestamp() if text else None
    except (InvalidObjectError, OverflowError):
        return None


def age(since: float | None, now: float) -> str | None:
    """In whole seconds: the wire has no finer times."""
    return None if since is None else _whole(now - since)


def span(start: float | None, end: float | None, now: float) -> str | None:
    """How long from `start` to `end`, or until now."""
    return None if start is None else _whole((now if end is None else end) - start)


def _whole(seconds: float) -> str:
    return format_duration(seconds) if seconds >= 1 else "0s"


def some(values: Iterable[str], most: int = 3) -> str:
    """The first ones and how many more there are."""
    found: Sequence[str] = list(values)
    return ",".join(found[:most]) + (f"+{len(found) - most}" if len(found) > most else "")


def pairs(values: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{key}={value}" if value else key for key, value in values)
