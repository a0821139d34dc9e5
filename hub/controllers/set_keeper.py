"""Keeps the two sets that every hub has, and says of every set and binding how it stands.

A few dozen objects, looked at together when anything about them changed; called by the lifecycle, in its thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from hub.api.errors import AlreadyExistsError, InvalidObjectError, NotFoundError, QuarterdeckError
from hub.api.resource import MANAGED_CLUSTER_SET_BINDINGS, MANAGED_CLUSTER_SETS, MANAGED_CLUSTERS, Resource
from hub.api.timestamps import format_time
from hub.client.interface import KubeApi
from hub.controllers.bootstrap import cluster_set
from hub.controllers.logs import logger
from hub.fleet.facts import read_cluster
from hub.placement.sets import ClusterSets
from hub.registration.sets import MAINTAINED, binding_status, restored, set_status

Json = dict[str, Any]
_log = logger(__name__)
_SETTLE: Final = 0.2
_BUSY: Final = 3.0
_LATEST: Final = 60.0


class SetKeeper:
    """Looks at all sets and bindings together, a moment after anything about them or their clusters changed."""

    def __init__(self, api: KubeApi, resync: float, busy: Callable[[], bool] = lambda: False) -> None:
        self.api = api
        self._resync, self._busy = resync, busy
        self._news = asyncio.Event()

    def wake(self) -> None:
        self._news.set()

    async def run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._resync):
                    await self._news.wait()
            await asyncio.sleep(_SETTLE)
            await self._calm()
            self._news.clear()
            try:
                await self._look()
            except QuarterdeckError as error:
                _log.info("cluster sets could not be looked at; again soon", why=str(error))
                await asyncio.sleep(2.0)
                self._news.set()

    async def _calm(self) -> None:
        """While jobs come and go by the hundred, this can wait: it is for people who look at sets."""
        patience = _LATEST
        while self._busy() and patience > 0:
            await asyncio.sleep(_BUSY)
            patience -= _BUSY

    async def _look(self) -> None:
        now = format_time(datetime.now(UTC))
        sets = {s["metadata"]["name"]: s for s in (await self.api.list(MANAGED_CLUSTER_SETS)).items}
        for name in MAINTAINED:
            if name not in sets:
                await self._make(name)
            elif (patch := restored(sets[name])) is not None:
                sets[name] = await self.api.patch(MANAGED_CLUSTER_SETS, name, patch)
        bindings = (await self.api.list(MANAGED_CLUSTER_SET_BINDINGS)).items
        known = ClusterSets.parse(sets.values(), bindings)
        facts = []
        for cluster in (await self.api.list(MANAGED_CLUSTERS)).items:
            try:
                facts.append(read_cluster(cluster, None)[0])
            except InvalidObjectError:
                continue
        for name, found in sets.items():
            parsed = known.sets.get(name)
            members = sum(parsed.holds(f) for f in facts) if parsed is not None else 0
            await self._write(MANAGED_CLUSTER_SETS, found, set_status(found, members, now))
        for binding in bindings:
            exists = (binding.get("spec") or {}).get("clusterSet") in sets
            await self._write(MANAGED_CLUSTER_SET_BINDINGS, binding, binding_status(binding, now, exists=exists))

    async def _make(self, name: str) -> None:
        try:
            await self.api.create(MANAGED_CLUSTER_SETS, cluster_set(name))
        except AlreadyExistsError:
            return

    async def _write(self, resource: Resource, obj: Json, conditions: list[Json]) -> None:
        if conditions == ((obj.get("status") or {}).get("conditions") or []):
            return
        meta = obj["metadata"]
        patch = {"metadata": {"uid": meta["uid"]}, "status": {"conditions": conditions}}
        try:
            await self.api.patch(resource, meta["name"], patch, meta.get("namespace"), subresource="status")
        except NotFoundError:
            return
