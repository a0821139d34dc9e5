"""Clusters come, fall silent, come back and are turned away: what hub/registration decides is carried out here.

Acceptance, the cluster's namespace and Lease, conditions and taints, and when a silence has lasted too long. It runs in
the hub's own loop, because a cluster must not wait for anything to join. Time in which this hub did not hear the API
is nobody's silence: after a gap, and after every change of leader, each cluster has a full new period.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from hub.api import names
from hub.api.errors import AlreadyExistsError
from hub.api.resource import LEASES, MANAGED_CLUSTERS, NAMESPACES
from hub.api.timestamps import format_duration, format_micro_time, format_time, from_timestamp
from hub.client.interface import Object
from hub.controllers.logs import logger
from hub.controllers.seen import version_of
from hub.controllers.writes import Create, MergePatch, Write, WriteKey, Writes
from hub.registration.acceptance import (
    AcceptRule,
    cluster_lease,
    cluster_namespace,
    entry_patch,
    is_accepted,
    is_leaving,
    lease_seconds,
)
from hub.registration.availability import status_patch, taint_patch
from hub.registration.heartbeats import Heartbeats

Json = dict[str, Any]
_log = logger(__name__)
_LOOK: Final = 1.0
"""The longest time between two looks at who is silent."""


class Registrar:
    """`run()` until cancelled. `heard_api` says when (on `clock`, monotonic) this hub last renewed its own Lease.

    `gap`: seconds without that after which this hub was cut off itself. `finalizers`: what holds accepted clusters.
    """

    def __init__(
        self,
        writes: Writes,
        rule: AcceptRule,
        heartbeats: Heartbeats,
        *,
        clock: Callable[[], float],
        now: Callable[[], float],
        leads: Callable[[], bool],
        heard_api: Callable[[], float],
        gap: float,
        finalizers: tuple[str, ...] = (),
    ) -> None:
        self.clusters: dict[str, Json] = {}
        self._finalizers = finalizers
        # Told of every accepted cluster that is looked at while this hub leads.
        self.on_accepted: Callable[[Json], None] = lambda cluster: None
        self._writes, self._rule, self._heartbeats = writes, rule, heartbeats
        self._clock, self._now, self._leads, self._heard_api, self._gap = clock, now, leads, heard_api, gap
        self._silent: set[str] = set()
        self._unreadable: Mapping[str, str] = {}
        self._prepared: set[str] = set()
        self._leased: set[str] = set()
        self._cut_off = False
        self._listening = False
        self._news = asyncio.Event()

    @property
    def silence(self) -> dict[str, float]:
        """Seconds since each accepted cluster was last heard."""
        now = self._clock()
        return {name: self._heartbeats.silence(name, now) for name, c in self.clusters.items() if is_accepted(c)}

    # What is seen.

    def cluster_seen(self, cluster: Json) -> None:
        name = cluster["metadata"]["name"]
        known = self.clusters.get(name)
        if known is not None and version_of(known) > version_of(cluster) and _uid(known) == _uid(cluster):
            return
        self.clusters[name] = cluster
        if is_accepted(cluster) and not is_leaving(cluster):
            self._heartbeats.expect(name, self._clock())
        elif known is not None and is_accepted(known):
            self._heartbeats.forget(name)
            self._silent.discard(name)
        self._review(cluster)
        self._news.set()

    def problems_seen(self, problems: Mapping[str, str]) -> None:
        """What of the clusters' objects cannot be read, by cluster: all of it."""
        before, self._unreadable = self._unreadable, problems
        for name in sorted({*before, *problems} & self.clusters.keys()):
            if before.get(name) != problems.get(name):
                self._review(self.clusters[name])

    def cluster_gone(self, name: str) -> None:
        self.clusters.pop(name, None)
        self._prepared.discard(name)
        self._silent.discard(name)
        self._heartbeats.forget(name)

    def lease_seen(self, lease: Json) -> None:
        metadata, spec = lease["metadata"], lease.get("spec") or {}
        if metadata["name"] != names.CLUSTER_LEASE:
            return
        cluster = str(metadata["namespace"])
        self._leased.add(cluster)
        self._prepared.add(cluster)
        mark = (metadata.get("uid"), spec.get("renewTime"))
        if self._heartbeats.renewed(cluster, mark, self._clock()) and cluster in self._silent:
            self._silent.discard(cluster)
            _log.info("a cluster is heard again", cluster=cluster)

    def lease_gone(self, cluster: str) -> None:
        """Somebody deleted it; it is made again."""
        self._leased.discard(cluster)
        self._prepared.discard(cluster)
        if cluster in self.clusters:
            self._review(self.clusters[cluster])

    def take_over(self) -> None:
        """This hub leads from now on."""
        self._heartbeats.restart(self._clock())
        self._silent.clear()
        self._listening, self._cut_off = True, False
        for cluster in list(self.clusters.values()):
            self._review(cluster)
        self._news.set()

    def stand_by(self) -> None:
        self._listening = False
        # What was being made may not have been.
        self._prepared &= self._leased

    # Who is silent.

    async def run(self) -> None:
        while True:
            self._news.clear()
            delay = self._look()
            # Not wait_for: up to Python 3.11 it may lose a cancellation.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(delay, _LOOK)):
                    await self._news.wait()

    def _look(self) -> float:
        """Condemns who has been silent for too long. Seconds until the next could be."""
        if not (self._listening and self._leads()):
            return _LOOK
        now = self._clock()
        if now - self._heard_api() > self._gap:
            if not self._cut_off:
                self._cut_off = True
                _log.warning("this hub does not hear its API; nobody's silence is counted meanwhile")
            return _LOOK
        if self._cut_off:
            self._cut_off = False
            self._heartbeats.restart(now)
        soonest = _LOOK
        for name, cluster in list(self.clusters.items()):
            if name in self._silent or not is_accepted(cluster) or is_leaving(cluster):
                continue
            left = self._heartbeats.deadline(name, lease_seconds(cluster)) - now
            if left > 0:
                soonest = min(soonest, left + 0.001)
                continue
            self._silent.add(name)
            age = format_duration(self._heartbeats.silence(name, now))
            _log.warning("a cluster is silent: its tasks go elsewhere", cluster=name, silence=age)
            self._review(cluster)
        return soonest

    # What is written.

    def _review(self, cluster: Json) -> None:
        if not self._listening:
            return
        name = cluster["metadata"]["name"]
        at = format_time(from_timestamp(self._now()))
        if entry_patch(cluster, self._rule, at, self._finalizers) or taint_patch(cluster):
            self._writes.submit(WriteKey(MANAGED_CLUSTERS, None, name), lambda: self._entry(name), on_done=self._done)
        if is_accepted(cluster) and not is_leaving(cluster) and name not in self._prepared:
            self._prepared.add(name)
            self._prepare(name)
        if is_accepted(cluster):
            self.on_accepted(cluster)
        if self._status_patch(cluster, at):
            key = WriteKey(MANAGED_CLUSTERS, None, name, "status")
            self._writes.submit(key, lambda: self._status(name), on_done=self._done)

    def _entry(self, name: str) -> Write | None:
        cluster = self.clusters.get(name)
        if cluster is None:
            return None
        at = format_time(from_timestamp(self._now()))
        joining = entry_patch(cluster, self._rule, at, self._finalizers) or {}
        # Both speak of spec; what is left for the second goes with the next look at the answer.
        patch = joining or taint_patch(cluster)
        if not patch:
            return None
        if (joining.get("spec") or {}).get("hubAcceptsClient"):
            _log.info("a cluster is accepted", cluster=name)
        metadata = {**patch.get("metadata", {}), "uid": _uid(cluster)}
        if "taints" in patch.get("spec", {}):
            # The list is replaced as a whole: it must be the one that was seen.
            metadata["resourceVersion"] = cluster["metadata"]["resourceVersion"]
        return MergePatch({**patch, "metadata": metadata})

    def _status(self, name: str) -> Write | None:
        cluster = self.clusters.get(name)
        if cluster is None:
            return None
        patch = self._status_patch(cluster, format_time(from_timestamp(self._now())))
        if patch is None:
            return None
        return MergePatch({**patch, "metadata": {**patch["metadata"], "uid": _uid(cluster)}})

    def _status_patch(self, cluster: Json, at: str) -> Json | None:
        name = cluster["metadata"]["name"]
        unreadable = self._unreadable.get(name, "")
        return status_patch(cluster, silent=name in self._silent, now=at, unreadable=unreadable)

    def _prepare(self, name: str) -> None:
        """The cluster's namespace, and then the Lease in it."""
        namespace = WriteKey(NAMESPACES, None, name)

        def made(_answer: object = None) -> None:
            self._make_lease(name)

        def failed(_key: WriteKey, error: Exception) -> None:
            if isinstance(error, AlreadyExistsError):
                made()
            else:
                self._later(name, error)

        self._writes.submit(namespace, lambda: Create(cluster_namespace(name)), on_done=made, on_error=failed)

    def _make_lease(self, name: str) -> None:
        def desired() -> Write | None:
            cluster = self.clusters.get(name)
            if cluster is None or is_leaving(cluster):
                return None
            return Create(cluster_lease(cluster, format_micro_time(from_timestamp(self._now()))))

        def failed(_key: WriteKey, error: Exception) -> None:
            if not isinstance(error, AlreadyExistsError):
                self._later(name, error)

        self._writes.submit(WriteKey(LEASES, name, names.CLUSTER_LEASE), desired, on_error=failed)

    def _later(self, name: str, error: Exception) -> None:
        """Such as a namespace that is still being deleted, of a cluster that left and comes back."""
        _log.info("a cluster's namespace is not ready yet", cluster=name, why=str(error))

        def again() -> None:
            self._prepared.discard(name)
            if name in self.clusters:
                self._review(self.clusters[name])

        asyncio.get_running_loop().call_later(_LOOK, again)

    def _done(self, answer: Object | None) -> None:
        if answer is not None:
            self.cluster_seen(answer)


def _uid(cluster: Json) -> str:
    return str(cluster["metadata"].get("uid") or "")
