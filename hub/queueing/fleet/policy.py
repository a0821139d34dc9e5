"""How the fleet's queue treats those who run when others are entitled to what they have: a value in the snapshot.

Reading it from the hub's configuration is not here; what it means is in docs/queues.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.queueing.kueue.settings import Strategy


@dataclass(frozen=True, slots=True)
class FleetPolicy:
    """Times are seconds.

    `strategies`: Kueue's rules for taking from queues that borrow more; empty: no fair sharing, as in Kueue. Nobody is
    preempted before it ran for `minimum_runtime`, nor more often than `budget` times (None: no bound). `notice`: how
    long a victim may still run after it was told. `backfill`: whether what a blocked job will need may be used until
    then; what has no expected duration lets it wait `protect_after` at most before all that it needs is kept for it
    (None: never).
    """

    strategies: tuple[Strategy, ...] = ()
    minimum_runtime: float = 0.0
    budget: int | None = 10
    notice: float = 30.0
    protect_after: float | None = 600.0
    backfill: bool = True

    @property
    def fair(self) -> bool:
        return bool(self.strategies)
