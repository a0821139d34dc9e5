"""What this cluster can run, as the hub plans with it: its ClusterCapacity, written when it changes and not otherwise.

What the capacity is, the local cluster says; nothing here counts. A deleted or edited object is put right at the next
look, which comes every few minutes and whenever the hub accepts this cluster anew.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from agent.link import TRANSIENT, HubLink
from agent.local import LocalCluster
from agent.waiting import came
from hub.api.errors import AlreadyExistsError, NotFoundError, QuarterdeckError
from hub.api.mergepatch import create_merge_patch
from hub.api.resource import CLUSTER_CAPACITIES
from hub.api.timestamps import format_time
from hub.client.backoff import Backoff
from hub.client.interface import KubeApi

Json = dict[str, Any]
_log = logging.getLogger("agent.capacity")
_LOOK_SECONDS = 300.0


class CapacityReporter:
    """`run()` until cancelled; it writes while `accepted` is set. `interval`: least seconds between two writes."""

    def __init__(
        self,
        hub: KubeApi,
        local: LocalCluster,
        *,
        cluster: str,
        link: HubLink,
        accepted: asyncio.Event,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        interval: float = 2.0,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self.writes = 0
        self._hub, self._local, self._cluster, self._link = hub, local, cluster, link
        self._accepted, self._now = accepted, now
        self._interval, self._look_seconds = interval, look_seconds
        # The status as last seen on the hub: None when it is to be read, empty when there is no such object.
        self._known: Json | None = None
        self._asked: tuple[Json, Json] | None = None
        self._refused = Backoff(1.0, 120.0)
        self._absent = Backoff(0.2, 120.0)
        self._wake = asyncio.Event()
        local.on_capacity_change(self._wake.set)

    def look_again(self) -> None:
        """What is on the hub may have changed without us: read it before the next comparison."""
        self._known = None
        self._wake.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        next_look = 0.0
        while True:
            await self._accepted.wait()
            if loop.time() >= next_look:
                self._known = None
                next_look = loop.time() + self._look_seconds * random.uniform(0.8, 1.2)
            self._wake.clear()
            wrote, retry = await self._pass()
            if wrote or retry:
                await asyncio.sleep(retry or self._interval)
                await self._link.ready()
            if not retry:
                await came(self._wake, next_look - loop.time())

    async def _pass(self) -> tuple[bool, float]:
        """Whether something was written, and after how many seconds to try again (0: not before a change)."""
        try:
            wrote = await self._write()
        except TRANSIENT as error:
            self._link.failed(error)
            self._known = None
            return False, 0.05
        except NotFoundError:
            # Gone in between; or the namespace is not there yet; or the hub does not know the kind at all.
            self._known = None
            return False, self._absent.next()
        except QuarterdeckError as error:
            self._known = None
            delay = self._refused.next()
            fields = {"cluster": self._cluster, "why": error, "again_in": f"{delay:.0f}s", "hint": error.hint}
            _log.error("capacity not written", extra={"fields": fields})
            return False, delay
        self._refused.reset()
        self._absent.reset()
        return wrote, 0.0

    async def _write(self) -> bool:
        wanted = self._local.capacity()
        if not wanted:
            return False
        if self._known is None:
            self._known = await self._read()
        if _plain(wanted) == _plain(self._known) or self._asked == (wanted, self._known):
            return False
        status = {**wanted, "observedTime": format_time(self._now())}
        answer = await (self._patch(status) if self._known else self._create(status))
        self.writes += 1
        self._link.succeeded()
        self._known = answer.get("status") or {}
        self._asked = (wanted, self._known)
        return True

    async def _read(self) -> Json:
        try:
            found = await self._hub.get(CLUSTER_CAPACITIES, self._cluster, self._cluster)
        except NotFoundError:
            return {}
        return found.get("status") or {}

    async def _create(self, status: Json) -> Json:
        body = {
            "apiVersion": CLUSTER_CAPACITIES.api_version,
            "kind": CLUSTER_CAPACITIES.kind,
            "metadata": {"name": self._cluster, "namespace": self._cluster},
            "status": status,
        }
        try:
            return await self._hub.create(CLUSTER_CAPACITIES, body, self._cluster)
        except AlreadyExistsError:
            self._known = await self._read()
            return await self._patch(status)

    async def _patch(self, status: Json) -> Json:
        patch = create_merge_patch(self._known or {}, status) or {}
        return await self._hub.patch(CLUSTER_CAPACITIES, self._cluster, {"status": patch}, self._cluster)


def _plain(status: Mapping[str, Any]) -> Any:
    """A status as it compares: without the time, and without the empty members that a server may fill in."""
    return _filled({key: value for key, value in status.items() if key != "observedTime"})


def _filled(value: Any) -> Any:
    if isinstance(value, Mapping):
        members = {key: _filled(member) for key, member in value.items()}
        return {key: member for key, member in members.items() if member not in (None, False, "", [], {})}
    if isinstance(value, list):
        return [_filled(member) for member in value]
    return value
