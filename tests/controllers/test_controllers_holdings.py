"""What slices hold, kept step by step, is what it would be counted anew; who leaves is said, who stays is told back."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from hub.api.indexset import IndexSet
from hub.controllers.holdings import Holder, Holdings
from hub.controllers.world import World
from hub.fleet.shape import TaskShape
from hub.jobs.attempt import Attempt, AttemptState, Eviction

SHAPE = TaskShape((("cpu", 1000), ("memory", 64)))
GOES = Eviction("Preempted", "makes way", 1.0, 2.0, "InClusterQueue", "a/b")
STATES: tuple[AttemptState, ...] = ("Pending", "Running", "Succeeded", "Failed", "Lost", "Cancelled", "Evicted")


def holder(number: int, preempted: int = 0) -> Holder:
    return Holder(f"lab/job{number}", f"uid{number}", 5, 10.0, SHAPE, 60.0, 5.0, 100.0, preempted, local="mine")


def attempt(job: int, epoch: int, cluster: str, state: AttemptState, slots: int, done: int, told: bool) -> Attempt:
    tasks = IndexSet.span(4)
    return Attempt(
        epoch=epoch, attempt=1, cluster=cluster, tasks=tasks, slots=slots,
        work=f"job{job}-{epoch}", queue=f"q{job % 2}",
        flavors=(("cpu", "default"), ("memory", "default")), state=state, succeeded=tasks.take(done),
        gone=state == "Failed", admitted_at=20.0, started_at=21.0 if done else None, eviction=GOES if told else None,
    )  # fmt: skip


def world() -> World:
    known = World()
    for name in ("ash", "elm"):
        known.cluster_seen({"metadata": {"name": name}, "spec": {"hubAcceptsClient": True}})
    return known


steps = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.lists(
            st.builds(
                attempt,
                st.just(0), st.integers(1, 3), st.sampled_from(["ash", "elm", "cut-off"]), st.sampled_from(STATES),
                st.integers(1, 4), st.integers(0, 4), st.booleans(),
            ),
            max_size=3,
            unique_by=lambda a: a.epoch,
        ),
        st.sets(st.integers(1, 3), max_size=2),
    ),
    max_size=12,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(steps)
def test_step_by_step_is_as_counted_anew(moves: list[tuple[int, list[Attempt], set[int]]]) -> None:
    known = world()
    holdings = Holdings(known)
    last: dict[int, tuple[list[Attempt], set[int]]] = {}
    for job, attempts, told in moves:
        mine = [replace(a, work=f"job{job}-{a.epoch}", queue=f"q{job % 2}") for a in attempts]
        holdings.update(holder(job), mine, told)
        last[job] = (mine, told)
    anew = Holdings(known)
    for job, (mine, told) in last.items():
        anew.update(holder(job), mine, told)
    by_work = sorted(holdings.slices, key=lambda part: part.work)
    assert by_work == sorted(anew.slices, key=lambda part: part.work)
    assert {q: u for q, u in holdings.usage.items() if u} == {q: u for q, u in anew.usage.items() if u}
    assert holdings.tasks == anew.tasks
    known.refresh()
    for part in by_work:
        assert part.cluster != "cut-off"
        assert sum(value for (_, resource), value in part.amounts if resource == "cpu") in (0, part.slots * 1000)
    total: dict[str, int] = {}
    for job in last:
        for (_, resource), value in holdings.of(f"uid{job}").items():
            total[resource] = total.get(resource, 0) + value
    assert total.get("cpu", 0) == sum(used.get(("default", "cpu"), 0) for used in holdings.usage.values())


def test_who_leaves_keeps_what_it_has_until_it_is_gone() -> None:
    holdings = Holdings(world())
    running = attempt(0, 1, "ash", "Running", 2, 1, told=False)
    holdings.update(holder(0), [running])
    (part,) = holdings.slices
    assert (part.key, part.work, part.slots, part.local, part.checkpoint, part.restart) == (
        "lab/job0", "job0-1", 2, "mine", 60.0, 5.0,
    )  # fmt: skip
    assert (part.leaving, part.admitted, part.started, part.preempted) == (False, 20.0, 21.0, 0)
    same = holdings.slices
    assert holdings.update(holder(0), [running]) is False
    assert holdings.slices is same
    assert holdings.update(holder(0), [running], {1}) is False
    assert holdings.slices[0].leaving
    # It could not be told: whoever counts on it has to decide again.
    assert holdings.update(holder(0), [running]) is True
    for state in ("Running", "Evicted"):
        going = replace(running, state=state, eviction=GOES)  # type: ignore[arg-type]
        assert holdings.update(holder(0, 1), [going]) is False
        assert (holdings.slices[0].leaving, holdings.usage["q0"]["default", "cpu"]) == (True, 2000)
    assert holdings.update(holder(0, 1), [replace(going, gone=True)]) is True
    assert (holdings.slices, holdings.usage["q0"]) == ((), {})


def test_a_job_that_is_gone_leaves_until_its_processes_are() -> None:
    holdings = Holdings(world())
    running = attempt(0, 1, "ash", "Running", 2, 0, told=False)
    holdings.update(holder(0), [running])
    assert holdings.leave("uid0", SHAPE, [running]) is False
    (part,) = holdings.slices
    assert (part.key, part.priority, part.leaving) == ("lab/job0", 5, True)
    assert holdings.leave("uid0", SHAPE, []) is True
    assert holdings.slices == ()
