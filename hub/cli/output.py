"""How results look.

Tables that fit the terminal, JSON, YAML. Colours only on a terminal. What is in a row is decided elsewhere.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import click

Format = Literal["table", "wide", "json", "yaml", "name"]

_STYLES = {
    **dict.fromkeys(("Succeeded", "True", "available", "ready"), "green"),
    **dict.fromkeys(("Running", "Admitted"), "cyan"),
    **dict.fromkeys(("Failed", "Lost", "unreachable", "False"), "red"),
    **dict.fromkeys(("Pending", "Queued", "Cancelled", "Unknown"), "yellow"),
}

output_option = click.option(
    "-o",
    "--output",
    "output",
    type=click.Choice(["wide", "json", "yaml", "name"]),
    default=None,
    help="wide adds columns; json and yaml print the objects.",
)


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    # Only with -o wide.
    wide: bool = False
    right: bool = False
    # May be cut with … when the terminal is narrow; the others keep their width.
    elastic: bool = False


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[object]], *, wide: bool = False) -> None:
    """Left-aligned columns two spaces apart, cut to the terminal's width; piped output is never cut."""
    shown = [number for number, column in enumerate(columns) if wide or not column.wide]
    cells = [[str(row[number]) if row[number] not in (None, "") else "-" for number in shown] for row in rows]
    heads = [columns[number] for number in shown]
    widths = [max([len(head.title), *(len(row[i]) for row in cells)]) for i, head in enumerate(heads)]
    if sys.stdout.isatty():
        _shrink(widths, heads, shutil.get_terminal_size().columns)
    click.echo(_line([head.title for head in heads], widths, heads, bold=True))
    for row in cells:
        click.echo(_line(row, widths, heads))


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
        padded = text.rjust(width) if head.right else text.ljust(width)
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
