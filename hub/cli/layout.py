"""How a table fits a terminal: what is cut, what is broken between words, and what is left out when nothing else helps.

Pure: widths and text in, lines out. Piped output is never fitted; that is the caller's to know.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Final

import click

from hub.server.view import Column

_GAP: Final = 2
# As much of a cut cell as can be recognised, and as little as there must be when nothing else helps.
_LEAST: Final = 14
_VERY_LEAST: Final = 8
# Prose in fewer columns than that is unreadable: it goes below its row.
_LEAST_PROSE: Final = 28
_BELOW: Final = "    "

_STYLES: Final = {
    **dict.fromkeys(("Succeeded", "True", "available", "ready"), "green"),
    **dict.fromkeys(("Running", "Admitted"), "cyan"),
    **dict.fromkeys(("Failed", "Lost", "unreachable", "unavailable", "False"), "red"),
    **dict.fromkeys(("Pending", "Queued", "Cancelled", "Unknown", "not accepted", "joining", "leaving"), "yellow"),
    "simulated": "magenta",
}


def status_text(text: str) -> str:
    """Coloured on a terminal, plain elsewhere (click strips it)."""
    colour = _STYLES.get(text)
    return click.style(text, fg=colour) if colour else text


class Layout:
    """`widen` by what is to be shown, `fit` into a terminal, then `head` and the `lines` of each row."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._natural = [len(column.title) for column in columns]
        self._shown = list(range(len(columns)))
        self._below: list[int] = []
        self._widths = list(self._natural)
        self._terminal = 0

    def widen(self, rows: Iterable[Sequence[str]]) -> None:
        for row in rows:
            self._natural = [max(width, len(cell)) for width, cell in zip(self._natural, row, strict=True)]
        self._widths = [self._natural[i] for i in self._shown]

    def fit(self, terminal: int, *, first: bool) -> None:
        """Which columns there are is settled with the `first` rows; later ones only change widths.

        What gives way, in this order: sentences are broken, then go below their row; other elastic columns are cut to
        something that can still be recognised; columns are left out, those with the highest `spare` first; what is
        left is cut to what fits.
        """
        self._terminal = terminal
        if first:
            self._shown, self._below = list(range(len(self._columns))), []
        self._shrink(_LEAST, whole=first)
        while first and self._excess() > 0:
            prose = [i for i in self._shown if self._columns[i].prose]
            spare = max(self._shown, key=lambda i: (self._columns[i].spare, i))
            if prose:
                self._shown.remove(prose[-1])
                self._below.insert(0, prose[-1])
            elif self._columns[spare].spare:
                self._shown.remove(spare)
            else:
                break
            self._shrink(_LEAST, whole=True)
        if self._excess() > 0:
            self._shrink(_VERY_LEAST, whole=False)

    def head(self) -> str:
        return self._line([self._columns[i].title for i in self._shown], bold=True)

    def lines(self, row: Sequence[str]) -> Iterable[str]:
        """One line, and more where prose is broken."""
        parts = []
        for i, width in zip(self._shown, self._widths, strict=True):
            whole = [row[i]] if not self._columns[i].prose or len(row[i]) <= width else _broken(row[i], width)
            parts.append(whole)
        for number in range(max(map(len, parts), default=1)):
            yield self._line([part[number] if number < len(part) else "" for part in parts])
        for i in self._below:
            if row[i] != "-":
                for line in _broken(row[i], max(self._terminal - len(_BELOW), _VERY_LEAST)):
                    yield _BELOW + line

    def _excess(self) -> int:
        return sum(self._widths) + _GAP * (len(self._widths) - 1) - self._terminal

    def _shrink(self, recognisable: int, *, whole: bool) -> None:
        """`whole`: nothing is cut while there are sentences that can be put elsewhere."""
        self._widths = [self._natural[i] for i in self._shown]
        heads = [self._columns[i] for i in self._shown]
        sentences = [at for at, head in enumerate(heads) if head.prose]
        others = [at for at, head in enumerate(heads) if head.elastic and not head.prose]
        for at in sorted(sentences, key=lambda at: -self._widths[at]):
            self._cut(at, _LEAST_PROSE)
        if whole and sentences and self._excess() > 0:
            return
        for at in sorted(others, key=lambda at: -self._widths[at]):
            self._cut(at, recognisable)

    def _cut(self, at: int, least: int) -> None:
        least = max(least, len(self._columns[self._shown[at]].title))
        self._widths[at] -= min(max(self._excess(), 0), max(self._widths[at] - least, 0))

    def _line(self, cells: Sequence[str], *, bold: bool = False) -> str:
        parts = []
        for number, (cell, width) in enumerate(zip(cells, self._widths, strict=True)):
            text = cell if len(cell) <= width else cell[: max(width - 1, 0)] + "…"
            last = number == len(cells) - 1
            padded = (
                text.rjust(width) if self._columns[self._shown[number]].right else text if last else text.ljust(width)
            )
            parts.append(click.style(padded, bold=True) if bold else padded.replace(text, status_text(text), 1))
        return (" " * _GAP).join(parts).rstrip()


def _broken(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]
