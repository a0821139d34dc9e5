"""What one scorer said last of each cluster, settled, and until when it counts. No clock of its own.

A value is unknown once it has ended; it stays here all the same, so that somebody can say for how long it has been
missing, and so that the next one is not compared with nothing after one late answer.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from hub.asking.answer import ScorerAnswer
from hub.scoring.dynamic.plan import ScorerPlan
from hub.scoring.dynamic.published import by_gauge, named, roll_up, whole_score
from hub.scoring.dynamic.settling import Settled, settle


@dataclass(slots=True)
class ClusterScores:
    """`value`: of the whole cluster, NaN where there is none. `named`: what is published. Times: epoch seconds."""

    at: float
    until: float
    value: float
    named: Mapping[str, float]
    gauges: Mapping[tuple[str, ...], float]
    whole: Settled | None = None
    settled: dict[str, Settled] = field(default_factory=dict)


class ScorerValues:
    """By cluster. `clamped`: how many published scores were out of range so far."""

    def __init__(self) -> None:
        self._scores: dict[str, ClusterScores] = {}
        self.clamped = 0

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._scores))

    def get(self, cluster: str) -> ClusterScores | None:
        return self._scores.get(cluster)

    def take(self, cluster: str, plan: ScorerPlan, answer: ScorerAnswer, now: float) -> bool:
        """True when the cluster's value is another than before, or is one again."""
        last = self._scores.get(cluster)
        fresh = last if last is not None and last.until > now else None
        rule, policy = plan.policy.settling, plan.policy
        raw = roll_up(answer.results, policy.aggregate)
        whole = None
        if not math.isnan(raw):
            whole = settle(fresh.whole if fresh is not None else None, raw, now, rule)
        spoken = named(plan.dimension_format, plan.score, cluster, answer.results, policy.aggregate)
        before = fresh.settled if fresh is not None else {}
        settled = {name: settle(before.get(name), value, now, rule) for name, value in spoken.items()}
        if plan.publishes and policy.normaliser is None:
            self.clamped += sum(whole_score(value).clamped for value in spoken.values())
        self._scores[cluster] = ClusterScores(
            now,
            now + plan.valid_for,
            math.nan if whole is None else whole.shown,
            {name: state.shown for name, state in settled.items()},
            by_gauge(cluster, plan.score, answer.results),
            whole,
            settled,
        )
        return fresh is None or (whole is None) != (fresh.whole is None) or (whole is not None and moved(fresh, whole))

    def none(self, cluster: str) -> bool:
        """The scorer answers, and has nothing to say of the cluster any more. True when it had."""
        return self._scores.pop(cluster, None) is not None

    def keep(self, clusters: Collection[str]) -> bool:
        """Forgets every other cluster. True when there was one."""
        gone = self._scores.keys() - set(clusters)
        for cluster in gone:
            del self._scores[cluster]
        return bool(gone)

    def column(self) -> tuple[dict[str, float], dict[str, float]]:
        """Values, and until when each counts."""
        values = {name: scores.value for name, scores in self._scores.items() if not math.isnan(scores.value)}
        return values, {name: self._scores[name].until for name in values}

    def fresh(self, now: float) -> list[str]:
        return [name for name in self if self._scores[name].until > now]

    def ended(self, now: float) -> dict[str, float]:
        """For how many seconds each value that does not count any more has been missing, longest first."""
        found = {name: now - scores.until for name, scores in self._scores.items() if scores.until <= now}
        return dict(sorted(found.items(), key=lambda entry: (-entry[1], entry[0])))

    def next_end(self, now: float) -> float:
        """When the next value ends; inf: none does."""
        return min((scores.until for scores in self._scores.values() if scores.until > now), default=math.inf)

    def last(self) -> float | None:
        """When it last said anything that could be used."""
        return max((scores.at for scores in self._scores.values()), default=None)


def moved(before: ClusterScores, whole: Settled) -> bool:
    return before.whole is not None and before.whole.shown != whole.shown
