"""What the hub is told of scorers' answers: the last of each, all of them in one write, and only what is worth one.

Nothing is queued. While the hub is away answers replace each other, and what it is told when it is back is what is so
then, with its age by this machine's own running clock. No I/O.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent.scoring.orders import Order
from hub.asking.answer import LABELS, Result, ScorerAnswer
from hub.asking.trouble import ScorerTrouble

Json = dict[str, Any]
MOST_RESULTS: Final = 2_000
"""Of one scorer in one status: more would not fit an object."""


@dataclass(slots=True)
class _Told:
    """What the hub knows of one scorer: which answer, how old (by this clock: when it was given), and what is wrong."""

    digest: str
    answer: str
    at: float
    results: dict[tuple[str, ...], float]
    reason: str


@dataclass(slots=True)
class _Last:
    """`at`: when the results were given, seconds of a running clock; -inf: there are none."""

    order: Order
    answer: str = ""
    at: float = -math.inf
    results: tuple[Result, ...] = ()
    dropped: int = 0
    complaints: tuple[str, ...] = ()
    trouble: ScorerTrouble | None = None


@dataclass(slots=True)
class ScoreReport:
    """`run`: a word that no other run of the agent has, so that its answers are told from those of an earlier one."""

    run: str
    _last: dict[str, _Last] = field(default_factory=dict)
    _told: dict[str, _Told] = field(default_factory=dict)
    _answers: int = 0

    def ordered(self, orders: Mapping[str, Order]) -> None:
        """Answers to other questions than these are forgotten."""
        for scorer in [name for name, last in self._last.items() if orders.get(name) != last.order]:
            del self._last[scorer]
        for scorer, order in orders.items():
            self._last.setdefault(scorer, _Last(order))

    def took(self, order: Order, outcome: ScorerAnswer | ScorerTrouble, at: float) -> None:
        last = self._last.get(order.scorer)
        if last is None or last.order != order:
            return
        if isinstance(outcome, ScorerTrouble):
            last.trouble = outcome
            return
        self._answers += 1
        last.answer, last.at, last.trouble = f"{self.run}-{self._answers}", at, None
        last.results, last.complaints = outcome.results[:MOST_RESULTS], outcome.complaints
        last.dropped = outcome.dropped + max(0, len(outcome.results) - MOST_RESULTS)
        if len(outcome.results) > MOST_RESULTS:
            last.complaints += (f"{len(outcome.results):,} results: only the first {MOST_RESULTS:,} are told",)

    def due(self, now: float) -> float:
        """Seconds until there is something worth telling; 0: now; inf: not before the next answer."""
        if self._told.keys() - self._last.keys():
            return 0.0
        return min((self._due(name, last, now) for name, last in self._last.items()), default=math.inf)

    def status(self, now: float, sent: str) -> Json:
        """A ClusterScoring's. `now` by the running clock, `sent` the time of day in words."""
        return {"sentTime": sent, "scorers": [_entry(name, self._last[name], now) for name in sorted(self._last)]}

    def snapshot(self) -> dict[str, _Told]:
        """What a status that is made now tells: for `told`, once the hub has it."""
        return {
            name: _Told(
                last.order.digest,
                last.answer,
                last.at,
                {result.labels: result.score for result in last.results},
                _reason(last),
            )
            for name, last in self._last.items()
        }

    def told(self, snapshot: dict[str, _Told]) -> None:
        self._told = snapshot

    def ages(self, now: float) -> dict[str, float]:
        """How old each scorer's last results are."""
        return {name: now - last.at for name, last in sorted(self._last.items()) if last.answer}

    def _due(self, name: str, last: _Last, now: float) -> float:
        told = self._told.get(name)
        if not last.answer and last.trouble is None:
            return math.inf
        if told is None or told.digest != last.order.digest or told.reason != _reason(last):
            return 0.0
        if told.answer == last.answer:
            return math.inf
        if not told.answer or last.order.deadband is None or _moved(told.results, last, last.order.deadband):
            return 0.0
        # It says the same, and has to say it before what was told last ends.
        return max(0.0, told.at + last.order.valid_for / 2 - now)


def _moved(told: Mapping[tuple[str, ...], float], last: _Last, deadband: float) -> bool:
    if len(told) != len(last.results):
        return True
    for result in last.results:
        before = told.get(result.labels)
        if before is None or (result.score != before and abs(result.score - before) >= deadband):
            return True
    return False


def _reason(last: _Last) -> str:
    return last.trouble.reason.code if last.trouble is not None else ""


def _entry(scorer: str, last: _Last, now: float) -> Json:
    entry: Json = {"scorer": scorer, "digest": last.order.digest}
    if last.answer:
        entry |= {
            "answer": last.answer,
            "ageSeconds": round(max(0.0, now - last.at), 3),
            "results": [_result(result) for result in last.results],
        }
    if last.dropped:
        entry["dropped"] = last.dropped
    if last.complaints:
        entry["complaints"] = list(last.complaints)
    if last.trouble is not None:
        entry |= {"reason": last.trouble.reason.code, "message": last.trouble.detail}
    return entry


def _result(result: Result) -> Json:
    found: Json = {
        "metric": {name: value for name, value in zip(LABELS, result.labels, strict=True) if value},
        "score": result.score,
    }
    return found if result.weight == 1.0 else found | {"weight": result.weight}
