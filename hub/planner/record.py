"""What was decided of one slice and on which scores, small enough to travel with it as an annotation.

Written where it is decided, read by `explain` long after the fleet has changed. It is a note for people: nothing
decides by it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hub.scoring.combine import Ranking

# A hub with fifty scorers need not write all of them on every slice.
_MOST_SCORES = 12


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen cluster's place (from 1) among `of` clusters with room, and in the fleet's `fleet`.

    `scores`: what each scorer added to `total`, unknown ones below 0; `runner_up` is the next best and its total. None
    and empty where there was nothing to compare with. `together`: how many jobs were decided about at once, so
    that the sum over all of them is best; 0: it was alone.
    """

    place: int
    of: int
    fleet: int
    total: float | None = None
    scores: tuple[tuple[str, float], ...] = ()
    runner_up: tuple[str, float] | None = None
    together: int = 0

    def text(self) -> str:
        """Compact JSON, the same for the same choice."""
        document: dict[str, Any] = {"place": self.place, "of": self.of, "fleet": self.fleet}
        if self.total is not None:
            document |= {"total": self.total, "scores": dict(self.scores)}
        if self.runner_up is not None:
            document["next"] = list(self.runner_up)
        if self.together:
            document["together"] = self.together
        return json.dumps(document, separators=(",", ":"))


def choice_of(order: Sequence[int], index: int, ranking: Ranking | None, names: Sequence[str]) -> Choice:
    """Of `order[index]`; `order` holds positions in `names`, best first."""
    return choices_of(order, ranking, names)(index)


def choices_of(order: Sequence[int], ranking: Ranking | None, names: Sequence[str]) -> Callable[[int], Choice]:
    """`choice_of` by index, for who asks about many of one order."""
    if ranking is None:
        return lambda index: Choice(index + 1, len(order), len(names))
    columns = ranking.columns[:_MOST_SCORES]
    total = ranking.total

    def choice(index: int) -> Choice:
        cluster = order[index]
        following = order[index + 1] if index + 1 < len(order) else None
        return Choice(
            index + 1,
            len(order),
            len(names),
            _short(total[cluster]),
            tuple((column.name, _short(column.weighted[cluster])) for column in columns),
            (names[following], _short(total[following])) if following is not None else None,
        )

    return choice


def describe(text: str) -> str:
    """The recorded choice in words; empty when there is none or it cannot be read."""
    try:
        document = json.loads(text) if text else {}
        place, among, fleet = int(document["place"]), int(document["of"]), int(document["fleet"])
        others = int(document.get("together") or 1) - 1
    except (ValueError, TypeError, KeyError):
        return ""
    only = f"no. {place} of {among} with room"
    if among == 1:
        only = "the only cluster there is" if fleet == 1 else f"the only one of {fleet} clusters with room"
    beside = f"; decided together with {others} other job{'s' if others > 1 else ''}" if others > 0 else ""
    if "total" not in document:
        return only + beside
    parts = ", ".join(f"{name} {value:g}" for name, value in document.get("scores", {}).items())
    said = f"{only}: {document['total']:g} ({parts})"
    following = document.get("next")
    return (f"{said}; next {following[0]} {following[1]:g}" if following else said) + beside


def _short(value: float) -> float:
    return round(float(value), 1)
