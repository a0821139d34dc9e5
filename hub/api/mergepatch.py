"""JSON merge patches (RFC 7386): the smallest one that turns one object into another.

Lists are replaced whole, as the format demands. Nothing here knows which fields a server owns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def create_merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any] | None:
    """What to send so that `old` becomes `new`; None when they are equal. The result may share parts with `new`."""
    patch: dict[str, Any] = {}
    for key, value in new.items():
        if key not in old:
            patch[key] = value
            continue
        before = old[key]
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            inner = create_merge_patch(before, value)
            if inner is not None:
                patch[key] = inner
        elif before != value or isinstance(before, bool) is not isinstance(value, bool):
            patch[key] = value
    for key in old:
        if key not in new:
            patch[key] = None
    return patch or None
