"""JSON values as set members: equal where the values are, whatever their Python types."""

from __future__ import annotations

from typing import Any


def freeze(value: Any) -> Any:
    """A hashable stand-in that is equal exactly where two JSON values are."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, dict):
        return frozenset((key, freeze(member)) for key, member in value.items())
    if isinstance(value, list):
        return tuple(map(freeze, value))
    return value
