"""Being a cluster of the hub: its ManagedCluster exists, says what is so, and is obeyed when it says no.

The agent creates the object, carries its labels into it, and reports Joined, Available and what the cluster has; the
hub alone accepts. Denied or deleted, it says so, takes no new work and joins again when it may. Nothing here applies
work or renews the Lease; it tells those who do whether they may.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from agent.lease import DEFAULT_DURATION, LeaseKeeper
from agent.link import TRANSIENT, HubLink
from agent.local import LocalCluster
from agent.waiting import came
from hub.api.conditions import condition_is, find_condition, with_condition
from hub.api.errors import AlreadyExistsError, ConflictError, NotFoundError, QuarterdeckError
from hub.api.mergepatch import create_merge_patch
from hub.api.resource import MANAGED_CLUSTERS
from hub.api.timestamps import format_time
from hub.client.backoff import Backoff
from hub.client.informer import Informer
from hub.client.interface import KubeApi

Json = dict[str, Any]
State = Literal["unknown", "absent", "waiting", "accepted", "denied", "deleting"]
_log = logging.getLogger("agent.registration")

ACCEPTED = "HubAcceptedManagedCluster"
JOINED = "ManagedClusterJoined"
AVAILABLE = "ManagedClusterConditionAvailable"
# Which labels are ours, so that one that left the site's file leaves the object too. OCM's prefix for an agent's own.
KEPT_LABELS = "agent.open-cluster-management.io/labels"

_RESYNC_SECONDS = 60.0
_HEALTH_SECONDS = 15.0
_HEALTH_PATIENCE = 20.0
_REPORTED = ("version", "capacity", "allocatable", "clusterClaims")


class Registration:
    """`run()` until cancelled. `accepted` is set while the hub lets this cluster take work."""

    def __init__(
        self,
        hub: KubeApi,
        local: LocalCluster,
        *,
        cluster: str,
        link: HubLink,
        lease: LeaseKeeper,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_accepted: Callable[[bool], None] = lambda accepted: None,
        rejoin_seconds: float = 5.0,
        health_seconds: float = _HEALTH_SECONDS,
        health_patience: float = _HEALTH_PATIENCE,
    ) -> None:
        self.state: State = "unknown"
        self.accepted = asyncio.Event()
        self.writes = 0
        self._hub, self._local, self._cluster = hub, local, cluster
        self._link, self._lease, self._now = link, lease, now
        self._on_accepted = on_accepted
        self._health_seconds, self._health_patience = health_seconds, health_patience
        self._object: Json | None = None
        self._unknown_since: float | None = None
        self._healthy: bool | None = None
        self._leaving = False
        self._asked: tuple[Json, Any] | None = None
        self._rejoin = Backoff(rejoin_seconds, 300.0)
        self._rejoin_at = 0.0
        self._refused = Backoff(1.0, 60.0)
        self._wake = asyncio.Event()
        local.on_capacity_change(self._wake.set)
        lease.on_renewed = self._wake.set

    @property
    def healthy(self) -> bool | None:
        """Whether the cluster's own API answers; None while that is not known."""
        return self._healthy

    async def leave(self) -> None:
        """Says that no work should be given to this cluster until it reports again. Never raises: it is a courtesy."""
        self._leaving = True
        if self.state == "accepted" and self._object is not None and self._link.up:
            with contextlib.suppress(QuarterdeckError, TimeoutError):
                async with asyncio.timeout(2.0):
                    await self._report(self._object)

    async def run(self) -> None:
        informer: Informer[Json] = Informer(
            self._hub,
            MANAGED_CLUSTERS,
            field_selector=f"metadata.name={self._cluster}",
            transform=lambda obj: obj if obj["metadata"]["name"] == self._cluster else None,
            on_event=lambda _change, _key, _old, new: self._seen(new),
            backoff=Backoff(0.1, 5.0),
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(informer.run(), name="own cluster")
            tasks.create_task(self._watch_health(), name="health")
            await informer.synced.wait()
            if not informer.store:
                self._seen(None)
            while True:
                self._wake.clear()
                delay = await self._pass()
                await came(self._wake, delay)

    # What the hub says.

    def _seen(self, obj: Json | None) -> None:
        current = self._object
        if obj is not None and current is not None and _older(obj, current):
            return
        if obj is None and current is not None:
            self._rejoin_at = asyncio.get_running_loop().time() + self._rejoin.next()
        self._object = obj
        unknown = obj is not None and condition_is(_conditions(obj), AVAILABLE, "Unknown")
        if not unknown:
            self._unknown_since = None
        elif self._unknown_since is None:
            self._unknown_since = asyncio.get_running_loop().time()
            self._lease.renew_now()
        self._enter(_state_of(obj))
        self._wake.set()

    def _enter(self, state: State) -> None:
        if state in ("accepted", "deleting"):
            self._lease.keep(_lease_seconds(self._object or {}))
        else:
            self._lease.rest()
        if state == self.state:
            return
        before, self.state = self.state, state
        self._say(before, state)
        if state == "accepted":
            self._rejoin.reset()
            self.accepted.set()
            self._on_accepted(True)
        elif before == "accepted":
            self.accepted.clear()
            self._on_accepted(False)

    def _say(self, before: State, state: State) -> None:
        fields: dict[str, object] = {"cluster": self._cluster}
        if state == "accepted":
            _log.info("accepted by the hub", extra={"fields": fields})
        elif state == "waiting":
            hint = f"`quarterdeck clusters accept {self._cluster}` on the hub"
            _log.info("waiting to be accepted", extra={"fields": {**fields, "hint": hint}})
        elif state == "denied":
            _log.warning("denied by the hub: no new work is taken", extra={"fields": fields})
        elif state == "deleting":
            _log.warning("being removed from the hub: no new work is taken", extra={"fields": fields})
        elif before in ("accepted", "deleting", "waiting", "denied"):
            _log.warning("removed from the hub: joining again", extra={"fields": fields})

    # What we say.

    async def _pass(self) -> float:
        """One look at what differs, at most one write of each kind. Seconds until the next look."""
        try:
            delay = await self._step()
        except TRANSIENT as error:
            self._link.failed(error)
            await self._link.ready()
            return 0.05
        except ConflictError:
            await self._read_again()
            return 0.05
        except NotFoundError:
            return 0.2
        except QuarterdeckError as error:
            delay = self._refused.next()
            fields = {"cluster": self._cluster, "why": error, "again_in": f"{delay:.0f}s", "hint": error.hint}
            _log.error("the hub refuses what this cluster reports of itself", extra={"fields": fields})
            return delay
        self._refused.reset()
        return delay

    async def _step(self) -> float:
        loop = asyncio.get_running_loop()
        obj = self._object
        if obj is None:
            left = self._rejoin_at - loop.time()
            if left > 0:
                return left
            await self._create()
            return _RESYNC_SECONDS
        await self._keep_labels(obj)
        if self.state != "accepted":
            return _RESYNC_SECONDS
        if self._healthy is None:
            return 1.0
        if self._unknown_since is not None and self._lease.age > loop.time() - self._unknown_since:
            # First a sign of life, then the claim to be alive: else the hub would take it back at once.
            return _RESYNC_SECONDS
        await self._report(self._object or obj)
        return _RESYNC_SECONDS

    async def _create(self) -> None:
        labels = self._local.labels
        body: Json = {
            "apiVersion": MANAGED_CLUSTERS.api_version,
            "kind": MANAGED_CLUSTERS.kind,
            "metadata": {"name": self._cluster, "labels": labels, "annotations": {KEPT_LABELS: _listed(labels)}},
            "spec": {},
        }
        try:
            created = await self._hub.create(MANAGED_CLUSTERS, body)
        except AlreadyExistsError:
            await self._read_again()
            return
        self.writes += 1
        self._link.succeeded()
        _log.info("asked the hub to join", extra={"fields": {"cluster": self._cluster}})
        self._seen(created)

    async def _read_again(self) -> None:
        with contextlib.suppress(QuarterdeckError):
            self._seen(await self._hub.get(MANAGED_CLUSTERS, self._cluster))

    async def _keep_labels(self, obj: Json) -> None:
        metadata = obj["metadata"]
        wanted, live = self._local.labels, metadata.get("labels") or {}
        annotations = metadata.get("annotations") or {}
        changes: dict[str, str | None] = {key: value for key, value in wanted.items() if live.get(key) != value}
        for key in filter(None, str(annotations.get(KEPT_LABELS, "")).split(",")):
            if key not in wanted and key in live:
                changes[key] = None
        patch: Json = {"labels": changes} if changes else {}
        if annotations.get(KEPT_LABELS, "") != _listed(wanted):
            patch["annotations"] = {KEPT_LABELS: _listed(wanted)}
        if patch and not metadata.get("deletionTimestamp"):
            patch["uid"] = metadata["uid"]
            answer = await self._hub.patch(MANAGED_CLUSTERS, self._cluster, {"metadata": patch})
            self.writes += 1
            self._link.succeeded()
            self._seen(answer)

    async def _report(self, obj: Json) -> None:
        current = obj.get("status") or {}
        wanted = self._status(current)
        patch: Json = {}
        for part, value in wanted.items():
            before = current.get(part)
            if isinstance(value, Mapping) and isinstance(before, Mapping):
                value = create_merge_patch(before, value)
            elif value == (before or type(value)()):
                value = None
            if value is not None:
                patch[part] = value
        # What the server made of it is not asked for twice, even where it respells what we say.
        if not patch or self._asked == (wanted, current):
            return
        metadata = {key: obj["metadata"][key] for key in ("uid", "resourceVersion")}
        body = {"metadata": metadata, "status": patch}
        answer = await self._hub.patch(MANAGED_CLUSTERS, self._cluster, body, subresource="status")
        self.writes += 1
        self._link.succeeded()
        self._asked = (wanted, answer.get("status"))
        if not condition_is(_conditions(obj), JOINED):
            _log.info("joined", extra={"fields": {"cluster": self._cluster}})
        self._seen(answer)

    def _status(self, current: Mapping[str, Any]) -> Json:
        now = format_time(self._now())
        conditions = with_condition(
            current.get("conditions"), JOINED, "True", "ManagedClusterJoined", "Managed cluster joined", now=now
        )
        if self._leaving:
            verdict = ("False", "ManagedClusterAgentStopped", "The agent was told to stop and ends the cluster's tasks")
        elif self._healthy:
            verdict = ("True", "ManagedClusterAvailable", "Managed cluster is available")
        else:
            why = f"The cluster's own API has not answered for {self._health_patience:g} s"
            verdict = ("False", "ManagedClusterKubeAPIServerUnavailable", why)
        status: Json = {"conditions": with_condition(conditions, AVAILABLE, *verdict, now=now)}
        facts = self._local.cluster_status()
        return status | {part: facts[part] for part in _REPORTED if part in facts}

    async def _watch_health(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._health_patience):
                    await self._local.ready()
                healthy = True
            except (TimeoutError, QuarterdeckError):
                healthy = False
            if healthy != self._healthy:
                if not healthy or self._healthy is False:
                    level, text = (logging.INFO, "answers again") if healthy else (logging.ERROR, "does not answer")
                    _log.log(level, f"the cluster's own API {text}", extra={"fields": {"cluster": self._cluster}})
                self._healthy = healthy
                self._wake.set()
            await asyncio.sleep(self._health_seconds if healthy else 1.0)


def _conditions(obj: Mapping[str, Any]) -> list[Any]:
    return (obj.get("status") or {}).get("conditions") or []


def _state_of(obj: Mapping[str, Any] | None) -> State:
    if obj is None:
        return "absent"
    if obj["metadata"].get("deletionTimestamp"):
        return "deleting"
    accepted = find_condition(_conditions(obj), ACCEPTED)
    if (obj.get("spec") or {}).get("hubAcceptsClient"):
        return "accepted" if accepted is not None and accepted.get("status") == "True" else "waiting"
    denied = accepted is not None and accepted.get("reason") == "HubClusterAdminDenied"
    return "denied" if denied else "waiting"


def _lease_seconds(obj: Mapping[str, Any]) -> float:
    value = (obj.get("spec") or {}).get("leaseDurationSeconds")
    return float(value) if isinstance(value, int) and value >= 1 else DEFAULT_DURATION


def _listed(labels: Mapping[str, str]) -> str:
    return ",".join(sorted(labels))


def _older(obj: Mapping[str, Any], current: Mapping[str, Any]) -> bool:
    """Whether `obj` is an older state of the same object: the informer may trail our own writes."""
    if obj["metadata"].get("uid") != current["metadata"].get("uid"):
        return False
    try:
        return int(obj["metadata"]["resourceVersion"]) < int(current["metadata"]["resourceVersion"])
    except (KeyError, ValueError):
        return False
