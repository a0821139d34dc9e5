"""JSON documents that have numbers of clusters in them: where what is, and what cannot be used. Pure.

A member is one value of one cluster, with a time of its own where the document has times. What a scorer is sent of it
is `document_series`; what a ScoreSource makes of it is hub/scoring/answer.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hub.api.errors import InvalidObjectError
from hub.api.timestamps import format_duration, parse_time

SKEW: Final = 60.0
"""Seconds by which a source's clock may differ from ours before it is said."""


@dataclass(frozen=True, slots=True)
class Fields:
    """Where a JSON document has what: dotted paths; `items` empty is the document itself, `time` empty: no times."""

    items: str = ""
    cluster: str = "cluster"
    value: str = "value"
    time: str = ""


def members(document: object, fields: Fields, only: str = "") -> list[tuple[object, object]] | str:
    """(cluster, member) of a list of members that name their cluster, or of a map by cluster; or what is wrong.

    `only`: the document is about this cluster alone, as one member.
    """
    items = at_path(document, fields.items)
    if only:
        return [(only, items)]
    if isinstance(items, Mapping):
        return list(items.items())
    if isinstance(items, Sequence) and not isinstance(items, str | bytes):
        return [(at_path(member, fields.cluster), member) for member in items]
    return f"{fields.items or 'the document'} is neither a list nor a map but {type(items).__name__}"


def value_of(member: object, fields: Fields, now: float, valid_for: float) -> float | str:
    """A member's number, or what is wrong with it: it is none, too old, or its age cannot be known."""
    raw = at_path(member, fields.value) if isinstance(member, Mapping) else member
    value = number(raw)
    if value is None:
        return f"{shown(raw)} is not a number"
    return _age_problem(member, fields, now, valid_for) or value


def document_series(
    document: object, fields: Fields, now: float, valid_for: float, only: str = ""
) -> tuple[dict[str, list[Any]], dict[str, str], str]:
    """By cluster one series of one sample a member, as a scorer is sent them; by cluster what could not be used of it;
    and what is wrong with the document as a whole.

    A series' labels are the cluster and every other text beside the value. `only`: as `members`; its `items` may be a
    list of members that need not name the cluster.
    """
    if only and isinstance(at_path(document, fields.items), list):
        found: list[tuple[object, object]] | str = [(only, member) for member in _list(document, fields)]
    else:
        found = members(document, fields, only)
    if isinstance(found, str):
        return {}, {}, found
    series: dict[str, list[Any]] = {}
    problems: dict[str, str] = {}
    nameless = 0
    for cluster, member in found:
        if not isinstance(cluster, str) or not cluster:
            nameless += 1
            continue
        value = value_of(member, fields, now, valid_for)
        if isinstance(value, str):
            problems.setdefault(cluster, value)
            continue
        labels = {"cluster": cluster, **dict(_labels(member, fields))}
        at = _time(member, fields)
        series.setdefault(cluster, []).append({"metric": labels, "values": [[now if at is None else at, repr(value)]]})
    return series, problems, f"{nameless} members without {fields.cluster}" if nameless and not series else ""


def at_path(document: object, path: str) -> object:
    """None where there is nothing."""
    for part in filter(None, path.split(".")):
        if isinstance(document, Mapping):
            document = document.get(part)
        elif isinstance(document, list | tuple) and part.isdecimal() and int(part) < len(document):
            document = document[int(part)]
        else:
            return None
    return document


def number(value: object) -> float | None:
    """A finite number, or text that is one."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def shown(value: object) -> str:
    """Of a sample its value, for messages."""
    return repr(value[1] if isinstance(value, list | tuple) and len(value) > 1 else value)[:60]


def apart(seconds: float) -> str:
    return f"{format_duration(abs(seconds))} {'ahead of' if seconds > 0 else 'behind'}"


def _list(document: object, fields: Fields) -> list[Any]:
    found = at_path(document, fields.items)
    return found if isinstance(found, list) else []


def _labels(member: object, fields: Fields) -> Iterator[tuple[str, str]]:
    if isinstance(member, Mapping):
        taken = {fields.cluster, fields.value, fields.time}
        for key in member:
            if isinstance(key, str) and key not in taken and isinstance(member[key], str):
                yield key, member[key]


def _time(member: object, fields: Fields) -> float | None:
    raw = at_path(member, fields.time) if fields.time and isinstance(member, Mapping) else None
    if isinstance(raw, str):
        try:
            return parse_time(raw).timestamp()
        except InvalidObjectError:
            return number(raw)
    return number(raw)


def _age_problem(member: object, fields: Fields, now: float, valid_for: float) -> str:
    if not fields.time:
        return ""
    at = _time(member, fields)
    if at is None:
        raw = at_path(member, fields.time) if isinstance(member, Mapping) else None
        return f"{fields.time} {shown(raw)} is not a time"
    if at > now + SKEW:
        return f"its time is {apart(at - now)} the hub's: one of the clocks is wrong"
    if now - at > valid_for:
        return f"it is {format_duration(now - at)} old"
    return ""
