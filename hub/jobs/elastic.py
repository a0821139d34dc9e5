"""Elastic jobs: between which bounds, how large one is now, and what is said of its size. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from hub.api.errors import InvalidObjectError
from hub.api.timestamps import format_time, from_timestamp
from hub.jobs.attempt import Attempt

Json = dict[str, Any]


def bounds_of(spec: Mapping[str, Any], tasks: int) -> tuple[int, int] | None:
    """Fewest and most slots of a FleetJob; None: it is not elastic. Raises `InvalidObjectError` by field."""
    elastic = spec.get("elastic")
    if elastic is None:
        return None
    if not isinstance(elastic, Mapping):
        raise InvalidObjectError("is no object", field="spec.elastic")
    if spec.get("parallelism") is not None:
        raise InvalidObjectError(
            "elastic.max says how many tasks of an elastic job run at once: leave it out", field="spec.parallelism"
        )
    least, most = _slots(elastic, "min", 1), min(_slots(elastic, "max", tasks), tasks)
    if least > most:
        raise InvalidObjectError(f"is {least}, and at most {most} tasks run at once", field="spec.elastic.min")
    return least, most


def elastic_entry(bounds: tuple[int, int], attempts: Iterable[Attempt]) -> Json:
    """What the job's status says of its size."""
    live = [attempt for attempt in attempts if attempt.live and attempt.eviction is None]
    entry: Json = {
        "current": sum(min(attempt.slots, attempt.holds) for attempt in live),
        "min": bounds[0],
        "max": bounds[1],
    }
    if giving := sum(attempt.holds - attempt.slots for attempt in live if attempt.shrinking):
        entry["giving"] = giving
    last = max((a for a in live if a.resize is not None), key=lambda a: (a.resize.at, a.epoch), default=None)  # type: ignore[union-attr]
    if last is not None:
        entry["message"] = resize_sentence(last)
    return entry


def resize_sentence(attempt: Attempt) -> str:
    """``from 8 to 6 slots on ash at 2026-01-05T12:00:00Z: 2 slots go to default/owner, …``; empty: it never was."""
    resize = attempt.resize
    if resize is None:
        return ""
    at = format_time(from_timestamp(resize.at))
    return f"from {resize.before} to {resize.slots} slots on {attempt.cluster} at {at}: {resize.message}"


def giving_note(attempts: Iterable[Attempt]) -> str:
    """What is to be said of a job beside its state while it gives slots back; empty when it does not."""
    return "; ".join(
        f"{attempt.holds - attempt.slots} slots on {attempt.cluster} are being given back: {attempt.resize.message}"
        for attempt in attempts
        if attempt.shrinking and attempt.resize is not None
    )


def _slots(elastic: Mapping[str, Any], name: str, default: int) -> int:
    value = elastic.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidObjectError(f"{value!r} is not a whole number from 1", field=f"spec.elastic.{name}")
    return value
