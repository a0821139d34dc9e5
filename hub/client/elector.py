"""Leader election by a Lease: at most one hub decides.

A standby never compares clocks with the leader: it measures by its own monotonic clock how long the Lease has not
changed. A leader counts from before it sent its last renewal that arrived, and stops before a standby may start. Every
term has a number that only grows (`leaseTransitions`), so that whoever receives a write can tell an old leader's. What
it does not do: stop the work itself; ask `is_leader`, or use the callbacks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from hub.api.errors import ApiError, NotFoundError, QuarterdeckError, UnreachableError
from hub.api.resource import LEASES
from hub.api.timestamps import format_micro_time
from hub.client.interface import KubeApi, Object

_log = logging.getLogger(__name__)
_JUST_AFTER: Final = 0.01


class Elector:
    """`identity` must be unique to the process. Times in seconds; `renew_deadline` < `lease_duration`."""

    def __init__(
        self,
        api: KubeApi,
        namespace: str,
        name: str,
        identity: str,
        *,
        lease_duration: int = 15,
        renew_deadline: float = 10.0,
        retry_period: float = 2.0,
        on_started: Callable[[int], None] | None = None,
        on_stopped: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if not retry_period < renew_deadline < lease_duration:
            raise ValueError("retry_period < renew_deadline < lease_duration must hold")
        self.identity = identity
        # What the Lease says beside who leads, as long as we do.
        self.annotations: Mapping[str, str] = {}
        self.holder = ""
        self.term = 0
        self._api, self._namespace, self._name = api, namespace, name
        self._duration, self._deadline, self._period = lease_duration, renew_deadline, retry_period
        self._on_started, self._on_stopped = on_started, on_stopped
        self._clock, self._now = clock, now
        self._leading = False
        self._renewed = 0.0
        self._seen: tuple[Any, ...] = ()
        self._seen_at = self._seen_for = 0.0

    @property
    def is_leader(self) -> bool:
        """False from the moment on when another may lead, even while a renewal hangs."""
        return self._leading and self._clock() - self._renewed < self._deadline

    @property
    def renewed_at(self) -> float:
        """On `clock`: when the last renewal that arrived was sent. Who leads and hears the API renews all the time."""
        return self._renewed

    async def run(self) -> None:
        """Until cancelled; then releases the Lease, so that a standby need not wait for it to expire."""
        try:
            while True:
                limit = self._renewed + self._deadline - self._clock() if self._leading else self._deadline
                try:
                    # Not wait_for: up to Python 3.11 it may lose a cancellation.
                    async with asyncio.timeout(max(min(limit, self._deadline / 2), 0.001)):
                        await self.step()
                except TimeoutError:
                    _log.warning("no answer about Lease %s in time", self._name)
                except QuarterdeckError as error:
                    _log.warning("Lease %s: %s", self._name, error)
                self._check_deadline()
                await asyncio.sleep(self._pause())
                self._check_deadline()
        finally:
            await self._release()

    def _pause(self) -> float:
        """Until the next look: a standby's is at the latest the moment at which the Lease it saw has expired."""
        left = self._seen_at + self._seen_for - self._clock()
        if self._leading or not self._seen or left <= 0:
            return self._period
        return min(self._period, left + _JUST_AFTER)

    async def step(self) -> None:
        """One look at the Lease, and at most one write. Raises what the API raises."""
        started = self._clock()
        try:
            lease = await self._api.get(LEASES, self._name, self._namespace)
        except NotFoundError:
            metadata = {"name": self._name, "namespace": self._namespace}
            lease = await self._api.create(LEASES, self._claim({"metadata": metadata}, 1), self._namespace)
            self._take(lease, started)
            return
        spec = lease.get("spec") or {}
        holder, transitions = spec.get("holderIdentity") or "", int(spec.get("leaseTransitions") or 0)
        seen = (holder, transitions, spec.get("renewTime"), lease["metadata"].get("resourceVersion"))
        if seen != self._seen:
            self._seen, self._seen_at, self.holder = seen, self._clock(), holder
        mine = holder == self.identity and self.is_leader and transitions == self.term
        self._seen_for = float(spec.get("leaseDurationSeconds") or self._duration)
        expired = self._clock() - self._seen_at > self._seen_for
        # Our own name on a Lease that we do not lead is our past, not a rival: a new term, without waiting.
        if not (mine or not holder or holder == self.identity or expired):
            self._stop("another leads")
            return
        claimed = self._claim(lease, transitions if mine else transitions + 1)
        self._take(await self._api.replace(LEASES, claimed), started)

    def _claim(self, lease: Object, term: int) -> Object:
        moment = format_micro_time(self._now())
        spec = {
            **(lease.get("spec") or {}),
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self._duration,
            "renewTime": moment,
            "leaseTransitions": term,
        }
        if term != self.term or "acquireTime" not in spec:
            spec["acquireTime"] = moment
        meta = lease["metadata"]
        if self.annotations:
            meta = {**meta, "annotations": {**(meta.get("annotations") or {}), **self.annotations}}
        return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": meta, "spec": spec}

    def _take(self, lease: Object, started: float) -> None:
        term = int(lease["spec"]["leaseTransitions"])
        if self._leading and term != self.term:
            self._stop("its term ended")
        self._renewed, self.holder = started, self.identity
        if not self._leading and self._clock() - started < self._deadline:
            self._leading, self.term = True, term
            _log.info("%s leads, term %d", self.identity, term)
            if self._on_started is not None:
                self._on_started(term)

    def _check_deadline(self) -> None:
        if self._leading and not self.is_leader:
            self._stop(f"the Lease was not renewed for {self._deadline:g} s")

    def _stop(self, why: str) -> None:
        if not self._leading:
            return
        self._leading = False
        _log.warning("%s leads no more: %s", self.identity, why)
        if self._on_stopped is not None:
            self._on_stopped()

    async def _release(self) -> None:
        led = self.is_leader
        self._stop("stopping")
        if not led:
            return
        try:
            async with asyncio.timeout(self._deadline / 2):
                lease = await self._api.get(LEASES, self._name, self._namespace)
                if (lease.get("spec") or {}).get("holderIdentity") == self.identity:
                    lease["spec"] |= {"holderIdentity": "", "renewTime": format_micro_time(self._now())}
                    await self._api.replace(LEASES, lease)
        except (ApiError, UnreachableError, TimeoutError) as error:
            _log.warning("Lease %s was not released: %s; it will expire", self._name, error)
