"""Joining, staying, being sent away and coming back; the Lease that nothing may hold up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from agent_fakes import FakeApi, invalid, until
from agent_site import FACTS, FakeSite, accept, condition, deny, set_condition

from agent.lease import LeaseKeeper
from agent.link import HubLink
from agent.registration import KEPT_LABELS, Registration
from hub.api import names
from hub.api.errors import ApiError, NotFoundError
from hub.api.resource import LEASES, MANAGED_CLUSTERS
from hub.client.backoff import Backoff

NAME = "edge-1"
JOINED, AVAILABLE = "ManagedClusterJoined", "ManagedClusterConditionAvailable"


class Joined:
    """A registration and a lease keeper, running against one hub."""

    def __init__(self, hub: FakeApi, site: FakeSite, **options: Any) -> None:
        self.hub, self.site = hub, site
        self.link = HubLink(Backoff(0.01, 0.05))
        self.lease = LeaseKeeper(hub, NAME, self.link)
        self.told: list[bool] = []
        self.registration = Registration(
            hub,
            site,
            cluster=NAME,
            link=self.link,
            lease=self.lease,
            on_accepted=self.told.append,
            **{"rejoin_seconds": 0.1, "health_seconds": 0.05, "health_patience": 0.2, **options},
        )
        self._tasks = [asyncio.create_task(self.registration.run()), asyncio.create_task(self.lease.run())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def cluster(self) -> dict[str, Any]:
        return self.hub.peek(MANAGED_CLUSTERS, NAME) or {}

    @property
    def lease_writes(self) -> int:
        return len([entry for entry in self.hub.writes("Lease") if entry[0] == "replace"])

    def status_writes(self) -> int:
        return len(self.hub.writes("ManagedCluster", "status"))


Start = Callable[..., Joined]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    running: list[Joined] = []

    def make(hub: FakeApi | None = None, site: FakeSite | None = None, **options: Any) -> Joined:
        running.append(Joined(hub or FakeApi(), site or FakeSite(), **options))
        return running[-1]

    yield make
    for joined in running:
        await joined.stop()


async def join(joined: Joined, **options: Any) -> Joined:
    await until(lambda: joined.cluster, what="ManagedCluster created")
    await accept(joined.hub, NAME, **options)
    await until(lambda: condition(joined.hub, NAME, AVAILABLE) == "True", what="available")
    return joined


async def test_it_asks_to_join_waits_and_reports_once_it_is_accepted(start: Start) -> None:
    joined = start()
    await until(lambda: joined.cluster)
    assert joined.cluster["metadata"]["labels"] == {"region": "north"}
    assert joined.cluster["spec"] == {}
    await asyncio.sleep(0.1)
    assert joined.registration.state == "waiting"
    assert joined.status_writes() == 0
    await join(joined)
    assert joined.told == [True]
    assert joined.registration.accepted.is_set()
    status = joined.cluster["status"]
    assert {key: status[key] for key in FACTS} == FACTS
    assert {(c["type"], c["status"], c["reason"]) for c in status["conditions"]} == {
        ("HubAcceptedManagedCluster", "True", "HubClusterAdminAccepted"),
        (JOINED, "True", "ManagedClusterJoined"),
        (AVAILABLE, "True", "ManagedClusterAvailable"),
    }
    assert joined.status_writes() == 1


async def test_nothing_is_written_when_nothing_changed(start: Start) -> None:
    joined = await join(start())
    before = len(joined.hub.writes("ManagedCluster"))
    for _ in range(5):
        joined.site.change()
        joined.lease.renew_now()
        await asyncio.sleep(0.03)
    assert len(joined.hub.writes("ManagedCluster")) == before
    again = start(joined.hub, joined.site)
    await until(lambda: again.told == [True])
    await asyncio.sleep(0.2)
    assert len(joined.hub.writes("ManagedCluster")) == before


async def test_what_changes_is_written_and_what_is_gone_is_taken_out(start: Start) -> None:
    joined = await join(start())
    joined.site.facts = {**FACTS, "capacity": {"cpu": "8"}, "clusterClaims": []}
    joined.site.change()
    await until(lambda: joined.cluster["status"]["capacity"] == {"cpu": "8"})
    assert joined.cluster["status"]["clusterClaims"] == []
    assert joined.cluster["status"]["allocatable"] == FACTS["allocatable"]


async def test_labels_of_the_site_are_kept_and_others_left_alone(start: Start) -> None:
    joined = await join(start())

    def relabel(obj: dict[str, Any]) -> None:
        obj["metadata"]["labels"] = {"region": "south", "tier": "gold"}

    joined.hub.edit(MANAGED_CLUSTERS, NAME, "", relabel)
    await until(lambda: joined.cluster["metadata"]["labels"] == {"region": "north", "tier": "gold"})
    await joined.stop()
    joined.site.labels = {"zone": "a"}
    again = start(joined.hub, joined.site)
    await until(lambda: again.cluster["metadata"]["labels"] == {"zone": "a", "tier": "gold"})
    assert again.cluster["metadata"]["annotations"][KEPT_LABELS] == "zone"


async def test_denied_takes_no_work_and_no_lease_and_comes_back_when_allowed(start: Start) -> None:
    joined = await join(start(), lease_seconds=1)
    await until(lambda: joined.lease_writes > 1)
    deny(joined.hub, NAME)
    await until(lambda: joined.told == [True, False])
    assert joined.registration.state == "denied"
    assert not joined.registration.accepted.is_set()
    await asyncio.sleep(0.05)
    before = joined.lease_writes
    await asyncio.sleep(0.6)
    assert joined.lease_writes == before
    await accept(joined.hub, NAME, lease_seconds=1)
    await until(lambda: joined.told == [True, False, True])
    await until(lambda: joined.lease_writes > before)


async def test_deleted_on_the_hub_it_joins_again_after_a_while(start: Start) -> None:
    joined = await join(start(), lease_seconds=1)
    first = joined.cluster["metadata"]["uid"]
    await joined.hub.delete(MANAGED_CLUSTERS, NAME)
    await until(lambda: joined.told == [True, False])
    assert joined.registration.state == "absent"
    assert not joined.cluster
    await until(lambda: joined.cluster and joined.cluster["metadata"]["uid"] != first, what="created anew")
    await join(joined)
    assert joined.told == [True, False, True]


async def test_while_it_is_being_deleted_the_lease_goes_on_but_no_work_is_taken(start: Start) -> None:
    joined = await join(start(), lease_seconds=1)
    joined.hub.edit(MANAGED_CLUSTERS, NAME, "", lambda obj: obj["metadata"].update(finalizers=["x/cleanup"]))
    await joined.hub.delete(MANAGED_CLUSTERS, NAME)
    await until(lambda: joined.registration.state == "deleting")
    assert joined.told == [True, False]
    before = joined.lease_writes
    await until(lambda: joined.lease_writes > before + 1)


async def test_a_hub_that_is_away_at_the_start_is_joined_when_it_comes(start: Start) -> None:
    hub = FakeApi()
    hub.cut()
    joined = start(hub)
    await asyncio.sleep(0.3)
    assert joined.registration.state == "unknown"
    hub.heal()
    await join(joined)


async def test_cut_off_and_back_it_shows_life_before_it_claims_to_be_available(start: Start) -> None:
    joined = await join(start())
    joined.hub.cut()
    await asyncio.sleep(0.2)

    def lost(obj: dict[str, Any]) -> None:
        set_condition(obj, AVAILABLE, "Unknown", "ManagedClusterLeaseUpdateStopped")

    joined.hub.edit(MANAGED_CLUSTERS, NAME, "", lost)
    mark = len(joined.hub.log)
    joined.hub.refuse = lambda verb, kind, obj: invalid("not now") if kind == "Lease" else None
    joined.hub.heal()
    await until(lambda: joined.lease.failures > 1)
    joined.site.change()
    await asyncio.sleep(0.2)
    assert condition(joined.hub, NAME, AVAILABLE) == "Unknown"
    joined.hub.refuse = lambda verb, kind, obj: None
    await until(lambda: condition(joined.hub, NAME, AVAILABLE) == "True")
    kinds = [kind for _, kind, _, _ in joined.hub.log[mark:]]
    assert kinds == ["Lease", "ManagedCluster"]


async def test_an_api_of_its_own_that_does_not_answer_makes_it_unavailable(start: Start) -> None:
    joined = await join(start())
    joined.site.answers.clear()
    await until(lambda: condition(joined.hub, NAME, AVAILABLE) == "False")
    assert joined.registration.healthy is False
    joined.site.answers.set()
    await until(lambda: condition(joined.hub, NAME, AVAILABLE) == "True")


async def test_a_condition_that_the_hub_writes_meanwhile_is_not_lost(start: Start) -> None:
    joined = await join(start())
    raced = []

    def race(verb: str, kind: str, obj: dict[str, Any]) -> ApiError | None:
        if verb == "patch" and kind == "ManagedCluster" and not raced:
            raced.append(1)
            joined.hub.edit(
                MANAGED_CLUSTERS,
                NAME,
                "",
                lambda o: set_condition(o, "ManagedClusterConditionClockSynced", "True", "X"),
            )
        return None

    joined.hub.refuse = race
    joined.site.answers.clear()
    await until(lambda: condition(joined.hub, NAME, AVAILABLE) == "False")
    assert raced
    assert condition(joined.hub, NAME, "ManagedClusterConditionClockSynced") == "True"


async def test_a_refusal_is_said_and_tried_again_later(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    hub = FakeApi()
    hub.refuse = lambda verb, kind, obj: invalid("no such cluster allowed") if verb == "create" else None
    joined = start(hub)
    await until(lambda: "refuses" in caplog.text)
    assert "no such cluster allowed" in str([getattr(r, "fields", "") for r in caplog.records])
    hub.refuse = lambda verb, kind, obj: None
    await until(lambda: joined.cluster, seconds=3)


async def test_leaving_in_order_asks_for_no_more_work(start: Start) -> None:
    joined = await join(start())
    await joined.registration.leave()
    assert condition(joined.hub, NAME, AVAILABLE) == "False"
    joined.site.change()
    await asyncio.sleep(0.1)
    assert condition(joined.hub, NAME, AVAILABLE) == "False"


class SlowHub(FakeApi):
    """Everything takes long but what is about Leases."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    async def patch(self, resource: Any, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(self.seconds)
        return await super().patch(resource, *args, **kwargs)

    async def create(self, resource: Any, *args: Any, **kwargs: Any) -> Any:
        if resource != LEASES:
            await asyncio.sleep(self.seconds if self.objects else 0)
        return await super().create(resource, *args, **kwargs)


