"""The walk of a schema over a value: each node of the schema becomes one closure.

A closure takes a value, its path and the `Findings`, and returns the value as it is to be stored. Unknown fields are
dropped, nulls that may not be are absent, missing fields get their defaults, and what is wrong is noted with its path.
It raises nothing. Paths are linked pairs, spelled out only when something is wrong with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from hub.api.errors import InvalidObjectError
from hub.apiserver import invalid
from hub.apiserver.constraints import (
    Findings,
    Note,
    Path,
    embedded_note,
    enum_note,
    map_note,
    number_notes,
    set_note,
    size_notes,
    spell,
    string_notes,
)
from hub.apiserver.formats import INTEGER_BOUNDS

Check = Callable[[Any, Path, Findings], Any]

_JUNCTORS: Final = ("allOf", "anyOf", "oneOf", "not")
_TYPES: Final = ("object", "array", "string", "integer", "number", "boolean")
# What says, where a branch of anyOf and its like names no type, which values it is about.
_OBJECT_WORDS: Final = ("properties", "additionalProperties", "required", "minProperties", "maxProperties")
_ARRAY_WORDS: Final = ("items", "minItems", "maxItems", "uniqueItems")
_EMBEDDED: Final = ("apiVersion", "kind", "metadata")


def compile_node(schema: Any, where: str, *, pruning: bool = True) -> Check:
    """Raises `InvalidObjectError` for what is not structural. Without `pruning` nothing is dropped or defaulted."""
    if not isinstance(schema, Mapping):
        raise InvalidObjectError("expected a schema", field=where)
    if "$ref" in schema:
        raise InvalidObjectError("references are not allowed here", field=f"{where}.$ref")
    kind = schema.get("type")
    int_or_string = schema.get("x-kubernetes-int-or-string") is True
    preserve = schema.get("x-kubernetes-preserve-unknown-fields") is True
    if kind is not None and kind not in _TYPES:
        raise InvalidObjectError(f"found {kind!r}; allowed: {', '.join(_TYPES)}", field=f"{where}.type")
    if pruning and kind is None and not int_or_string and not preserve:
        raise InvalidObjectError("is required, for every field of the schema", field=f"{where}.type")
    notes = _value_notes(schema, where, int_or_string)
    if int_or_string:
        return _typed(_is_int_or_string, "integer,string", string_notes(schema, where) + notes)
    if kind == "object" or (kind is None and any(word in schema for word in _OBJECT_WORDS)):
        return _object(schema, where, notes, pruning=pruning, any_type=kind is None)
    if kind == "array" or (kind is None and any(word in schema for word in _ARRAY_WORDS)):
        return _array(schema, where, notes, pruning=pruning, any_type=kind is None)
    if kind == "string":
        return _typed(_is_string, "string", string_notes(schema, where) + notes)
    if kind == "integer":
        return _integer(schema, where, notes)
    if kind == "number":
        return _typed(_is_number, "number", number_notes(schema, where) + notes)
    if kind == "boolean":
        return _typed(_is_boolean, "boolean", notes)
    return _anything(string_notes(schema, where) + number_notes(schema, where) + notes)


def _is_string(value: Any) -> bool:
    return value.__class__ is str


def _is_number(value: Any) -> bool:
    return value.__class__ is int or (value.__class__ is float and math.isfinite(value))


def _is_boolean(value: Any) -> bool:
    return value.__class__ is bool


def _is_int_or_string(value: Any) -> bool:
    return value.__class__ is str or value.__class__ is int


def _typed(is_type: Callable[[Any], bool], name: str, notes: Sequence[Note]) -> Check:
    def check(value: Any, path: Path, findings: Findings) -> Any:
        if not is_type(value):
            findings.errors.append((path, invalid.wrong_type(spell(path), value, name)))
            return value
        for note in notes:
            note(value, path, findings)
        return value

    def check_type(value: Any, path: Path, findings: Findings) -> Any:
        if not is_type(value):
            findings.errors.append((path, invalid.wrong_type(spell(path), value, name)))
        return value

    return check if notes else check_type


def _anything(notes: Sequence[Note]) -> Check:
    def check(value: Any, path: Path, findings: Findings) -> Any:
        for note in notes:
            note(value, path, findings)
        return value

    return check


def _integer(schema: Mapping[str, Any], where: str, notes: Sequence[Note]) -> Check:
    written = schema.get("format")
    low, high = INTEGER_BOUNDS.get(str(written), INTEGER_BOUNDS["int64"])
    name = f"{written}" if written in INTEGER_BOUNDS else "int64"
    notes = number_notes(schema, where) + list(notes)

    def check(value: Any, path: Path, findings: Findings) -> Any:
        if value.__class__ is not int:
            # JSON has one kind of number: 3.0 is the integer 3.
            if value.__class__ is not float or not value.is_integer():
                findings.errors.append((path, invalid.wrong_type(spell(path), value, "integer")))
                return value
            value = int(value)
        if not low <= value <= high:
            field = spell(path)
            findings.errors.append((path, invalid.wrong(field, value, f"{field} in body must be of type {name}")))
            return value
        for note in notes:
            note(value, path, findings)
        return value

    return check


def _object(schema: Mapping[str, Any], where: str, notes: Sequence[Note], *, pruning: bool, any_type: bool) -> Check:
    properties = schema.get("properties") or {}
    additional = schema.get("additionalProperties")
    if not isinstance(properties, Mapping):
        raise InvalidObjectError("expected an object", field=f"{where}.properties")
    if properties and isinstance(additional, Mapping) and pruning:
        raise InvalidObjectError("properties and additionalProperties exclude each other", field=where)
    embedded = schema.get("x-kubernetes-embedded-resource") is True
    fields = {
        name: compile_node(member, f"{where}.properties[{name}]", pruning=pruning)
        for name, member in properties.items()
        if not (embedded and name in _EMBEDDED)
    }
    others: Check | None = None
    if isinstance(additional, Mapping):
        others = compile_node(additional, f"{where}.additionalProperties", pruning=pruning)
    keep = not pruning or additional is True or embedded or schema.get("x-kubernetes-preserve-unknown-fields") is True
    nullable = frozenset(name for name, member in properties.items() if member.get("nullable") is True)
    null_values = isinstance(additional, Mapping) and additional.get("nullable") is True
    defaults = tuple(_defaults(properties, fields, where)) if pruning else ()
    required = tuple(schema.get("required") or ())
    notes = [*size_notes(schema, where, "Properties", "properties"), *notes]
    if embedded:
        notes = [embedded_note, *notes]
    find = fields.get

    def check(value: Any, path: Path, findings: Findings) -> Any:
        if value.__class__ is not dict:
            if not any_type:
                findings.errors.append((path, invalid.wrong_type(spell(path), value, "object")))
            return value
        changed: dict[str, Any] | None = None
        for key, member in value.items():
            field = find(key)
            if field is None:
                field = others
                if field is None:
                    if not keep:
                        findings.unknown.append(spell((path, key)))
                        changed = dict(value) if changed is None else changed
                        del changed[key]
                    continue
                null_allowed = null_values
            else:
                null_allowed = key in nullable
            if member is None:
                if not null_allowed:
                    changed = dict(value) if changed is None else changed
                    del changed[key]
                continue
            admitted = field(member, (path, key), findings)
            if admitted is not member:
                changed = dict(value) if changed is None else changed
                changed[key] = admitted
        result = value if changed is None else changed
        for key, default in defaults:
            if key not in result:
                if changed is None:
                    result = changed = dict(value)
                result[key] = _copy(default)
        for key in required:
            if key not in result:
                findings.errors.append((path, invalid.required(spell((path, key)))))
        for note in notes:
            note(result, path, findings)
        return result

    return check


def _defaults(properties: Mapping[str, Any], fields: Mapping[str, Check], where: str) -> list[tuple[str, Any]]:
    found = []
    for name, member in properties.items():
        if "default" not in member or name not in fields or (member["default"] is None and not member.get("nullable")):
            continue
        default = member["default"]
        if default is not None:
            findings = Findings()
            default = fields[name](default, (None, f"{where}.properties[{name}].default"), findings)
            if findings.errors:
                raise InvalidObjectError(str(findings.errors[0][1]))
            if findings.unknown:
                raise InvalidObjectError("is not a field of the schema", field=findings.unknown[0])
        found.append((name, default))
    return found


def _array(schema: Mapping[str, Any], where: str, notes: Sequence[Note], *, pruning: bool, any_type: bool) -> Check:
    items = schema.get("items")
    if pruning and not isinstance(items, Mapping):
        raise InvalidObjectError("an array needs exactly one schema of its items", field=f"{where}.items")
    item = compile_node(items, f"{where}.items", pruning=pruning) if items is not None else _anything(())
    null_items = isinstance(items, Mapping) and items.get("nullable") is True
    notes = [*size_notes(schema, where, "Items", "items"), *notes]
    list_type = schema.get("x-kubernetes-list-type")
    if list_type == "set" or schema.get("uniqueItems") is True:
        notes.insert(0, set_note)
    elif list_type == "map":
        keys = schema.get("x-kubernetes-list-map-keys")
        if not isinstance(keys, Sequence) or isinstance(keys, str) or not keys:
            raise InvalidObjectError("a list of type map needs keys", field=f"{where}.x-kubernetes-list-map-keys")
        notes.insert(0, map_note(tuple(keys)))
    elif list_type not in (None, "atomic"):
        raise InvalidObjectError(
            f"found {list_type!r}; allowed: atomic, map, set", field=f"{where}.x-kubernetes-list-type"
        )

    def check(value: Any, path: Path, findings: Findings) -> Any:
        if value.__class__ is not list:
            if not any_type:
                findings.errors.append((path, invalid.wrong_type(spell(path), value, "array")))
            return value
        changed: list[Any] | None = None
        for index, member in enumerate(value):
            if member is None and null_items:
                continue
            admitted = item(member, (path, index), findings)
            if admitted is not member:
                changed = list(value) if changed is None else changed
                changed[index] = admitted
        result = value if changed is None else changed
        for note in notes:
            note(result, path, findings)
        return result

    return check


def _value_notes(schema: Mapping[str, Any], where: str, int_or_string: bool) -> list[Note]:
    notes: list[Note] = []
    if (allowed := schema.get("enum")) is not None:
        if not isinstance(allowed, list):
            raise InvalidObjectError("expected a list of values", field=f"{where}.enum")
        notes.append(enum_note(allowed))
    for name in _JUNCTORS:
        branches = schema.get(name)
        if branches is None or (int_or_string and _says_int_or_string(branches)):
            continue
        if name == "not":
            branches = [branches]
        elif not isinstance(branches, list) or not branches:
            raise InvalidObjectError("expected a list of schemas", field=f"{where}.{name}")
        checks = [
            compile_node(branch, f"{where}.{name}[{index}]", pruning=False) for index, branch in enumerate(branches)
        ]
        notes.append(_all_note(checks) if name == "allOf" else _junctor_note(name, checks))
    return notes


def _says_int_or_string(branches: Any) -> bool:
    return isinstance(branches, list) and [branch.get("type") for branch in branches if isinstance(branch, dict)] in (
        ["integer", "string"],
        [None],
    )


def _all_note(checks: Sequence[Check]) -> Note:
    def note(value: Any, path: Path, findings: Findings) -> None:
        for check in checks:
            check(value, path, findings)

    return note


def _junctor_note(name: str, checks: Sequence[Check]) -> Note:
    sentences = {
        "anyOf": "must validate at least one schema (anyOf)",
        "oneOf": "must validate one and only one schema (oneOf)",
        "not": "must not validate the schema (not)",
    }

    def note(value: Any, path: Path, findings: Findings) -> None:
        holding = 0
        first: Findings | None = None
        for check in checks:
            trial = Findings()
            check(value, path, trial)
            if not trial.errors:
                holding += 1
            elif first is None:
                first = trial
        if name == "anyOf":
            wrong = holding == 0
        elif name == "oneOf":
            wrong = holding != 1
        else:
            wrong = holding > 0
        if wrong:
            field = spell(path)
            findings.errors.append((path, invalid.wrong(field, value, f"{field} in body {sentences[name]}".strip())))
            if holding == 0 and first is not None and name != "not":
                findings.errors.extend(first.errors)

    return note


def _copy(value: Any) -> Any:
    if value.__class__ is dict:
        return {key: _copy(member) for key, member in value.items()}
    if value.__class__ is list:
        return [_copy(member) for member in value]
    return value
