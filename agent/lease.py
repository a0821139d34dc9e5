"""The sign of life: renews this cluster's Lease on the hub every quarter of its duration.

It waits for nothing else of the agent: not for the link's pauses, not for reports, not for a slow answer (an attempt is
given up after its own short patience). The hub makes the Lease; nothing here creates one, or judges its age by a clock.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from agent.link import HubLink
from agent.waiting import came
from hub.api import names
from hub.api.errors import ConflictError, NotFoundError, QuarterdeckError, UnreachableError
from hub.api.resource import LEASES
from hub.api.timestamps import format_micro_time
from hub.client.backoff import Backoff
from hub.client.interface import KubeApi

_log = logging.getLogger("agent.lease")
DEFAULT_DURATION = 60.0
_RENEWALS_A_DURATION = 4
_LONGEST_PATIENCE = 10.0


class LeaseKeeper:
    """`keep(seconds)` allows renewals for a lease of that duration, `rest()` ends them; `run()` until cancelled."""

    def __init__(
        self,
        hub: KubeApi,
        cluster: str,
        link: HubLink,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_renewed: Callable[[], None] = lambda: None,
    ) -> None:
        self.duration = DEFAULT_DURATION
        self.renewals = 0
        self.failures = 0
        self.on_renewed = on_renewed
        self._hub, self._cluster, self._link, self._now = hub, cluster, link, now
        self._lease: dict[str, Any] | None = None
        self._renewed_at: float | None = None
        self._allowed = asyncio.Event()
        self._wake = asyncio.Event()
        self._said = ""

    @property
    def period(self) -> float:
        return self.duration / _RENEWALS_A_DURATION

    @property
    def age(self) -> float:
        """Seconds since a renewal that arrived was sent; infinite when none has."""
        return math.inf if self._renewed_at is None else asyncio.get_running_loop().time() - self._renewed_at

    def keep(self, duration: float) -> None:
        if duration != self.duration:
            self.duration = duration
            self._wake.set()
        self._allowed.set()

    def rest(self) -> None:
        self._allowed.clear()
        self._lease = None

    def renew_now(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff(0.1, self.period)
        while True:
            await self._allowed.wait()
            self._wake.clear()
            started = loop.time()
            if await self._attempt(started):
                backoff = Backoff(0.1, self.period)
                # Not all agents of a fleet in one moment.
                delay = self.period * random.uniform(0.9, 1.0)
            else:
                backoff.cap = self.period
                delay = backoff.next()
            await came(self._wake, started + delay - loop.time())

    async def _attempt(self, started: float) -> bool:
        try:
            async with asyncio.timeout(min(_LONGEST_PATIENCE, max(1.0, self.period))):
                await self._renew()
        except TimeoutError:
            self._complain("no answer in time")
        except NotFoundError:
            self._lease = None
            self._complain("the hub has made no Lease for this cluster yet")
        except UnreachableError as error:
            self._link.failed(error)
            self._complain(str(error))
        except QuarterdeckError as error:
            self._lease = None
            self._complain(str(error))
        else:
            self._said = ""
            self._renewed_at = started
            self.renewals += 1
            self._link.succeeded()
            self.on_renewed()
            return True
        self.failures += 1
        return False

    async def _renew(self) -> None:
        """One write where the Lease is as we left it; else read and written again."""
        try:
            self._lease = await self._hub.replace(LEASES, self._claimed(self._lease or await self._read()))
        except ConflictError:
            self._lease = await self._hub.replace(LEASES, self._claimed(await self._read()))

    async def _read(self) -> dict[str, Any]:
        return await self._hub.get(LEASES, names.CLUSTER_LEASE, self._cluster)

    def _claimed(self, lease: dict[str, Any]) -> dict[str, Any]:
        spec = dict(lease.get("spec") or {})
        spec["holderIdentity"] = spec.get("holderIdentity") or self._cluster
        spec["renewTime"] = format_micro_time(self._now())
        return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": lease["metadata"], "spec": spec}

    def _complain(self, why: str) -> None:
        # Once for each new reason: an outage lasts for many attempts.
        level = logging.DEBUG if why == self._said else logging.WARNING
        self._said = why
        _log.log(level, "lease not renewed", extra={"fields": {"why": why, "duration": f"{self.duration:g}s"}})