async def test_the_lease_is_renewed_while_everything_else_is_slow(start: Start) -> None:
    hub = SlowHub(0.0)
    joined = await join(start(hub), lease_seconds=1)
    hub.seconds = 30.0
    joined.site.facts = {**FACTS, "version": {"kubernetes": "v2"}}
    joined.site.change()
    joined.link.failed(NotFoundError(404, {}))
    before, loop = joined.lease_writes, asyncio.get_running_loop()
    started = loop.time()
    await until(lambda: joined.lease_writes >= before + 4)
    spent = loop.time() - started
    assert 0.25 * 4 * 0.7 < spent < 0.25 * 4 * 4
    assert joined.lease.age < 1.0


async def test_renewing_is_one_write_and_no_read(start: Start) -> None:
    joined = await join(start(), lease_seconds=1)
    await until(lambda: joined.lease_writes > 0)
    reads = []
    original = joined.hub.get

    async def get(resource: Any, *args: Any, **kwargs: Any) -> Any:
        reads.append(resource.kind)
        return await original(resource, *args, **kwargs)

    joined.hub.get = get  # type: ignore[method-assign]
    before = joined.lease_writes
    await until(lambda: joined.lease_writes > before + 2)
    assert reads == []
    joined.hub.edit(LEASES, names.CLUSTER_LEASE, NAME, lambda obj: obj["metadata"].update(labels={"a": "b"}))
    before = joined.lease_writes
    await until(lambda: joined.lease_writes > before + 1)
    assert reads == ["Lease"]
    assert joined.lease.failures == 0
    lease = joined.hub.peek(LEASES, names.CLUSTER_LEASE, NAME)
    assert lease is not None
    assert lease["metadata"]["labels"] == {"a": "b"}
    assert lease["spec"]["leaseDurationSeconds"] == 1


