"""A decision that is on its way while its hub is replaced: refused where it arrives, and the job runs once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from e2e.decisions import Decisions
from e2e.interception import Interception
from e2e.jobs import NAMESPACE, ended, fleet_job, played
from e2e.quarterdeck import Quarterdeck, until
from hub.api import names
from hub.api.resource import FLEET_JOBS
from hub.client.session import Session

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def late(quarterdeck: Quarterdeck) -> Iterator[str]:
    """The name of another hub; afterwards hub-1 is alone again."""
    name = "hub-late"
    yield name
    quarterdeck.processes.kill([name] if name in quarterdeck.processes.names() else [])
    if "hub-1" not in quarterdeck.processes.names():
        quarterdeck.start_hub("hub-1")


async def test_what_a_deposed_leader_had_on_its_way_is_refused(
    quarterdeck: Quarterdeck, api: Session, late: str
) -> None:
    async with Decisions(api) as decisions, Interception(api) as way:
        quarterdeck.start_hub(late, server=way.url)
        await until(lambda: _is(quarterdeck, late, "stands by"), 60, f"{late} stands by")
        # In order: its Lease is free at once.
        quarterdeck.processes.stop("hub-1")
        await until(lambda: _is(quarterdeck, late, "leads"), 30, f"{late} leads")
        way.hold(lambda method, path: method == "POST" and path.endswith("/manifestworks"))
        job = await api.create(FLEET_JOBS, fleet_job("contended", play=played(runs_for="300ms"), tasks=2), NAMESPACE)
        uid = job["metadata"]["uid"]
        async with asyncio.timeout(30):
            await way.held.wait()
        quarterdeck.freeze(late)
        try:
            quarterdeck.start_hub("hub-1")
            status = await ended(api, "contended")
            assert status["phase"] == "Succeeded"
            before = sorted(decisions.made[uid])
            way.release()
            await until(lambda: _answered(way), 30, "the held request is answered")
        finally:
            quarterdeck.thaw(late)
        ((code, text),) = way.answers
        assert code == 422, text
        assert "leads no more" in text
        await until(lambda: _is(quarterdeck, late, "stands by"), 30, f"{late} knows that it leads no more")
        # Neither it nor its successor makes anything more of it.
        assert await _again(api, "contended") == status["tasks"]
        assert sorted(decisions.made[uid]) == before
        assert decisions.problems({uid: 2}) == []
        (work,) = decisions.made[uid].values()
        assert int(work["metadata"]["annotations"][names.TERM]) == max(decisions.terms())
        quarterdeck.processes.kill([late])
    await api.delete(FLEET_JOBS, "contended", NAMESPACE)


async def _is(quarterdeck: Quarterdeck, hub: str, state: str) -> bool:
    return await asyncio.to_thread(quarterdeck.state, hub) == state


async def _answered(way: Interception) -> bool:
    return bool(way.answers)


async def _again(api: Session, name: str) -> object:
    await asyncio.sleep(2.0)
    return (await api.get(FLEET_JOBS, name, NAMESPACE))["status"]["tasks"]
