"""A decision goes with its last reference: with ten thousand jobs it is megabytes, and a collector comes late."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest
from fleet_objects import demand, fleet, open_queue, queue, site, snapshot

from hub.planner.backlog import Heads
from hub.planner.cycle import Cycle
from hub.planner.kueue import KueuePlanner
from hub.planner.plan import Plan, Snapshot
from hub.queueing.kueue.settings import Settings
from hub.scoring.builtin import default_scorers


def crowded() -> Snapshot:
    """Some start, some are promised a place, some wait for quota, many for room."""
    jobs = [demand(f"job{n:02}", created=float(n)) for n in range(40)]
    poor = [demand(f"poor{n}", queue="poor", created=float(n)) for n in range(5)]
    objects = [*open_queue(), *queue("poor", ("default", {"cpu": 1}))]
    big = demand("big", tasks=12, gang=True, created=0.5, expected=60.0)
    return snapshot(fleet(site("a", cpu=8), site("b", cpu=8)), objects, big, *jobs, *poor, scorers=default_scorers())


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_a_cycle_goes_with_its_last_reference(uncollected: None) -> None:
    cycle = Cycle(crowded())
    cycle.run()
    assert cycle.plan().refusals
    gone = weakref.ref(cycle)
    del cycle
    assert gone() is None


@pytest.mark.parametrize("planner", [Heads().plan, KueuePlanner(Settings()).plan], ids=["fleet", "kueue"])
def test_planning_again_and_again_leaves_no_garbage(uncollected: None, planner: Callable[[Snapshot], Plan]) -> None:
    before = crowded()
    planner(before)
    gc.collect()
    for _ in range(3):
        assert planner(before).refusals
    assert gc.collect() == 0
