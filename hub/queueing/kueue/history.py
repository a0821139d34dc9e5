"""What LocalQueues used before, fading with time: Kueue's AdmissionFairSharing. Orders the jobs within one queue.

Amounts are in whole units of each resource as a float (one CPU is 1, one byte is 1), because that is how Kueue weighs
them; a queue whose owner sets no weights orders by bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from hub.queueing.kueue.settings import UsageHistory

LocalKey = tuple[str, str]
"""(namespace, name)"""


@dataclass(slots=True)
class Past:
    """`consumed`: faded usage by resource. `penalty`: of what was admitted since. `updated`: epoch seconds."""

    consumed: dict[str, float] = field(default_factory=dict)
    updated: float = 0.0
    weight: float = 1.0
    penalty: dict[str, float] = field(default_factory=dict)


class History:
    def __init__(self, settings: UsageHistory, past: Mapping[LocalKey, Past], now: float) -> None:
        self._settings = settings
        self._past = dict(past)
        self._started = now

    @property
    def past(self) -> Mapping[LocalKey, Past]:
        return self._past

    def apart(self) -> History:
        """The same, to go on from for oneself."""
        other = History(self._settings, {}, self._started)
        other._past = {
            queue: replace(past, consumed=dict(past.consumed), penalty=dict(past.penalty))
            for queue, past in self._past.items()
        }
        return other

    def restore(self, past: Mapping[LocalKey, Past]) -> None:
        """What was known of queues that nothing is known of yet, and what all of them weigh now."""
        for queue, known in past.items():
            self._past.setdefault(queue, known).weight = known.weight

    def heaviness(self, queue: LocalKey) -> float:
        """Who used less goes first."""
        past = self._past.get(queue)
        if past is None:
            return 0.0
        if past.weight <= 0:
            return float("inf")
        total = 0.0
        for resource in sorted({*past.consumed, *past.penalty}):
            used = past.consumed.get(resource, 0.0) + past.penalty.get(resource, 0.0)
            total += self._settings.weights.get(resource, 1.0) * used
        return total / past.weight

    def admitted(self, queue: LocalKey, requests: Iterable[tuple[str, int]]) -> None:
        """A part of what was admitted counts at once: else one queue would take all before the next look."""
        past = self._past.setdefault(queue, Past(updated=self._started))
        for resource, value in requests:
            past.penalty[resource] = past.penalty.get(resource, 0.0) + self._settings.step * units(resource, value)

    def advance(self, now: float, used: Mapping[LocalKey, Mapping[str, float]]) -> None:
        """Fades all that was not looked at for a sampling interval; `used` is what each queue holds now."""
        for queue in sorted({*self._past, *used}):
            past = self._past.setdefault(queue, Past(updated=self._started))
            elapsed = now - max(past.updated, self._started)
            if elapsed < self._settings.sampling or self._settings.sampling <= 0:
                continue
            share = self._settings.fade(now - past.updated)
            holds = used.get(queue, {})
            past.consumed = {
                resource: (1.0 - share) * past.consumed.get(resource, 0.0) + share * holds.get(resource, 0.0)
                for resource in sorted({*past.consumed, *holds})
            }
            past.penalty = {}
            past.updated = now


def units(resource: str, value: int) -> float:
    return value / 1000 if resource == "cpu" else float(value)
