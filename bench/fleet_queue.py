"""What the queue costs in mode fleet, on the work of bench/queue.py: a cycle over all that waits, decisions until all
has run, victims among thousands. Decisions only, CPU time; everything that is admitted ends before the next cycle.

Quota alone is decided (nobody says where it runs), as the peer's scheduler does; what clusters add is bench/planner.py.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from bench.queue import _objects
from bench.report import Figure
from hub.api.indexset import IndexSet
from hub.controllers.memory import calm
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.planner.backlog import Heads
from hub.planner.plan import HeldSlice, Snapshot
from hub.queueing.demand import Demand, TaskGroup
from hub.queueing.fleet.policy import FleetPolicy
from hub.queueing.kueue.settings import FINAL, INITIAL
from hub.queueing.quotas import Quotas

_FAIR = FleetPolicy(strategies=(FINAL, INITIAL))
_NOBODY = FleetPolicy()
_ONE = (TaskGroup(IndexSet.span(1), 1),)
_SHAPES = {cpu: TaskShape((("cpu", cpu * 1000),)) for cpu in (1, 5, 20, 40)}


def run() -> list[Figure]:
    # As in a hub.
    calm()
    rows: list[Figure] = []
    waiting = _pending(1, 1_000, 50_000)
    quotas = _quotas(1, 1_000)
    heads = Heads()
    heads.plan(_snapshot(quotas, waiting, _FAIR))
    # The same again: a cycle of a hub that knows its backlog.
    started = time.process_time()
    heads.plan(_snapshot(quotas, waiting, _FAIR))
    one = time.process_time() - started
    rows.append(Figure("1,000 queues in one cohort, fair, 50k pending: a cycle", one, 0.5, "s", peer=("Kueue", 9.6)))
    for cohorts, queues, policy, name, peer in (
        (1, 1_000, _FAIR, "the same until drained", 125.0),
        (20, 50, _FAIR, "20 cohorts × 50 queues, fair, the same", 1_600.0),
        (5, 6, _NOBODY, "5 cohorts × 6 queues, by priority, 15k pending, the same", 1_334.0),
    ):
        pending = 15_000 if cohorts == 5 else 50_000
        rate = _drained(_quotas(cohorts, queues), _pending(cohorts, queues, pending), policy)
        rows.append(Figure(name, rate, 20_000.0, "/s", at_least=True, peer=("Kueue", peer)))
    for queues, holders in ((1, 10_000), (100, 100)):
        for policy, how in ((_NOBODY, "by priority"), (_FAIR, "fair")):
            seconds = _preempting(queues, holders, policy)
            name = f"20 victims of {queues * holders:,} in {queues} queues, {how}"
            rows.append(Figure(name, seconds * 1e3, 5.0, "ms", peer=("Kueue", 25.0)))
    return rows


def _names(cohorts: int, queues: int) -> list[str]:
    return [f"c{cohort}-q{queue}" for cohort in range(cohorts) for queue in range(queues)]


def _quotas(cohorts: int, queues: int) -> Quotas:
    return Quotas.parse(_objects(_names(cohorts, queues), "20", "100"))


def _pending(cohorts: int, queues: int, pending: int) -> tuple[Demand, ...]:
    names = _names(cohorts, queues)
    kinds = ((1, 50, 14), (5, 100, 4), (20, 200, 2))
    sizes = [kind for kind in kinds for _ in range(kind[2])]
    return tuple(
        _demand(f"w{number:06}", names[number % len(names)], *sizes[number // len(names) % len(sizes)][:2], number)
        for number in range(pending)
    )


def _demand(name: str, queue: str, cpu: int, priority: int, age: int) -> Demand:
    return Demand(
        f"default/{name}", name, "default", queue, priority, float(age), _SHAPES[cpu], _ONE, 1, place=False
    )  # fmt: skip


def _snapshot(quotas: Quotas, demands: Sequence[Demand], policy: FleetPolicy) -> Snapshot:
    return Snapshot(1_000_000.0, Fleet.empty(), quotas, {}, tuple(demands), policy=policy)


def _drained(quotas: Quotas, demands: Sequence[Demand], policy: FleetPolicy) -> float:
    count = len(demands)
    heads = Heads()
    # What an arrival costs is said by bench/backlog.py.
    for demand in demands:
        heads.arrive(demand)
    started = time.process_time()
    while demands:
        done = {admission.key for admission in heads.plan(_snapshot(quotas, demands, policy)).admissions}
        assert done, "nothing more is decided before all is done"
        demands = [demand for demand in demands if demand.key not in done]
    return count / (time.process_time() - started)


def _preempting(queues: int, holders: int, policy: FleetPolicy) -> float:
    """Seconds of a cycle in which an owner takes 20 back of what others borrowed."""
    names = ["owner", *(f"q{number}" for number in range(queues))]
    quotas = Quotas.parse(
        [*_objects(names[:1], str(queues * holders // 2 + 20), None), *_objects(names[1:], str(holders // 2), None)]
    )
    key = ("default", "cpu")
    held = tuple(
        HeldSlice(
            key=f"default/h{number:06}",
            uid=f"h{number:06}",
            work=f"h{number:06}",
            epoch=1,
            cluster="",
            queue=names[1 + number % queues],
            priority=number % 7,
            created=float(number),
            admitted=float(number),
            shape=_SHAPES[1],
            slots=1,
            amounts=((key, 1_000),),
            place=False,
        )
        for number in range(queues * holders)
    )
    usage = {name: {key: holders * 1_000} for name in names[1:]}
    snapshot = Snapshot(1_000_000.0, Fleet.empty(), quotas, usage, (), held=held, policy=policy)
    # A hub knows who runs when somebody arrives.
    heads = Heads()
    heads.plan(snapshot)
    snapshot = replace(snapshot, demands=(_demand("p", "owner", 40, 100, 0),))
    started = time.process_time()
    found = heads.plan(snapshot)
    seconds = time.process_time() - started
    assert len(found.preemptions) == 20, (len(found.preemptions), found.refusals)
    return seconds
