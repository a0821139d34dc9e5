"""JSON that is kept in memory: a fifth of what the same dicts take, and decoded in microseconds when it is needed."""

from __future__ import annotations

from typing import Any

import orjson


def packed(value: Any) -> bytes:
    """Raises `TypeError` for what JSON cannot say."""
    # A copy of its own size: what orjson returns keeps the kilobytes of its buffer.
    return bytes(memoryview(orjson.dumps(value)))
