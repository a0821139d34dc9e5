"""A control plane in this process: the store, its logical clusters, and what follows every commit.

No sockets: hub/apiserver/server.py puts HTTP in front of it, hub/apiserver/inprocess.py is for the same process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any, Final, Literal, Self

from hub.api.errors import ApiError, StorageError
from hub.api.patterns import DNS_SUBDOMAIN_PATTERN
from hub.api.resource import CUSTOM_RESOURCE_DEFINITIONS, NAMESPACES
from hub.api.timestamps import parse_time
from hub.apiserver.aggregating import Aggregator
from hub.apiserver.authorizer import Authorizer
from hub.apiserver.bootstrap_roles import ensure_roles
from hub.apiserver.builtin import builtin_registry
from hub.apiserver.certificate_signing import CertificateSigner
from hub.apiserver.collection import Collection
from hub.apiserver.create import create
from hub.apiserver.emptying import Emptier
from hub.apiserver.garbage import GarbageCollector
from hub.apiserver.history import MAX_BYTES, Event
from hub.apiserver.installing import CRDS, follow_crds, install_all
from hub.apiserver.kinds import ServedKind
from hub.apiserver.listing import Pages
from hub.apiserver.logical import BOOTSTRAP_NAMESPACES, LogicalCluster
from hub.apiserver.metrics import Metrics
from hub.apiserver.record import Record
from hub.apiserver.remove import DeleteOptions, delete_collection
from hub.apiserver.status import bad_request
from hub.apiserver.store import Changes, Store
from hub.apiserver.update import replace
from hub.apiserver.watching import Watches
from hub.apiserver.webhook_calls import Webhooks
from hub.apiserver.webhook_index import WebhookIndex
from hub.apiserver.written import Object, Options, owned_copy

_log = logging.getLogger(__name__)
_NAME: Final = re.compile(DNS_SUBDOMAIN_PATTERN, re.ASCII)
_HOUSEKEEPING_SECONDS: Final = 5.0
# Events say what happened lately; Kubernetes keeps them for an hour.
EVENT_SECONDS: Final = 3600.0
_EVENTS_EVERY: Final = 60.0


class _Follower:
    """What follows the commits of one logical cluster."""

    def __init__(self, cluster: LogicalCluster, signing: Path | None) -> None:
        self.garbage = GarbageCollector(cluster)
        self.emptier = Emptier(cluster)
        self.aggregator = Aggregator(cluster)
        self.signer = CertificateSigner(cluster, signing) if signing is not None else None

    def scan(self) -> None:
        self.emptier.scan()
        self.garbage.scan()
        self.aggregator.scan()
        if self.signer is not None:
            self.signer.scan()

    def follow(self, collection: Collection, events: list[Event]) -> None:
        self.garbage.follow(collection, events)
        self.emptier.follow(collection, events)
        self.aggregator.follow(collection, events)
        if self.signer is not None:
            self.signer.follow(collection, events)


class ControlPlane:
    """Use as an async context manager. Errors of `__aenter__`: the `StorageError` tree.

    `power_safe` flushes every commit to the disk before it is acknowledged; without it an acknowledged write survives
    every crash of this process, and a power cut takes at most what the operating system had not written yet. `history`:
    see `Store`. `authorizes` is for who serves others than itself: each logical cluster has the roles of Kubernetes,
    which decide unless everybody may do everything, and approved requests for certificates are signed.
    """

    def __init__(
        self,
        directory: Path,
        *,
        power_safe: bool = False,
        history: int = MAX_BYTES,
        authorizes: Literal["", "RBAC", "AlwaysAllow"] = "",
    ) -> None:
        self._directory = directory
        self._authorizes = authorizes
        self._history = history
        self._power_safe = power_safe
        self.store: Store
        self.metrics = Metrics()
        self.pages = Pages()
        self.clusters: dict[str, LogicalCluster] = {}
        self._followers: dict[str, _Follower] = {}
        self._watches: dict[Collection, Watches] = {}
        self._housekeeper: asyncio.Task[None] | None = None
        # What waits for others: webhooks, until they answer.
        self.calls = Webhooks()
        self._tasks: set[asyncio.Task[None]] = set()
        self._next_expiry = 0.0
        self._stopping = False

    async def __aenter__(self) -> Self:
        self.store = Store(self._directory, power_safe=self._power_safe, history=self._history)
        try:
            self.store.subscribe(self._committed)
            for name in sorted({"", *(key[0] for key in self.store.collections)}):
                self.open_cluster(name)
            await self.store.committed()
        except BaseException:
            await self.store.close()
            raise
        self._housekeeper = asyncio.create_task(self._keep_house(), name="API server housekeeping")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._housekeeper is not None:
            self._housekeeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._housekeeper
        self.end_watches()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.calls.close()
        await self.store.close()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs `work`, which must not raise, until it ends or the server does."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def end_watches(self) -> None:
        """Every watch ends, as it does when its time is over; no other begins."""
        self._stopping = True
        for watches in self._watches.values():
            watches.end_all()

    # Clusters

    def open_cluster(self, name: str) -> LogicalCluster:
        """The logical cluster of that name, made if need be; then its namespaces are staged, not yet committed.

        Raises `RefusedError` (400) for what is no name.
        """
        found = self.clusters.get(name)
        if found is not None:
            return found
        if name and (len(name) > 63 or not _NAME.fullmatch(name)):
            raise bad_request(f"{name!r} is not a name for a cluster: lower-case letters, digits, '-' and '.'")
        cluster = LogicalCluster(name, self.store, builtin_registry(), self.metrics.count_write)
        install_all(cluster)
        self.clusters[name] = cluster
        follower = self._followers[name] = _Follower(cluster, self._directory if self._authorizes else None)
        kind = cluster.registry.of(NAMESPACES)
        assert kind is not None
        for namespace in BOOTSTRAP_NAMESPACES:
            if cluster.namespaces.latest(("", namespace)) is None:
                create(cluster, kind, {"metadata": {"name": namespace}}, None, Options())
        if self._authorizes:
            cluster.authorizer = Authorizer(self.store, name, always=self._authorizes == "AlwaysAllow")
            cluster.webhooks = WebhookIndex(cluster)
            ensure_roles(cluster)
        follower.scan()
        return cluster

    def forget_cluster(self, name: str) -> None:
        """Undoes `open_cluster` where its first commit failed."""
        if name:
            self.clusters.pop(name, None)
            self._followers.pop(name, None)

    async def install(self, crds: Iterable[Object], cluster: str = "") -> None:
        """Creates CRDs, or replaces those that differ, and returns once they are served."""
        target = self.open_cluster(cluster)
        kind = target.registry.of(CUSTOM_RESOURCE_DEFINITIONS)
        assert kind is not None
        for crd in crds:
            install_crd(target, kind, owned_copy(crd))
        await self.store.committed()

    def watches(self, collection: Collection) -> Watches:
        found = self._watches.get(collection)
        if found is None:
            found = self._watches[collection] = Watches(collection)
            found.ended = self._stopping
        return found

    @property
    def watcher_count(self) -> int:
        return sum(len(watches.watchers) for watches in self._watches.values())

    # What follows a commit

    def _committed(self, changes: Changes) -> None:
        for collection, events in changes.items():
            if (collection.group, collection.plural) == CRDS:
                cluster = self.clusters[collection.cluster]
                for group, plural in follow_crds(cluster, events):
                    gone = self._watches.pop(self.store.collection(cluster.name, group, plural), None)
                    if gone is not None:
                        gone.end_all()
        for collection, events in changes.items():
            watches = self._watches.get(collection)
            if watches is not None:
                watches.publish(events)
            self._follow(collection, events)

    def _follow(self, collection: Collection, events: list[Event]) -> None:
        follower = self._followers.get(collection.cluster)
        if follower is None:
            return
        cluster = self.clusters[collection.cluster]
        if cluster.authorizer is not None:
            cluster.authorizer.follow(collection, events)
        if cluster.webhooks is not None:
            cluster.webhooks.follow(collection, events)
        try:
            follower.follow(collection, events)
        except (ApiError, StorageError) as error:
            _log.warning("what follows a change of %s: %s", collection.plural, error)

    async def _keep_house(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)
            now = loop.time()
            try:
                for watches in self._watches.values():
                    for watcher in list(watches.watchers):
                        watcher.bookmark(now)
                self.store.maintain()
                self.pages.forget()
                if now >= self._next_expiry:
                    self._next_expiry = now + _EVENTS_EVERY
                    for cluster in self.clusters.values():
                        self._expire_events(cluster)
                    for follower in self._followers.values():
                        if follower.signer is not None:
                            follower.signer.forget_old()
            except Exception:
                _log.exception("housekeeping failed; it goes on")

    def _expire_events(self, cluster: LogicalCluster) -> None:
        collection = self.store.collections.get((cluster.name, "", "events"))
        kind = cluster.stored_kind(collection) if collection is not None else None
        if collection is None or kind is None:
            return
        oldest = time.time() - EVENT_SECONDS
        expired = [record for record in collection.select() if _last_seen(record) < oldest]
        if expired:
            delete_collection(cluster, kind, expired, DeleteOptions("Background"))


def _last_seen(record: Record) -> float:
    obj: dict[str, Any] = record.load()
    series = obj.get("series") or {}
    text = series.get("lastObservedTime") or obj.get("lastTimestamp") or obj["metadata"]["creationTimestamp"]
    try:
        return parse_time(text).timestamp()
    except ValueError:
        return parse_time(obj["metadata"]["creationTimestamp"]).timestamp()


def install_crd(cluster: LogicalCluster, kind: ServedKind, crd: Object) -> None:
    """Stages `crd`, which is taken over, if what is there differs. Raises `RefusedError`."""
    name = crd["metadata"]["name"]
    record = cluster.crds.latest(("", name))
    if record is None:
        create(cluster, kind, crd, None, Options())
        return
    crd["metadata"] = {**record.load()["metadata"], **crd["metadata"]}
    replace(cluster, kind, crd, ("", name), Options())
