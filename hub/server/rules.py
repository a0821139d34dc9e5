"""By which rules a hub decides about its queue: its configuration as the values that decisions read."""

from __future__ import annotations

from dataclasses import dataclass, field

from hub.jobs.limits import PodsReady
from hub.queueing.fleet.policy import FleetPolicy
from hub.queueing.kueue.settings import Settings


@dataclass(frozen=True, slots=True)
class Rules:
    """`policy` is mode fleet's, `settings` mode kueue's. `ready` None: nobody waits for tasks to be up."""

    policy: FleetPolicy = field(default_factory=FleetPolicy)
    ready: PodsReady | None = None
    settings: Settings = field(default_factory=Settings)
    kueue: bool = False
