"""How results look.

Tables that fit the terminal, JSON, YAML. Colours only on a terminal. What is in a row is decided elsewhere.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import click

from hub.server.view import Column as Column
from hub.server.view import Section, Table

Format = Literal["table", "wide", "json", "yaml", "name"]

_STYLES = {
    **dict.fromkeys(("Succeeded", "True", "available", "ready"), "green"),
    **dict.fromkeys(("Running", "Admitted"), "cyan"),
    **dict.fromkeys(("Failed", "Lost", "unreachable", "unavailable", "False"), "red"),
    **dict.fromkeys(("Pending", "Queued", "Cancelled", "Unknown", "not accepted", "joining", "leaving"), "yellow"),
    "simulated": "magenta",
}

output_option = click.option(
    "-o",
    "--output",
    "output",
    type=click.Choice(["wide", "json", "yaml", "name"]),
    default=None,
    help="wide adds columns; json and yaml print the objects.",
)


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[object]], *, wide: bool = False) -> None:
    """Left-aligned columns two spaces apart, cut to the terminal's width; piped output is never cut."""
    GrowingTable(columns, wide=wide).add(rows)


class GrowingTable:
    """A table whose rows come one after the other: the head once, and each line as wide as those before it."""

    def __init__(self, columns: Sequence[Column], *, wide: bool = False, indent: int = 0) -> None:
        self._shown = [number for number, column in enumerate(columns) if wide or not column.wide]
        self._heads = [columns[number] for number in self._shown]
        self._widths: list[int] = []
        self._indent = indent

    def add(self, rows: Iterable[Sequence[object]]) -> None:
        cells = [[str(row[number]) if row[number] not in (None, "") else "-" for number in self._shown] for row in rows]
        first = not self._widths
        if first:
            self._widths = [len(head.title) for head in self._heads]
        widths = [max([width, *(len(row[i]) for row in cells)]) for i, width in enumerate(self._widths)]
        if sys.stdout.isatty():
            _shrink(widths, self._heads, shutil.get_terminal_size().columns - self._indent)
        self._widths = widths
        margin = " " * self._indent
        if first:
            click.echo(margin + _line([head.title for head in self._heads], widths, self._heads, bold=True))
        for row in cells:
            click.echo(margin + _line(row, widths, self._heads))


def print_view(table: Table, *, wide: bool = False) -> None:
    print_table(table.columns, table.rows, wide=wide)


def print_sections(sections: Iterable[Section]) -> None:
    """Facts beneath each other, tables and lines indented below the section's title."""
    for section in sections:
        if section.title:
            click.echo("\n" + click.style(section.title, bold=True))
        width = max((len(label) for label, _ in section.facts), default=0) + 1
        for label, value in section.facts:
            head = f"{label}:" if label else ""
            click.echo(f"{head:<{width}}  {status_text(str(value))}")
        if section.table is not None:
            GrowingTable(section.table.columns, wide=True, indent=2).add(section.table.rows)
        for line in section.lines:
            click.echo(f"  {line}")
        if section.table is None and not section.lines and not section.facts:
            click.echo(f"  {section.empty or 'nothing'}")


def print_objects(objects: Sequence[dict[str, Any]], form: str, *, single: bool = False) -> None:
    """`json` and `yaml` as kubectl prints them: one object alone, several as a v1 List; `name` as kind/name lines."""
    if form == "name":
        for item in objects:
            group = item.get("apiVersion", "").partition("/")[0] if "/" in item.get("apiVersion", "") else ""
            kind = str(item.get("kind", "")).lower() + (f".{group}" if group else "")
            click.echo(f"{kind}/{item['metadata']['name']}")
        return
    document: Any = objects[0] if single and objects else {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    if form == "json":
        import json

        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        import yaml

        click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)


def status_text(text: str) -> str:
    """Coloured on a terminal, plain elsewhere (click strips it)."""
    colour = _STYLES.get(text)
    return click.style(text, fg=colour) if colour else text


def _line(cells: Sequence[str], widths: Sequence[int], heads: Sequence[Column], *, bold: bool = False) -> str:
    parts = []
    for cell, width, head in zip(cells, widths, heads, strict=True):
        text = cell if len(cell) <= width else cell[: max(width - 1, 0)] + "…"
        padded = text.rjust(width) if head.right else text if head is heads[-1] else text.ljust(width)
        parts.append(click.style(padded, bold=True) if bold else padded.replace(text, status_text(text), 1))
    return "  ".join(parts).rstrip()


def _shrink(widths: list[int], heads: Sequence[Column], terminal: int) -> None:
    excess = sum(widths) + 2 * (len(widths) - 1) - terminal
    elastic = sorted((i for i, head in enumerate(heads) if head.elastic), key=lambda i: -widths[i])
    for i in elastic:
        if excess <= 0:
            return
        cut = min(excess, max(widths[i] - max(8, len(heads[i].title)), 0))
        widths[i] -= cut
        excess -= cut
