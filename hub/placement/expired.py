"""Which clusters' scores have ended without a new one, and since when: for who asks why a decision moved."""

from __future__ import annotations

import math

from hub.api.timestamps import format_duration
from hub.fleet.fleet import Fleet

_MOST = 3


def expired(fleet: Fleet, source: str, now: float) -> dict[str, float]:
    """By cluster, for how many seconds what the source last said of it has not counted any more; longest first."""
    whole = fleet.score_sources.get(source)
    if whole is None:
        return {}
    single, values = fleet.score_ends(source), fleet.scores(source, -math.inf).tolist()
    found = {
        name: now - min(whole, single.get(name, math.inf))
        for name, value in zip(fleet.names, values, strict=True)
        if not math.isnan(value) and min(whole, single.get(name, math.inf)) <= now
    }
    return dict(sorted(found.items(), key=lambda entry: (-entry[1], entry[0])))


def expired_words(fleet: Fleet, source: str, now: float) -> str:
    """``ash: score expired 12s ago``; empty where none has."""
    found = expired(fleet, source, now)
    said = [f"{name}: score expired {format_duration(age)} ago" for name, age in list(found.items())[:_MOST]]
    if len(found) > _MOST:
        said.append(f"and {len(found) - _MOST} more")
    return "; ".join(said)
