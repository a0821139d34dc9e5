"""What a schema says about single values (bounds, lengths, patterns, enums, formats, doubles), as notes for the walk.

A note looks at one value and writes down what is wrong with it; it changes nothing. hub/apiserver/structural.py builds
the walk of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Union

from hub.api.errors import InvalidObjectError
from hub.api.frozen import freeze
from hub.api.re2 import compile_pattern
from hub.apiserver import invalid
from hub.apiserver.formats import STRING_FORMATS
from hub.apiserver.invalid import FieldError

Path = Union["tuple[Path, str | int]", None]
Note = Callable[[Any, Path, "Findings"], None]
_LARGEST_FLOAT: Final = 2**1023


class Findings:
    """What one walk found: errors with the path they are about, and the paths of fields that were dropped."""

    __slots__ = ("errors", "unknown")

    def __init__(self) -> None:
        self.errors: list[tuple[Path, FieldError]] = []
        self.unknown: list[str] = []


def spell(path: Path) -> str:
    """``spec.containers[0].name``"""
    parts: list[str | int] = []
    while path is not None:
        path, key = path
        parts.append(key)
    text = ""
    for part in reversed(parts):
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def enum_note(allowed: list[Any]) -> Note:
    identities = frozenset(map(freeze, allowed))

    def note(value: Any, path: Path, findings: Findings) -> None:
        if freeze(value) not in identities:
            findings.errors.append((path, invalid.not_supported(spell(path), value, allowed)))

    return note


def set_note(value: Any, path: Path, findings: Findings) -> None:
    """No value twice in a list."""
    seen: set[Any] = set()
    for index, member in enumerate(value):
        identity = freeze(member)
        if identity in seen:
            findings.errors.append((path, invalid.duplicate(spell((path, index)), member)))
        seen.add(identity)


def map_note(keys: tuple[str, ...]) -> Note:
    """No two members of a list with the same `keys`."""

    def note(value: Any, path: Path, findings: Findings) -> None:
        seen: set[Any] = set()
        for index, member in enumerate(value):
            if member.__class__ is not dict:
                continue
            identity = tuple(freeze(member.get(key)) for key in keys)
            if identity in seen:
                shown = {key: member.get(key) for key in keys}
                findings.errors.append((path, invalid.duplicate(spell((path, index)), shown)))
            seen.add(identity)

    return note


def embedded_note(value: Any, path: Path, findings: Findings) -> None:
    """An object within an object says what it is."""
    for name in ("apiVersion", "kind"):
        found = value.get(name)
        if not isinstance(found, str) or not found:
            findings.errors.append((path, invalid.required(spell((path, name)), "must not be empty")))
    if not isinstance(value.get("metadata", {}), dict):
        at = (path, "metadata")
        findings.errors.append((at, invalid.wrong_type(spell(at), value["metadata"], "object")))


def size_notes(schema: Mapping[str, Any], where: str, suffix: str, noun: str) -> list[Note]:
    """minItems and maxItems, or minProperties and maxProperties."""
    notes: list[Note] = []
    lowest, highest = _count(schema, f"min{suffix}", where), _count(schema, f"max{suffix}", where)
    if lowest:

        def at_least(value: Any, path: Path, findings: Findings) -> None:
            if len(value) < lowest:
                field = spell(path)
                detail = f"{field} in body should have at least {lowest} {noun}"
                findings.errors.append((path, invalid.wrong(field, len(value), detail)))

        notes.append(at_least)
    if highest is not None:

        def at_most(value: Any, path: Path, findings: Findings) -> None:
            if len(value) > highest:
                findings.errors.append((path, invalid.too_many(spell(path), len(value), highest)))

        notes.append(at_most)
    return notes


def string_notes(schema: Mapping[str, Any], where: str) -> list[Note]:
    notes: list[Note] = []
    shortest, longest = _count(schema, "minLength", where), _count(schema, "maxLength", where)
    if shortest:

        def at_least(value: Any, path: Path, findings: Findings) -> None:
            if value.__class__ is str and len(value) < shortest:
                field = spell(path)
                detail = f"{field} in body should be at least {shortest} chars long"
                findings.errors.append((path, invalid.wrong(field, value, detail)))

        notes.append(at_least)
    if longest is not None:

        def at_most(value: Any, path: Path, findings: Findings) -> None:
            if value.__class__ is str and len(value) > longest:
                findings.errors.append((path, invalid.too_long(spell(path), longest)))

        notes.append(at_most)
    if (pattern := schema.get("pattern")) is not None:
        notes.append(_pattern_note(pattern, where))
    written = schema.get("format")
    if (test := STRING_FORMATS.get(str(written))) is not None:

        def well_formed(value: Any, path: Path, findings: Findings) -> None:
            if value.__class__ is str and not test(value):
                field = spell(path)
                detail = f"{field} in body must be of type {written}"
                findings.errors.append((path, invalid.wrong(field, value, detail)))

        notes.append(well_formed)
    return notes


def _pattern_note(pattern: Any, where: str) -> Note:
    if not isinstance(pattern, str):
        raise InvalidObjectError("expected a regular expression", field=f"{where}.pattern")
    try:
        search = compile_pattern(pattern).search
    except InvalidObjectError as error:
        raise InvalidObjectError(str(error), field=f"{where}.pattern") from error

    def note(value: Any, path: Path, findings: Findings) -> None:
        if value.__class__ is str and search(value) is None:
            field = spell(path)
            findings.errors.append((path, invalid.wrong(field, value, f"{field} in body should match '{pattern}'")))

    return note


def number_notes(schema: Mapping[str, Any], where: str) -> list[Note]:
    notes: list[Note] = []

    def add(holds: Callable[[Any], bool], words: str) -> None:
        def note(value: Any, path: Path, findings: Findings) -> None:
            if (value.__class__ is int or value.__class__ is float) and not holds(value):
                field = spell(path)
                findings.errors.append((path, invalid.wrong(field, value, f"{field} in body should be {words}")))

        notes.append(note)

    lowest, highest, step = (_bound(schema, name, where) for name in ("minimum", "maximum", "multipleOf"))
    if lowest is not None and schema.get("exclusiveMinimum") is True:
        add(lambda value: bool(value > lowest), f"greater than {lowest}")
    elif lowest is not None:
        add(lambda value: bool(value >= lowest), f"greater than or equal to {lowest}")
    if highest is not None and schema.get("exclusiveMaximum") is True:
        add(lambda value: bool(value < highest), f"less than {highest}")
    elif highest is not None:
        add(lambda value: bool(value <= highest), f"less than or equal to {highest}")
    if step:
        add(lambda value: _is_multiple(value, step), f"a multiple of {step}")
    return notes


def _is_multiple(value: int | float, step: int | float) -> bool:
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    if abs(value) > _LARGEST_FLOAT:
        return False
    quotient = float(value) / step
    return math.isfinite(quotient) and math.isclose(quotient, round(quotient), abs_tol=1e-9)


def _bound(schema: Mapping[str, Any], name: str, where: str) -> int | float | None:
    value = schema.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidObjectError(f"found {value!r}; expected a number", field=f"{where}.{name}")
    return int(value) if float(value).is_integer() else value


def _count(schema: Mapping[str, Any], name: str, where: str) -> int | None:
    value = schema.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidObjectError(f"found {value!r}; expected a whole number from 0", field=f"{where}.{name}")
    return value
