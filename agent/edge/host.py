"""What a Job or Pod of a site needs of the site: its machinery, its nodes, its API. A value that is handed around."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.edge.configs import Configs
from agent.edge.images import Images
from agent.edge.nodes import Nodes
from agent.edge.starter import Starter
from agent.edge.task import Machinery
from hub.api import names
from hub.api.quantity import Quantity
from hub.client.interface import KubeApi
from hub.client.patcher import Patcher

# A status is written this long after something has begun: what ends within it costs no write of its own.
SETTLE: Final = 0.01
# Later changes of one object are at least this far apart; its end is written at once.
INTERVAL: Final = 0.25


@dataclass(slots=True)
class Host:
    """`draining`: the site is being stopped; nothing new is started."""

    machinery: Machinery
    nodes: Nodes
    starter: Starter
    images: Images
    api: KubeApi
    patcher: Patcher
    configs: Configs
    simulated: bool
    host_ip: str
    on_use: Callable[[], None] = lambda: None
    draining: bool = False
    _order: int = 0
    _allocatable: dict[str, Mapping[str, Quantity]] = field(default_factory=dict)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def next_order(self) -> int:
        self._order += 1
        return self._order

    def now(self) -> float:
        return self.machinery.now()

    def allocatable(self, node: str) -> Mapping[str, Quantity]:
        """Of one node, for the downward API."""
        found = self._allocatable.get(node)
        if found is None:
            group = self.nodes[node].group
            found = {"cpu": Quantity.from_nano(group.cpu * 10**6), "memory": Quantity(group.memory)}
            if group.gpus is not None:
                found[names.GPU] = Quantity(group.gpus.count)
            self._allocatable[node] = found
        return found
