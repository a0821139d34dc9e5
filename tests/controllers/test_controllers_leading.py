"""Becoming leader: whatever happens to terms meanwhile, who leads ends up deciding, and knows everything before."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from controllers_scene import Scene, until

from hub.client.interface import Page
from hub.controllers.config import Leadership
from hub.controllers.leading import Leading
from hub.controllers.metrics.all import HubMetrics
from hub.controllers.table import JobTable


class Gated:
    """The scene's API; listings wait until the gate is open. `listed` counts those that were begun."""

    def __init__(self, api: Any) -> None:
        self.gate = asyncio.Event()
        self.listed = 0
        self._api = api

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    async def pages(self, *asked: Any, **options: Any) -> AsyncIterator[Page]:
        self.listed += 1
        await self.gate.wait()
        async for page in self._api.pages(*asked, **options):
            yield page


async def test_a_term_that_ends_while_the_api_is_listed_is_followed_by_the_next(scene: Scene) -> None:
    await scene.submit("job")
    now = [100.0]
    api, table, told = Gated(scene.api), JobTable(), list[str]()
    lead = Leading(
        api,
        table,
        HubMetrics().process,
        "one",
        Leadership(lease=15, renewDeadline=10.0, retry=0.02),
        clock=lambda: now[0],
        on_lead=lambda: told.append("leads"),
        on_stand_by=lambda: told.append("stands by"),
    )
    running = asyncio.create_task(lead.elector.run())
    try:
        await until(lambda: lead.elector.term == 1)
        await lead.begin()
        await until(lambda: api.listed == 1)
        for term in (2, 3):
            # Too long without a renewal: the elector stops, and has the Lease again a moment later.
            now[0] += 20.0
            await until(lambda term=term: lead.elector.term == term)
        assert not lead.may_decide()
        assert told == ["stands by", "stands by"]
        api.gate.set()
        await until(lead.may_decide, what="the third term is taken over")
        assert lead.leading.is_set()
        assert told[-1] == "leads"
        assert table.named("FleetJob", "default", "job") is not None
    finally:
        lead.end()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
