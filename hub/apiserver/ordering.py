"""The order of a list after some of its members were changed by key: the one place where that is decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def reordered(members: Sequence[Any], wanted: Sequence[Any], identity: Callable[[Any], Any]) -> list[Any]:
    """`members` in the order of the identities `wanted`; each that it does not name stays behind its predecessor."""
    order = {key: place for place, key in enumerate(wanted)}
    named = [(order[key], member) for member in members if (key := identity(member)) in order]
    named.sort(key=lambda pair: pair[0])
    behind: dict[int, list[Any]] = {}
    first: list[Any] = []
    current = first
    for member in members:
        key = identity(member)
        if key in order:
            current = behind.setdefault(order[key], [])
        else:
            current.append(member)
    result = list(first)
    for place, member in named:
        result.append(member)
        result += behind.pop(place, [])
    return result
