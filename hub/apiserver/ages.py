"""How long ago, as kubectl's AGE and DURATION columns say it: ``5s``, ``3m20s``, ``5h3m``, ``2d4h``, ``3y12d``."""

from __future__ import annotations

from typing import Any, Final

from hub.api.errors import InvalidObjectError
from hub.api.timestamps import parse_time

UNKNOWN: Final = "<unknown>"


def since(time: Any, now: float) -> str:
    """`time` is RFC 3339; `now` seconds since the epoch."""
    return UNKNOWN if (moment := seconds_of(time)) is None else human(now - moment)


def between(start: Any, end: Any) -> str:
    first, last = seconds_of(start), seconds_of(end)
    return UNKNOWN if first is None or last is None else human(last - first)


def seconds_of(time: Any) -> float | None:
    if not isinstance(time, str) or not time:
        return None
    try:
        return parse_time(time).timestamp()
    except (InvalidObjectError, OverflowError):
        return None


def human(seconds: float) -> str:
    """The coarser the longer. A clock that is a little ahead counts as now."""
    if seconds <= -2:
        return "<invalid>"
    whole = max(int(seconds), 0)
    minutes, hours, days, years = whole // 60, whole // 3600, whole // 86400, whole // 31_536_000
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    if days < 2920:
        return _two(years, "y", days % 365, "d")
    return f"{years}y"


def _two(large: int, unit: str, small: int, rest: str) -> str:
    return f"{large}{unit}{small}{rest}" if small else f"{large}{unit}"
