"""The Lease elector, with both clocks in the test's hands: two hubs, one Lease, never two leaders."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hub.api.resource import LEASES
from hub.client.elector import Elector
from tests.agent.agent_fakes import FakeApi


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
async def lease_api() -> FakeApi:
    api = FakeApi()
    from hub.api.resource import NAMESPACES

    await api.create(NAMESPACES, {"metadata": {"name": "hubs"}})
    return api


def elector(api: FakeApi, name: str, clock: Clock, wall: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> Elector:
    return Elector(api, "hubs", "hub", name, clock=clock, now=lambda: wall)


async def test_the_first_leads_and_the_second_waits(lease_api: FakeApi) -> None:
    clock = Clock()
    one, two = elector(lease_api, "one", clock), elector(lease_api, "two", clock)
    await one.step()
    await two.step()
    assert (one.is_leader, two.is_leader) == (True, False)
    assert two.holder == "one"
    assert one.term == 1


async def test_a_silent_leader_is_followed_only_after_its_lease_by_the_standbys_own_clock(lease_api: FakeApi) -> None:
    clock = Clock()
    # The standby's wall clock is a day ahead: it must not matter.
    one = elector(lease_api, "one", clock)
    two = elector(lease_api, "two", clock, datetime(2026, 1, 2, tzinfo=UTC))
    await one.step()
    await two.step()
    clock.seconds += 14.0
    await two.step()
    assert not two.is_leader
    assert not one.is_leader, "a leader that did not renew for its deadline stops before another may start"
    clock.seconds += 2.0
    await two.step()
    assert two.is_leader
    assert two.term == 2


async def test_a_deposed_leader_notices_and_does_not_write_over_its_successor(lease_api: FakeApi) -> None:
    clock = Clock()
    one, two = elector(lease_api, "one", clock), elector(lease_api, "two", clock)
    await one.step()
    await two.step()
    clock.seconds += 16.0
    await two.step()
    await one.step()
    lease = lease_api.peek(LEASES, "hub", "hubs")
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == "two"
    assert (one.is_leader, two.is_leader) == (False, True)


async def test_renewals_keep_the_term_and_a_release_hands_over_at_once(lease_api: FakeApi) -> None:
    clock = Clock()
    started: list[int] = []
    one = Elector(lease_api, "hubs", "hub", "one", clock=clock, on_started=started.append)
    two = elector(lease_api, "two", clock)
    for _ in range(3):
        await one.step()
        clock.seconds += 5.0
    assert (one.term, started) == (1, [1])
    await one._release()
    assert not one.is_leader
    await two.step()
    assert two.is_leader


async def test_a_restarted_hub_of_the_same_name_begins_a_new_term(lease_api: FakeApi) -> None:
    clock = Clock()
    await elector(lease_api, "one", clock).step()
    again = elector(lease_api, "one", clock)
    await again.step()
    assert again.is_leader
    assert again.term == 2


async def test_a_standby_looks_again_when_the_lease_that_it_saw_expires_and_not_a_period_later(
    lease_api: FakeApi,
) -> None:
    clock = Clock()
    one, two = elector(lease_api, "one", clock), elector(lease_api, "two", clock)
    assert two._pause() == 2.0, "nothing is seen yet"
    await one.step()
    await two.step()
    assert two._pause() == 2.0
    clock.seconds += 14.5
    assert two._pause() == pytest.approx(0.51)
    assert one._pause() == 2.0, "a leader renews as always"
    clock.seconds += two._pause()
    await two.step()
    assert two.is_leader


def test_periods_that_cannot_work_are_refused(lease_api: FakeApi) -> None:
    with pytest.raises(ValueError, match="renew_deadline"):
        Elector(lease_api, "hubs", "hub", "one", lease_duration=5, renew_deadline=10.0)
