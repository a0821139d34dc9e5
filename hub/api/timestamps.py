"""Times as the API spells them (RFC 3339, UTC) and durations as Go spells them. Nothing here reads a clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from hub.api.errors import InvalidObjectError

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")


def parse_time(text: str) -> datetime:
    """An aware UTC datetime. Raises `InvalidObjectError` when `text` is not RFC 3339 with a zone."""
    try:
        moment = datetime.fromisoformat(text)
    except (ValueError, TypeError) as error:
        raise InvalidObjectError(f"{text!r} is not a time: write RFC 3339, such as 2026-01-31T12:00:00Z") from error
    if moment.tzinfo is None:
        raise InvalidObjectError(f"{text!r} has no time zone: end it with Z for UTC")
    return moment.astimezone(UTC)


def format_time(moment: datetime) -> str:
    """metav1.Time: whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def format_micro_time(moment: datetime) -> str:
    """metav1.MicroTime: what Leases carry."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_timestamp(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def parse_duration(text: str) -> timedelta:
    """A Go duration such as ``1h30m`` or ``250ms``. Raises `InvalidObjectError`."""
    body = text.strip()
    parts = _PART.findall(body)
    if not parts or "".join(number + unit for number, unit in parts) != body:
        raise InvalidObjectError(f"{text!r} is not a duration: write 90s, 20m or 1h30m")
    return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))


def format_duration(seconds: float) -> str:
    """Short and readable, for people: ``850ms``, ``12s``, ``3m20s``, ``2h5m``, ``4d3h`` (as kubectl's ages)."""
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f}ms"
    whole = int(seconds)
    for size, unit, rest_size, rest_unit in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // rest_size
            return f"{whole // size}{unit}" + (f"{rest}{rest_unit}" if rest and whole < size * 100 else "")
    return f"{whole}s"
