"""Events for people who look with kubectl: few, aggregated, and never in the way of anything.

The same thing about the same job within five minutes is one Event that counts: servers let nothing else of an Event
be changed, so what is said in other words is another. When more happens than a person could read, Events are dropped:
the job's status has the same facts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol

from hub.api.resource import EVENTS, FLEET_JOBS, JOBS, PLACEMENTS, WORKLOADS, Resource
from hub.api.timestamps import format_micro_time, from_timestamp
from hub.client.interface import Object
from hub.controllers.writes import Create, MergePatch, Write, WriteKey, Writes

Json = dict[str, Any]
_A_SECOND: Final = 5.0
_AT_ONCE: Final = 50.0
_SERIES_SECONDS: Final = 300.0
_KNOWN: Final = 2000
_LATER: Final = 0.5
_NOTE: Final = 1024
_CONTROLLER: Final = "fleet.quarterdeck.dev/hub"


_RESOURCES: Final[dict[str, Resource]] = {
    "Job": JOBS,
    "FleetJob": FLEET_JOBS,
    "Placement": PLACEMENTS,
    "Workload": WORKLOADS,
}


class About(Protocol):
    """What an Event is about; jobs are."""

    @property
    def kind(self) -> str: ...

    @property
    def namespace(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def uid(self) -> str: ...


class Subject(NamedTuple):
    """Anything else that Events are about. `kind` is FleetJob, Job, Placement or Workload."""

    kind: str
    namespace: str
    name: str
    uid: str


@dataclass(slots=True)
class _Series:
    name: str
    since: float
    count: int = 1
    made: bool = False


class Events:
    """`instance` is this hub's identity; `clock` is the loop's, `now` epoch seconds."""

    def __init__(self, writes: Writes, instance: str, clock: Callable[[], float], now: Callable[[], float]) -> None:
        self.dropped = 0
        self._writes, self._instance, self._clock, self._now = writes, instance, clock, now
        self._series: OrderedDict[tuple[str, str, str, str], _Series] = OrderedDict()
        self._left, self._at = _AT_ONCE, clock()

    def say(
        self, job: About, reason: str, note: str, action: str, kind: Literal["Normal", "Warning"] = "Normal"
    ) -> None:
        now = self._clock()
        note = note[:_NOTE]
        key = (job.uid, reason, action, note)
        series = self._series.get(key)
        if series is not None and now - series.since > _SERIES_SECONDS:
            series = None
        if series is not None:
            series.count += 1
            if not series.made:
                return
        if not self._may(now):
            self.dropped += 1
            return
        if series is None:
            series = _Series(f"{job.name[:200]}.{int(self._now() * 1e6):x}{len(self._series) % 256:02x}", now)
            self._series[key] = series
            if len(self._series) > _KNOWN:
                self._series.popitem(last=False)
        made = series
        self._writes.submit(
            WriteKey(EVENTS, job.namespace, made.name),
            lambda: self._write(job, made, reason, note, action, kind),
            delay=_LATER,
            on_done=lambda _answer: self._done(made),
        )

    def _may(self, now: float) -> bool:
        self._left = min(_AT_ONCE, self._left + (now - self._at) * _A_SECOND)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    @staticmethod
    def _done(series: _Series) -> None:
        series.made = True

    def _write(self, job: About, series: _Series, reason: str, note: str, action: str, kind: str) -> Write:
        at = format_micro_time(from_timestamp(self._now()))
        counted = {"series": {"count": series.count, "lastObservedTime": at}} if series.count > 1 else {}
        if series.made:
            return MergePatch(counted)
        return Create(_event(job, series.name, reason, note, action, kind, at, self._instance) | counted)


def _event(job: About, name: str, reason: str, note: str, action: str, kind: str, at: str, instance: str) -> Object:
    resource = _RESOURCES[job.kind]
    return {
        "apiVersion": EVENTS.api_version,
        "kind": EVENTS.kind,
        "metadata": {"name": name, "namespace": job.namespace},
        "eventTime": at,
        "reportingController": _CONTROLLER,
        "reportingInstance": instance[:128],
        "action": action,
        "reason": reason,
        "regarding": {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "namespace": job.namespace,
            "name": job.name,
            "uid": job.uid,
        },
        "note": note,
        "type": kind,
    }
