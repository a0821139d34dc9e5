"""Mode kueue over a fleet: the same as the scheduler alone decides, and what becomes of it cycle by cycle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fleet_objects import carry_out, demand, flavor, fleet, queue, shape, site, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.planner.kueue import KueuePlanner
from hub.planner.plan import HeldSlice, Plan, Snapshot
from hub.queueing.demand import Demand
from hub.queueing.kueue.cycle import Scheduler
from hub.queueing.kueue.history import History
from hub.queueing.kueue.jobs import holder, waiting_workload
from hub.queueing.kueue.roster import Roster
from hub.queueing.kueue.settings import FINAL, INITIAL, Settings, UsageHistory

PLAIN, FAIR = Settings(), Settings(strategies=(FINAL, INITIAL))
TAKES = {"reclaimWithinCohort": "Any", "withinClusterQueue": "LowerPriority"}
ROOM = site("large", cpu=100_000)


def two(nominal: int = 4, **spec: Any) -> list[dict[str, Any]]:
    more = {"cohortName": "lab", "preemption": TAKES, **spec}
    flavors = ("default", {"cpu": nominal})
    return [flavor(), *queue("a", flavors, **more), *queue("b", flavors, **more)]


def held(key: str, cpu: int, queue: str, at: float = 0.0, priority: int = 0, **fields: Any) -> HeldSlice:
    return HeldSlice(
        key=f"default/{key}", uid=f"uid-{key}", work=f"{key}-1", epoch=1, cluster="large", queue=queue, local=queue,
        priority=priority, created=0.0, admitted=at, shape=shape(cpu), slots=1,
        amounts=((("default", "cpu"), cpu * 1000),), **fields,
    )  # fmt: skip


def admitted(plan: Plan) -> list[str]:
    return sorted(admission.key.partition("/")[2] for admission in plan.admissions)


def with_usage(before: Snapshot, slices: tuple[HeldSlice, ...]) -> Snapshot:
    usage: dict[str, dict[tuple[str, str], int]] = {}
    for part in slices:
        for key, value in part.amounts:
            into = usage.setdefault(part.queue, {})
            into[key] = into.get(key, 0) + value
    return replace(before, held=slices, usage=usage)


def after(before: Snapshot, decided: Plan, originals: dict[str, Demand]) -> Snapshot:
    """Once all of it is carried out: what was admitted is held, slice by slice; victims (of one task) wait again."""
    demands = {d.key: d for d in before.demands}
    slices = list(before.held)
    for admission in decided.admissions:
        asked = demands[admission.key]
        for part in admission.slices:
            cpu = dict(asked.shape.requests)["cpu"] * part.slots
            slices.append(
                HeldSlice(
                    key=asked.key,
                    uid=asked.uid,
                    work=f"{asked.uid}-{len(slices)}",
                    epoch=1,
                    cluster=part.cluster,
                    queue=admission.queue,
                    local=asked.queue,
                    priority=asked.priority,
                    created=asked.created,
                    admitted=before.now,
                    shape=asked.shape,
                    slots=part.slots,
                    amounts=((("default", "cpu"), cpu),),
                )
            )
    gone = {p.work for p in decided.preemptions}
    back = tuple(originals[part.key] for part in slices if part.work in gone)
    now = carry_out(before, decided)
    return with_usage(replace(now, demands=now.demands + back), tuple(p for p in slices if p.work not in gone))


def test_one_head_of_each_queue_a_cycle_and_the_next_at_once() -> None:
    jobs = [demand(f"{name}{n}", queue=name, created=float(n)) for name in "ab" for n in range(3)]
    state = snapshot(fleet(ROOM), two(), *jobs)
    planner = KueuePlanner(PLAIN)
    rounds = []
    while True:
        decided = planner.plan(state)
        rounds.append(admitted(decided))
        if decided.wake_at is None:
            break
        assert decided.wake_at == state.now
        state = after(state, decided, {})
    assert rounds == [["a0", "b0"], ["a1", "b1"], ["a2", "b2"]]


def test_victims_are_named_once_and_waited_for() -> None:
    slices = (held("old", 4, "a", 1.0), held("new", 4, "a", 2.0))
    state = with_usage(snapshot(fleet(ROOM), two(), demand("owner", queue="b", shape=shape(4))), slices)
    planner = KueuePlanner(PLAIN)
    decided = planner.plan(state)
    assert [(p.key, p.reason, p.preemptor) for p in decided.preemptions] == [
        ("default/new", "InCohortReclamation", "default/owner")
    ]
    assert decided.refusals[0].reason.code == "WaitingForPreemptedWorkloads"
    leaving = (slices[0], replace(slices[1], leaving=True))
    again = planner.plan(with_usage(state, leaving))
    assert (again.preemptions, again.admissions, again.wake_at) == ((), (), None)
    gone = planner.plan(with_usage(state, leaving[:1]))
    assert admitted(gone) == ["owner"]


def test_a_place_that_is_missing_is_looked_for_again_when_the_fleet_changes() -> None:
    jobs = [demand("giant", queue="a", shape=shape(3)), demand("small", queue="a", created=1.0)]
    state = snapshot(fleet(site("tiny", cpu=2)), two(queueingStrategy="StrictFIFO"), *jobs)
    planner = KueuePlanner(PLAIN)
    first = planner.plan(state)
    assert (admitted(first), first.wake_at) == ([], state.now)
    assert {r.key: r.reason.code for r in first.refusals}["default/giant"] == "NoClusterFits"
    second = planner.plan(state)
    assert (admitted(second), second.wake_at) == (["small"], None)
    state = carry_out(state, second)
    assert admitted(planner.plan(state)) == []
    larger = replace(state, fleet=state.fleet.apply(site("oak", cpu=8)))
    assert admitted(planner.plan(larger)) == ["giant"]


def test_whole_jobs_get_all_their_slots_or_none_and_others_what_there_is() -> None:
    sites = fleet(site("ash", cpu=2), site("elm", cpu=1))
    whole = demand("whole", tasks=4, queue="a", minimum=None)
    decided = KueuePlanner(PLAIN).plan(snapshot(sites, two(), whole))
    assert (admitted(decided), decided.refusals[0].reason.code) == ([], "WaitingForCapacity")
    fits = demand("whole", tasks=30, slots=3, queue="a", minimum=None)
    decided = KueuePlanner(PLAIN).plan(snapshot(sites, two(), fits))
    assert [(s.cluster, len(s.tasks), s.slots) for s in decided.admissions[0].slices] == [
        ("ash", 20, 2),
        ("elm", 10, 1),
    ]
    some = demand("some", tasks=4, queue="a")
    decided = KueuePlanner(PLAIN).plan(snapshot(sites, two(), some))
    assert sum(part.slots for part in decided.admissions[0].slices) == 3


def test_who_asks_for_quota_only_is_given_no_cluster() -> None:
    decided = KueuePlanner(PLAIN).plan(snapshot(fleet(), two(), demand("others", queue="a", place=False)))
    assert [(s.cluster, s.slots) for s in decided.admissions[0].slices] == [("", 1)]


def test_what_was_not_carried_out_asks_again() -> None:
    state = snapshot(fleet(ROOM), two(), demand("job", queue="a"))
    planner = KueuePlanner(PLAIN)
    assert admitted(planner.plan(state)) == ["job"]
    assert admitted(planner.plan(state)) == ["job"]


def test_past_usage_orders_local_queues_and_survives_other_quotas() -> None:
    objects = two(admissionScope={"admissionMode": "UsageBasedAdmissionFairSharing"})
    second = {**objects[2], "metadata": {"name": "a2", "namespace": "default"}}
    history = UsageHistory(half_life=60.0, sampling=1.0)
    book = History(history, {}, 0.0)
    planner = KueuePlanner(Settings(history=history), book)
    state = with_usage(snapshot(fleet(ROOM), [*objects, second]), (held("heavy", 3, "a"),))
    planner.plan(state)
    for moment in (2.0, 10.0, 30.0):
        decided = planner.plan(replace(state, now=moment))
        assert decided.wake_at == moment + 1.0
    assert book.past["default", "a"].consumed["cpu"] > 0.5
    older = demand("older", queue="a", created=1.0)
    newer = demand("newer", queue="a2", created=2.0)
    fresh = snapshot(fleet(ROOM), [*objects, second], older, newer)
    decided = planner.plan(with_usage(replace(fresh, now=31.0), state.held))
    assert admitted(decided) == ["newer"]


jobs_of = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(1, 5), st.integers(0, 2), st.integers(0, 9)), min_size=1, max_size=8
)
held_of = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 4), st.integers(0, 2)), max_size=5)


@settings(max_examples=60, deadline=None)
@given(jobs_of, held_of, st.booleans(), st.integers(0, 6))
def test_with_room_enough_the_first_cycle_is_the_schedulers(
    waiting: list[tuple[str, int, int, int]], holders: list[tuple[str, int, int]], fair: bool, nominal: int
) -> None:
    jobs: list[Demand] = [
        demand(f"job{n}", queue=name, shape=shape(cpu), priority=priority, created=float(at), minimum=None)
        for n, (name, cpu, priority, at) in enumerate(waiting)
    ]
    slices = tuple(held(f"held{n}", cpu, name, float(n), priority) for n, (name, cpu, priority) in enumerate(holders))
    state = with_usage(snapshot(fleet(ROOM), two(nominal), *jobs), slices)
    rules = FAIR if fair else PLAIN
    roster = Roster(
        state.quotas, rules, waiting=map(waiting_workload, jobs), held=[holder((part,)) for part in slices], now=0.0
    )
    alone = Scheduler(roster).cycle(0.0)
    decided = KueuePlanner(rules).plan(state)
    assert admitted(decided) == sorted(one.workload.key.partition("/")[2] for one in alone.admitted)
    assert sorted((p.key, p.reason) for p in decided.preemptions) == sorted(
        (one.held.key, one.why) for one in alone.preempted
    )
    assert KueuePlanner(rules).plan(state) == decided


@settings(max_examples=40, deadline=None)
@given(jobs_of, st.booleans())
def test_it_settles_and_a_settled_fleet_is_left_alone(waiting: list[tuple[str, int, int, int]], fair: bool) -> None:
    jobs = [
        demand(f"job{n}", queue=name, shape=shape(cpu), priority=priority, created=float(at))
        for n, (name, cpu, priority, at) in enumerate(waiting)
    ]
    # Where nobody may preempt: with preemption Kueue itself need not settle.
    state = snapshot(fleet(ROOM), two(preemption={}), *jobs)
    planner = KueuePlanner(FAIR if fair else PLAIN)
    for _ in range(4 * len(jobs) + 4):
        decided = planner.plan(state)
        state = after(state, decided, {job.key: job for job in jobs})
        if decided.wake_at is None and not decided.admissions and not decided.preemptions:
            break
    assert decided.wake_at is None
    decided = planner.plan(state)
    assert (decided.admissions, decided.wake_at) == ((), None)
    assert {r.key for r in decided.refusals} == {d.key for d in state.demands}
    used = sum(value for part in state.held for _, value in part.amounts)
    assert used <= 8000
