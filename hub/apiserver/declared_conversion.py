"""Conversion between the versions of a kind by rules that its CRD declares, in place of a webhook.

The annotation `fleet.quarterdeck.dev/conversion` is JSON: by version, a list of what is elsewhere in the version that
is stored. `{"here": ".spec.cohort", "stored": ".spec.cohortName"}` moves a value, `"values": {"Borrow":
"MayStopSearch"}` respells it on the way, `[*]` in both paths does it in every member of a list. Rules are carried out
in their order into storage and backwards out of it, and the same rule is both ways: what one version says comes back as
it was. A value is not moved to where there is one already.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from hub.api.errors import InvalidObjectError
from hub.api.frozen import freeze

ANNOTATION: Final = "fleet.quarterdeck.dev/conversion"
_WHERE: Final = f"metadata.annotations[{ANNOTATION}]"
_EACH: Final = "[*]"
_PART = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*)|\[(\*)\]|\[[\"']([^\"'\]]+)[\"']\]")
_FIXED: Final = frozenset({"apiVersion", "kind"})
Path = tuple[str, ...]
Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Move:
    """From `here`, in one version, to `stored`. `values` as JSON pairs; empty: as they are."""

    here: Path
    stored: Path
    values: tuple[tuple[Any, Any], ...] = ()

    def spelled(self, value: Any, *, out: bool) -> Any:
        for here, stored in self.values:
            known, wanted = (stored, here) if out else (here, stored)
            if freeze(known) == freeze(value):
                return wanted
        return value


@dataclass(frozen=True, slots=True)
class Conversion:
    """Of one version."""

    api_version: str
    stored_version: str
    moves: tuple[Move, ...]

    def into_storage(self, obj: Object) -> dict[str, Any]:
        result = {**obj, "apiVersion": self.stored_version}
        for move in self.moves:
            result = _moved(result, move.here, move.stored, move, out=False)
        return result

    def out_of_storage(self, obj: Object) -> dict[str, Any]:
        result = {**obj, "apiVersion": self.api_version}
        for move in reversed(self.moves):
            result = _moved(result, move.stored, move.here, move, out=True)
        return result


def declared(crd: Object) -> dict[str, tuple[Move, ...]]:
    """By version; empty where nothing is declared. Raises `InvalidObjectError`."""
    text = (crd.get("metadata", {}).get("annotations") or {}).get(ANNOTATION)
    if not text:
        return {}
    try:
        document = orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError) as error:
        raise InvalidObjectError(f"is not JSON: {error}", field=_WHERE) from error
    if not isinstance(document, dict):
        raise InvalidObjectError("expected lists of rules by version", field=_WHERE)
    served = {version["name"]: version["storage"] for version in crd["spec"]["versions"]}
    result = {}
    for version, rules in document.items():
        if version not in served or served[version]:
            raise InvalidObjectError(f"{version!r} is no version besides the stored one", field=_WHERE)
        if not isinstance(rules, list):
            raise InvalidObjectError("expected a list of rules", field=f"{_WHERE}.{version}")
        result[version] = tuple(_move(rule, f"{_WHERE}.{version}[{index}]") for index, rule in enumerate(rules))
    return result


def _move(rule: Any, where: str) -> Move:
    if not isinstance(rule, dict) or not {"here", "stored"} <= rule.keys() <= {"here", "stored", "values"}:
        raise InvalidObjectError("expected {here, stored} and, if wanted, values", field=where)
    here, stored = (_path(rule[name], f"{where}.{name}") for name in ("here", "stored"))
    if here.count(_EACH) != stored.count(_EACH) or here[: _last_each(here)] != stored[: _last_each(stored)]:
        raise InvalidObjectError("[*] must be in both, after the same path", field=where)
    values = rule.get("values") or {}
    if not isinstance(values, dict):
        raise InvalidObjectError("expected an object", field=f"{where}.values")
    if len({freeze(value) for value in values.values()}) != len(values):
        raise InvalidObjectError("two values that become one cannot be told apart again", field=f"{where}.values")
    return Move(here, stored, tuple(values.items()))


def _last_each(path: Path) -> int:
    return max((index + 1 for index, part in enumerate(path) if part == _EACH), default=0)


def _path(text: Any, where: str) -> Path:
    parts: list[str] = []
    position = 0
    while isinstance(text, str) and position < len(text):
        match = _PART.match(text, position)
        if match is None:
            break
        parts.append(_EACH if match[2] else match[1] or match[3])
        position = match.end()
    if not isinstance(text, str) or not parts or position < len(text) or parts[0] in _FIXED or parts[-1] == _EACH:
        raise InvalidObjectError(f"found {text!r}; expected a path such as .spec.size", field=where)
    return tuple(parts)


def _moved(obj: dict[str, Any], source: Path, target: Path, move: Move, *, out: bool) -> dict[str, Any]:
    """A new object; what does not change is shared."""
    if _EACH in source:
        index = source.index(_EACH)
        members = _at(obj, source[:index])
        if not isinstance(members, list):
            return obj
        changed = [
            _moved(member, source[index + 1 :], target[index + 1 :], move, out=out)
            if isinstance(member, dict)
            else member
            for member in members
        ]
        return _with(obj, source[:index], changed)
    value = _at(obj, source)
    if value is None:
        return obj
    if source != target:
        if _at(obj, target) is not None:
            return obj
        obj = _without(obj, source)
    return _with(obj, target, move.spelled(value, out=out))


def _at(value: Any, path: Sequence[str]) -> Any:
    for part in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def _with(obj: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    head, rest = path[0], path[1:]
    if not rest:
        return {**obj, head: value}
    below = obj.get(head)
    return {**obj, head: _with(below if isinstance(below, dict) else {}, rest, value)}


def _without(obj: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    """Without the value; a map that only it was in goes, too."""
    head, rest = path[0], path[1:]
    left = {name: value for name, value in obj.items() if name != head}
    below = obj.get(head)
    if rest and isinstance(below, dict):
        kept = _without(below, rest)
        if kept or head == "metadata":
            left[head] = kept
    return left
