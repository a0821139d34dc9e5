"""When each scorer is asked: one loop a scorer, so that none waits for another, and no scorer is asked twice at once.

An asking begins an interval after the last one began, however long that took; a scorer that does not answer is asked
less often. In a fleet that is told of a scorer in one moment each cluster begins a little later than the others, always
by the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from agent.scoring.orders import Order
from hub.asking.answer import ScorerAnswer
from hub.asking.pace import pause
from hub.asking.trouble import ScorerTrouble

_log = logging.getLogger("agent.scoring")
_SPREAD: Final = 2.0
"""Seconds over which the clusters' first askings of one scorer are spread, if its interval is not shorter."""

Ask = Callable[[Order], Awaitable[ScorerAnswer]]
"""Raises `ScorerTrouble`."""
Took = Callable[[Order, ScorerAnswer | ScorerTrouble, float], None]
"""What came of it, and when (the event loop's clock)."""


class Pacing:
    """`follow` what is ordered; `stop` waits until nothing is on its way."""

    def __init__(self, cluster: str, ask: Ask, took: Took) -> None:
        self._cluster, self._ask, self._took = cluster, ask, took
        self._loops: dict[str, tuple[Order, asyncio.Task[None]]] = {}

    async def follow(self, orders: Mapping[str, Order]) -> None:
        """A scorer of which something else is asked is asked that at once; the others keep their pace."""
        ended = [name for name, (order, _) in self._loops.items() if orders.get(name) != order]
        tasks = [self._loops.pop(name)[1] for name in ended]
        for task in tasks:
            task.cancel()
        # Given up before the next begins: nobody hears two questions at once.
        await asyncio.gather(*tasks, return_exceptions=True)
        for name in sorted(orders.keys() - self._loops.keys()):
            order = orders[name]
            self._loops[name] = (order, asyncio.create_task(self._loop(order), name=f"scorer {name}"))

    async def stop(self) -> None:
        await self.follow({})

    async def _loop(self, order: Order) -> None:
        loop = asyncio.get_running_loop()
        begin, failures = loop.time() + offset(self._cluster, order), 0
        while True:
            await asyncio.sleep(max(0.0, begin - loop.time()))
            outcome: ScorerAnswer | ScorerTrouble
            try:
                outcome = await self._ask(order)
            except ScorerTrouble as trouble:
                outcome = trouble
            except Exception:
                _log.exception("asking a scorer failed", extra={"fields": {"scorer": order.scorer}})
                begin = loop.time() + order.interval
                continue
            self._took(order, outcome, loop.time())
            failures = failures + 1 if isinstance(outcome, ScorerTrouble) and outcome.endpoint else 0
            # By the plan, not by the clock: what was late once is not late for ever.
            begin = max(begin + (pause(failures, order.interval) if failures else order.interval), loop.time())


def offset(cluster: str, order: Order) -> float:
    """Seconds by which this cluster begins later, less than a quarter of the interval."""
    digest = hashlib.sha256(f"{cluster}\0{order.scorer}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 * min(_SPREAD, order.interval / 4)
