"""Tables, as `kubectl get` asks for them: a kind's columns over its objects, the same for get, list and watch.

Cells of custom resources come from the JSONPaths of their columns, those of built-in kinds from their printers. Ages
are worded here, by the server's clock, as Kubernetes does. Pure: the time is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal

import orjson

from hub.api import jsonpath
from hub.api.column import Column
from hub.apiserver.ages import UNKNOWN, since
from hub.apiserver.kinds import NAME, ServedKind

Object = Mapping[str, Any]
Include = Literal["None", "Metadata", "Object"]
Cell = Callable[[Object, float], Any]


def table(
    kind: ServedKind, rows: list[dict[str, Any]], metadata: Mapping[str, Any], *, version: str = "v1"
) -> dict[str, Any]:
    """A meta.k8s.io Table of `rows`; `metadata` is that of a list (resourceVersion, continue)."""
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": dict(metadata),
        "columnDefinitions": column_definitions(kind),
        "rows": rows,
    }


@lru_cache(maxsize=1024)
def _columns(kind: ServedKind) -> tuple[Column, ...]:
    return kind.columns if kind.cells is not None else (NAME, *kind.columns)


def column_definitions(kind: ServedKind) -> list[dict[str, Any]]:
    return [
        {
            "name": column.name,
            "type": column.type,
            "format": "name" if column.path == NAME.path else "",
            "description": column.description,
            "priority": 1 if column.wide else 0,
        }
        for column in _columns(kind)
    ]


def table_rows(kind: ServedKind, objects: Iterable[Object], *, include: Include, now: float) -> list[dict[str, Any]]:
    """One row an object, in the version of `kind`; `include` says what of the object each row carries."""
    cells = kind.cells if kind.cells is not None else _cells(kind)
    rows = []
    for obj in objects:
        row: dict[str, Any] = {"cells": list(cells(obj, now))}
        if include == "Object":
            row["object"] = obj
        elif include == "Metadata":
            row["object"] = {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": obj["metadata"],
            }
        rows.append(row)
    return rows


@lru_cache(maxsize=1024)
def _cells(kind: ServedKind) -> Callable[[Object, float], list[Any]]:
    makers = [_cell(column) for column in _columns(kind)]
    return lambda obj, now: [make(obj, now) for make in makers]


def _cell(column: Column) -> Cell:
    find = jsonpath.compile(column.path).find
    if column.type == "date":

        def date(obj: Object, now: float) -> Any:
            found = find(obj)
            return since(found[0], now) if found and found[0] is not None else UNKNOWN

        return date
    if column.type == "string":

        def text(obj: Object, now: float) -> Any:
            found = [value for value in find(obj) if value is not None]
            # A path over several values shows all of them.
            return ",".join(map(_word, found)) if found else None

        return text
    expected = {"integer": int, "number": (int, float), "boolean": bool}[column.type]

    def value(obj: Object, now: float) -> Any:
        found = find(obj)
        plain = isinstance(found[0], expected) if found else False  # type: ignore[arg-type]  # types of the table
        return found[0] if plain else None

    return value


def _word(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list) and all(isinstance(member, str) for member in value):
        return ",".join(value)
    return orjson.dumps(value).decode()
