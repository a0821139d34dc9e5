"""Our own agents, told which scorers to ask: one ClusterScoring a cluster, its spec written when that changes.

Only for scorers that a ScorerPolicy leaves to the agents; where there never was one, nothing is written. What the
agents answer is in the same objects' statuses (hub/controllers/scorer_reports.py).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from hub.api.errors import AlreadyExistsError, NotFoundError
from hub.api.resource import CLUSTER_SCORINGS
from hub.controllers.logs import logger
from hub.controllers.scorer_roster import ScorerRoster
from hub.controllers.writes import Create, MergePatch, Write, WriteKey, Writes
from hub.scoring.dynamic.policy import AGENT

Json = dict[str, Any]
_log = logger(__name__)
_TOGETHER: Final = 0.05
_AGAIN: Final = 2.0
"""Seconds after which a cluster is told again where its namespace was not there yet."""


class ScorerOrders:
    """`wake` after any change; `start` and `stop` with the lead. `seen` is told of every ClusterScoring."""

    def __init__(self, roster: ScorerRoster, writes: Writes) -> None:
        self._roster, self._writes = roster, writes
        self._objects: dict[str, Json] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._running = False

    def start(self) -> None:
        self._running = True
        self.wake()

    def stop(self) -> None:
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def seen(self, obj: Json, *, gone: bool) -> None:
        cluster = str(obj["metadata"]["namespace"])
        if obj["metadata"]["name"] != cluster:
            return
        before = _scorers(self._objects.get(cluster))
        if gone:
            self._objects.pop(cluster, None)
        else:
            self._objects[cluster] = obj
        if before != _scorers(self._objects.get(cluster)):
            self.wake()

    def wake(self, seconds: float = _TOGETHER) -> None:
        if self._running and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.look)

    def look(self) -> None:
        """Submits what has to be written."""
        self._timer = None
        unknown = self._roster.unknown(AGENT)
        for cluster in self._roster.clusters:
            wanted = self._roster.ordered(cluster)
            if unknown:
                # A hub that has just started: what was asked goes on until it is known what is to be asked.
                kept = [order for order in _scorers(self._objects.get(cluster)) if order["scorer"] in unknown]
                wanted = sorted([*wanted, *kept], key=lambda order: str(order["scorer"]))
            if wanted != _scorers(self._objects.get(cluster)):
                key = WriteKey(CLUSTER_SCORINGS, cluster, cluster)
                self._writes.submit(
                    key,
                    lambda cluster=cluster, wanted=wanted: self._write(cluster, wanted),  # type: ignore[misc]
                    on_done=self._written,
                    on_error=self._refused,
                )

    def _write(self, cluster: str, wanted: list[Json]) -> Write | None:
        known = self._objects.get(cluster)
        if known is None:
            return Create(
                {
                    "apiVersion": CLUSTER_SCORINGS.api_version,
                    "kind": CLUSTER_SCORINGS.kind,
                    "metadata": {"name": cluster, "namespace": cluster},
                    "spec": {"scorers": wanted},
                }
            )
        if _scorers(known) == wanted:
            return None
        return MergePatch({"metadata": {"uid": known["metadata"]["uid"]}, "spec": {"scorers": wanted}})

    def _written(self, answer: Json | None) -> None:
        if answer is not None:
            self._objects[str(answer["metadata"]["namespace"])] = answer

    def _refused(self, key: WriteKey, error: Exception) -> None:
        if isinstance(error, NotFoundError | AlreadyExistsError):
            self.wake(_AGAIN)
        else:
            _log.error("an agent cannot be told what to ask", cluster=key.namespace, why=str(error))


def _scorers(obj: Json | None) -> list[Any]:
    return list(((obj or {}).get("spec") or {}).get("scorers") or ())
