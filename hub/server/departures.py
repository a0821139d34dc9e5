"""Workloads of others that hold quota, and which of them have to give it back now: drained, refused, out of time.

Kept from cycle to cycle of a plan, because limits on time come with the clock. What becomes of those that go is the
caller's, which differs by mode; why they go is hub/server/leaving.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hub.api.conditions import condition_is
from hub.api.conversion import V1BETA1, to_v1beta2
from hub.api.timestamps import format_time, from_timestamp
from hub.jobs.limits import PodsReady
from hub.queueing.quotas import Quotas
from hub.server.leaving import Leaving, leaving

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Departure:
    """`key` gives back what it holds of ClusterQueue `queue`."""

    key: str
    queue: str
    why: Leaving

    def document(self) -> dict[str, Any]:
        return {
            "workload": self.key, "reason": self.why.reason, "clusterQueue": self.queue, "message": self.why.message,
        }  # fmt: skip


class Departures:
    def __init__(self, ready: PodsReady | None) -> None:
        self._ready = ready
        self._known: dict[str, tuple[Json, str]] = {}

    def holds(self, obj: Json, queue: str) -> None:
        """It has quota of ClusterQueue `queue`."""
        obj = to_v1beta2(obj) if obj.get("apiVersion") == V1BETA1 else obj
        meta = obj["metadata"]
        self._known[f"{meta.get('namespace') or 'default'}/{meta['name']}"] = (obj, queue)

    def admitted(self, obj: Json, queue: str, now: float) -> None:
        """It has got quota at `now`, with nothing more to wait for; what was said of it before is over."""
        obj = to_v1beta2(obj) if obj.get("apiVersion") == V1BETA1 else obj
        status = obj.get("status") or {}
        kept = ("accumulatedPastExecutionTimeSeconds", "requeueState")
        at = format_time(from_timestamp(now))
        said = [{"type": kind, "status": "True", "lastTransitionTime": at} for kind in ("QuotaReserved", "Admitted")]
        fresh = {name: status[name] for name in kept if name in status}
        fresh |= {"conditions": said, "admission": {"clusterQueue": queue}}
        self.holds({**obj, "status": fresh}, queue)

    def unready(self) -> list[str]:
        """Those that are admitted, and whose pods are not all up."""
        return [
            key
            for key, (obj, _) in self._known.items()
            if condition_is((obj.get("status") or {}).get("conditions"), "Admitted")
            and not condition_is((obj.get("status") or {}).get("conditions"), "PodsReady")
        ]

    def gone(self, key: str) -> None:
        self._known.pop(key, None)

    def due(self, quotas: Quotas, now: float) -> list[Departure]:
        """By key."""
        found = []
        for key, (obj, queue) in sorted(self._known.items()):
            why = leaving(obj, queue, quotas, self._ready, now)
            if why is not None:
                found.append(Departure(key, queue, why))
        return found
