"""What is kept for a blocked job, what may pass it meanwhile, and when the hub must look again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fleet_objects import carry_out, demand, fleet, open_queue, shape, site, snapshot

from hub.api.indexset import IndexSet
from hub.fleet.changes import Charge, Release
from hub.planner.cycle import plan
from hub.planner.plan import HeldSlice, Plan, Snapshot
from hub.queueing.demand import Demand, TaskGroup
from hub.queueing.fleet.policy import FleetPolicy

NOW = 10_000.0


def runs(name: str, slots: int, *, ends_in: float | None, cluster: str = "x", since: float = 100.0) -> HeldSlice:
    expected = None if ends_in is None else since + ends_in
    return HeldSlice(
        key=f"default/{name}",
        uid=f"uid-{name}",
        work=f"work-{name}",
        epoch=1,
        cluster=cluster,
        queue="q",
        priority=0,
        created=0.0,
        admitted=NOW - since,
        shape=shape(),
        slots=slots,
        amounts=((("default", "cpu"), 1000 * slots),),
        expected=expected,
    )


def gang(name: str, tasks: int, **fields: Any) -> Demand:
    return demand(name, tasks=tasks, gang=True, **({"created": NOW - 10.0, "priority": 5} | fields))


def small(name: str, seconds: float | None, **fields: Any) -> Demand:
    return demand(name, expected=seconds, **({"created": NOW} | fields))


def scene(cpus: int, running: list[HeldSlice], *waiting: Demand, **policy: Any) -> Snapshot:
    """One cluster of `cpus`, and quota without end."""
    sites = fleet(site("x", nodes=cpus, cpu=1))
    sites = sites.apply([Charge(one.work, one.cluster, one.shape, one.slots) for one in running])
    used: dict[tuple[str, str], int] = {}
    for one in running:
        for key, amount in one.amounts:
            used[key] = used.get(key, 0) + amount
    before = snapshot(sites, open_queue(), *waiting, usage={"q": used}, held=tuple(running))
    return replace(before, now=NOW, policy=FleetPolicy(**policy))


def started(decided: Plan) -> set[str]:
    return {entry.key.partition("/")[2] for entry in decided.admissions}


def reasons(decided: Plan) -> dict[str, str]:
    return {entry.key.partition("/")[2]: entry.reason.code for entry in decided.refusals}


def test_who_ends_in_time_may_pass_a_blocked_gang() -> None:
    """Four of seven run for 60 s more; six are to start then."""
    waiting = [gang("big", 6), small("short", 50.0), small("long", 70.0), small("unknown", None)]
    decided = plan(scene(7, [runs("r", 4, ends_in=60.0)], *waiting))
    # One place is left over when the gang starts: the oldest of those that would still be there gets it.
    assert started(decided) == {"short", "long"}
    assert reasons(decided) == {"big": "WaitingForCapacity", "unknown": "KeptForOthers"}
    said = next(entry.message for entry in decided.refusals if entry.key == "default/unknown")
    assert said == "what it needs is kept for default/big, entitled to it before"


def test_the_gang_starts_when_it_was_to() -> None:
    """Whoever passes it does not delay it: carried out, and 60 s later, it starts."""
    waiting = [gang("big", 5), *(small(f"s{n}", 55.0) for n in range(9)), *(small(f"l{n}", None) for n in range(9))]
    before = scene(6, [runs("r", 4, ends_in=60.0)], *waiting)
    decided = plan(before)
    after = carry_out(before, decided)
    in_time = {entry.key.removeprefix("default/") for entry in decided.admissions if entry.key.startswith("default/s")}
    assert in_time
    gone = [work for work in after.fleet.charges if work == "work-r" or work.split("-")[1] in in_time]
    free = after.fleet.apply([Release(work) for work in gone])
    assert "big" in started(plan(replace(after, fleet=free, held=(), usage={}, now=NOW + 60.0)))


def test_tasks_one_after_the_other_must_end_in_time_too() -> None:
    """An array of twenty on two slots: as many a slot as end before the gang starts."""
    array = small("array", 20.0, groups=(TaskGroup(IndexSet.span(20), 1),), slots=2)
    decided = plan(scene(6, [runs("r", 4, ends_in=60.0)], gang("big", 6), array))
    assert [(part.slots, len(part.tasks)) for part in decided.admissions[0].slices] == [(2, 6)]


def test_who_overruns_may_end_any_moment() -> None:
    late = replace(runs("r", 4, ends_in=60.0), expected=1.0)
    decided = plan(scene(6, [late], gang("big", 5), small("short", 1.0), small("other", 1.0)))
    # Nobody can be sure to be gone: only what is left beside the gang is free.
    assert len(started(decided)) == 1


def test_without_durations_it_waits_its_share_first() -> None:
    running = [runs("r", 4, ends_in=None)]
    waiting = [gang("big", 5), small("one", None), small("two", None)]
    early = plan(scene(6, running, *waiting, protect_after=600.0))
    assert started(early) == {"one", "two"}
    assert early.wake_at == NOW - 10.0 + 600.0
    waited = [replace(waiting[0], created=NOW - 700.0), *waiting[1:]]
    protected = plan(scene(6, running, *waited, protect_after=600.0))
    assert len(started(protected)) == 1
    assert "KeptForOthers" in reasons(protected).values()
    never = plan(scene(6, running, *waited, protect_after=None))
    assert started(never) == {"one", "two"}
    assert never.wake_at is None


def test_a_single_large_task_is_protected_once_it_waited() -> None:
    """Small tasks pass a large one as long as it is new, not for ever."""
    sites = fleet(site("x", cpu=6))
    running = runs("r", 4, ends_in=None)
    sites = sites.apply([Charge(running.work, "x", running.shape, 4)])
    for waited, expected in ((10.0, {"one", "two"}), (900.0, {"one"})):
        large = demand("large", shape=shape(5), priority=5, created=NOW - waited)
        before = snapshot(sites, open_queue(), large, small("one", None), small("two", None), held=(running,))
        used = {"q": {("default", "cpu"): 4000}}
        assert started(plan(replace(before, now=NOW, usage=used))) == expected


def test_without_backfill_nothing_passes_that_touches_it() -> None:
    waiting = [gang("big", 6), small("short", 1.0)]
    assert started(plan(scene(6, [runs("r", 4, ends_in=60.0)], *waiting))) == {"short"}
    decided = plan(scene(6, [runs("r", 4, ends_in=60.0)], *waiting, backfill=False))
    assert started(decided) == set()
    assert reasons(decided)["short"] == "KeptForOthers"


def test_what_becomes_free_stays_with_the_one_it_is_kept_for() -> None:
    """Slice by slice, until it can start, with a queue of small ones behind it all the time."""
    running = [runs(f"r{n}", 1, ends_in=None, since=100.0 + n) for n in range(6)]
    waiting = [gang("big", 5, created=NOW - 5_000.0), *(small(f"s{n}", None) for n in range(20))]
    before = scene(6, running, *waiting)
    for _ in range(8):
        decided = plan(before)
        if "big" in started(decided):
            return
        assert len(started(decided)) <= 1
        before = carry_out(before, decided)
        left = before.held[1:]
        freed = before.fleet.apply([Release(before.held[0].work)])
        used = {key: value - 1000 for key, value in before.usage["q"].items()}
        before = replace(before, held=left, fleet=freed, usage={"q": used})
    pytest.fail("it never started")


def test_who_fits_nowhere_keeps_nothing_from_anyone() -> None:
    decided = plan(scene(6, [runs("r", 4, ends_in=60.0)], gang("never", 7), small("one", None), small("two", None)))
    assert started(decided) == {"one", "two"}
    assert reasons(decided)["never"] == "NoClusterFits"


def test_quota_is_kept_as_room_is() -> None:
    objects = open_queue(cpu=6)
    running = runs("r", 4, ends_in=60.0, cluster="")
    waiting = [gang("big", 5, place=False), small("unknown", None, place=False), small("other", None, place=False)]
    used = {"q": {("default", "cpu"): 4000}}
    before = snapshot(fleet(), objects, *waiting, usage=used, held=(replace(running, place=False),))
    decided = plan(replace(before, now=NOW))
    assert len(started(decided)) == 1
    assert reasons(decided)["big"] == "WaitingForQuota"
    assert "KeptForOthers" in reasons(decided).values()