async def test_a_lease_that_the_hub_makes_late_is_found(start: Start) -> None:
    joined = start()
    await until(lambda: joined.cluster)
    await accept(joined.hub, NAME, lease=False)
    await asyncio.sleep(0.3)
    assert joined.lease.renewals == 0
    await accept(joined.hub, NAME)
    await until(lambda: joined.lease.renewals > 0)


async def test_a_renewal_that_hangs_is_given_up(start: Start) -> None:
    joined = await join(start(), lease_seconds=1)
    await until(lambda: joined.lease_writes > 0)
    hung = asyncio.Event()
    original = joined.hub.replace

    async def replace(*args: Any, **kwargs: Any) -> Any:
        if not hung.is_set():
            hung.set()
            await asyncio.sleep(3600)
        return await original(*args, **kwargs)

    joined.hub.replace = replace  # type: ignore[method-assign]
    await asyncio.wait_for(hung.wait(), 2)
    before = joined.lease_writes
    await until(lambda: joined.lease_writes > before, seconds=3)
    assert joined.lease.failures == 1


async def test_the_link_is_freed_by_a_renewal() -> None:
    hub, link = FakeApi(), HubLink(Backoff(30.0, 60.0))
    await hub.create(MANAGED_CLUSTERS, {"metadata": {"name": NAME}})
    await accept(hub, NAME)
    link.failed(NotFoundError(404, {}))
    assert link.pause > 10
    lease = LeaseKeeper(hub, NAME, link)
    lease.keep(60.0)
    task = asyncio.create_task(lease.run())
    try:
        await asyncio.wait_for(link.ready(), 1)
        assert link.up
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
