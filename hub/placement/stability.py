"""How much a Placement resists moving clusters that are good enough: hysteresis, dwell, and a budget for moves.

It concerns clusters that could stay: one that fails a filter leaves at once, whatever is said here. All of it is ours,
in annotations of the Placement; without them a move needs what OCM asks for, but not more often than scoreRateLimit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.api.timestamps import parse_duration
from hub.placement.rule import WORST, MissingScore

_MOVES = re.compile(r"(\d{1,9})(%?)/(\S+)")
_KEPT = re.compile(r"LastKnown\((\S+)\)")
_RATE = re.compile(r"(\d{1,9})([hms])")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
# What the sum of scores can come to: 64 prioritizers of weight 10.
_MOST_POINTS = 1_000_000


@dataclass(frozen=True, slots=True)
class Stability:
    """`hysteresis`: by how many points of the sum another cluster must be better. `dwell`: seconds for which a chosen
    cluster is not displaced. At most `moves` (with `percent`: of the clusters asked for) displacements in `window`
    seconds; None: as many as the scores say."""

    hysteresis: int = 0
    dwell: float = 0.0
    moves: int | None = None
    percent: bool = False
    window: float = 0.0

    def budget(self, limit: int) -> float:
        """How many may be displaced in a window, of `limit` clusters."""
        if self.moves is None:
            return math.inf
        return -(-self.moves * limit // 100) if self.percent else self.moves


# As OCM decides: nothing but the scores, of which Steady is one.
RESTLESS = Stability()


@dataclass(frozen=True, slots=True)
class Held:
    """Since when (epoch seconds) a cluster is chosen, and whether it displaced another one then."""

    since: float
    moved: bool = False


def parse_stability(annotations: Mapping[str, str], rate_limit: float) -> Stability:
    """`rate_limit` (seconds) is the dwell of a Placement that says nothing. Raises `InvalidObjectError` by field."""
    hysteresis, dwell = 0, rate_limit
    text = annotations.get(names.HYSTERESIS)
    if text is not None:
        if not text.isdecimal() or int(text) > _MOST_POINTS:
            raise _wrong(names.HYSTERESIS, text, "a number of points such as 20")
        hysteresis = int(text)
    text = annotations.get(names.MIN_DWELL)
    if text is not None:
        dwell = _duration(names.MIN_DWELL, text, text)
    text = annotations.get(names.MAX_MOVES)
    if text is None:
        return Stability(hysteresis, dwell)
    match = _MOVES.fullmatch(text)
    if match is None or (match[2] and int(match[1]) > 100):
        raise _wrong(names.MAX_MOVES, text, "a number or percentage in a time, such as 2/10m or 10%/1h")
    return Stability(hysteresis, dwell, int(match[1]), bool(match[2]), _duration(names.MAX_MOVES, match[3], text))


def parse_missing(annotations: Mapping[str, str]) -> MissingScore:
    """Raises `InvalidObjectError` by field."""
    text = annotations.get(names.MISSING_SCORE)
    if text is None or text == "Worst":
        return WORST
    if text in ("Exclude", "Neutral"):
        return MissingScore("Exclude" if text == "Exclude" else "Neutral")
    match = _KEPT.fullmatch(text)
    if match is None:
        raise _wrong(names.MISSING_SCORE, text, "Worst, Exclude, Neutral or LastKnown(10m)")
    return MissingScore("LastKnown", _duration(names.MISSING_SCORE, match[1], text))


def parse_rate(text: object) -> float:
    """Seconds of a scoreRateLimit. Raises `InvalidObjectError` by field."""
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise InvalidObjectError(f"{text!r} is not a time such as 30s, 1m or 1h", field="spec.scoreRateLimit")
    return int(match[1]) * _UNITS[match[2]]


def _duration(annotation: str, text: str, whole: str) -> float:
    try:
        seconds = parse_duration(text).total_seconds()
    except (InvalidObjectError, OverflowError):
        seconds = -1.0
    if seconds < 0:
        raise _wrong(annotation, whole, "a time such as 90s or 10m in it")
    return seconds


def _wrong(annotation: str, text: str, expected: str) -> InvalidObjectError:
    return InvalidObjectError(f"{text[:100]!r} is not {expected}", field=f"metadata.annotations[{annotation}]")
