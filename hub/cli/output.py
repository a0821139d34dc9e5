"""How results look.

Tables that fit the terminal (how: hub/cli/layout.py), JSON, YAML. Colours only on a terminal. What is in a row is
decided elsewhere.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import click

from hub.cli.layout import Layout, status_text
from hub.server.view import Column as Column
from hub.server.view import Section, Table

Format = Literal["table", "wide", "json", "yaml", "name"]

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
        self._columns = [(number, column) for number, column in enumerate(columns) if wide or not column.wide]
        self._layout = Layout([column for _, column in self._columns])
        self._indent = " " * indent
        self._begun = False

    def add(self, rows: Iterable[Sequence[object]]) -> None:
        cells = [
            [str(row[number]) if row[number] not in (None, "") else "-" for number, _ in self._columns] for row in rows
        ]
        self._layout.widen(cells)
        if sys.stdout.isatty():
            self._layout.fit(terminal_width() - len(self._indent), first=not self._begun)
        if not self._begun:
            self._begun = True
            click.echo(self._indent + self._layout.head())
        for row in cells:
            for line in self._layout.lines(row):
                click.echo(self._indent + line)


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
            print_text(status_text(str(value)), head=f"{head:<{width}}  ")
        if section.table is not None:
            GrowingTable(section.table.columns, wide=True, indent=2).add(section.table.rows)
        for line in section.lines:
            click.echo(f"  {line}")
        if section.table is None and not section.lines and not section.facts:
            click.echo(f"  {section.empty or 'nothing'}")


def print_text(text: str, *, head: str = "") -> None:
    """`head`, then `text`; on a terminal broken between words, its further lines below its first."""
    room = terminal_width() - len(click.unstyle(head))
    if sys.stdout.isatty() and len(click.unstyle(text)) > room >= 20:
        text = ("\n" + " " * len(click.unstyle(head))).join(textwrap.wrap(text, room, break_on_hyphens=False))
    click.echo(head + text)


def terminal_width() -> int:
    return shutil.get_terminal_size().columns


def print_objects(objects: Sequence[dict[str, Any]], form: str, *, single: bool = False) -> None:
    """`json` and `yaml` as kubectl prints them: one object alone, several as a v1 List; `name` as kind/name lines."""
    if form == "name":
        for item in objects:
            group = item.get("apiVersion", "").partition("/")[0] if "/" in item.get("apiVersion", "") else ""
            kind = str(item.get("kind", "")).lower() + (f".{group}" if group else "")
            click.echo(f"{kind}/{item['metadata']['name']}")
        return
    document: Any = objects[0] if single and objects else {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    print_document(document, form)


def print_document(document: Any, form: str) -> None:
    """As `json` or `yaml`."""
    if form == "json":
        import json

        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        import yaml

        click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)
