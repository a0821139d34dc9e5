"""What holds in any cohort: the fast searches are the slow ones, quota is kept, nobody is lost, usage adds up."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import kueue_model
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kueue_objects import cluster_queue, cohort, flavor, group, quota
from kueue_scene import FAIR, PLAIN, holds, pod_set, scene, wl

from hub.queueing.kueue.assignment import Assignment, Mode
from hub.queueing.kueue.classical import classical_victims
from hub.queueing.kueue.cycle import Scheduler
from hub.queueing.kueue.fair import FairSearch
from hub.queueing.kueue.order import Entry, fair_order
from hub.queueing.kueue.settings import FINAL, INITIAL, Settings
from hub.queueing.kueue.standing import Standing
from hub.queueing.kueue.workload import Held, Workload
from hub.queueing.quotas import Quotas
from hub.queueing.usage import TreeUsage

_FLAVORS = ("a", "b")
_STRATEGIES = ((FINAL, INITIAL), (FINAL,), (INITIAL,))
seeds = st.integers(0, 2**32 - 1)


def objects(rng: random.Random) -> tuple[list[dict[str, Any]], list[str]]:
    """Up to three levels of cohorts, up to six queues."""
    found: list[dict[str, Any]] = [cohort("root")]
    cohorts = ["root"]
    for number in range(rng.randrange(4)):
        parent = rng.choice(cohorts)
        found.append(cohort(f"c{number}", *_groups(rng, 0.3), parent=parent, fairSharing=_weight(rng)))
        cohorts.append(f"c{number}")
    queues = [f"q{number}" for number in range(rng.randrange(2, 7))]
    for name in queues:
        reclaim = rng.choice(["Never", "LowerPriority", "Any", "Any"])
        borrow = rng.choice(["Never", "LowerPriority"]) if reclaim != "Never" else "Never"
        preemption = {
            "reclaimWithinCohort": reclaim,
            "withinClusterQueue": rng.choice(["Never", "LowerPriority", "LowerOrNewerEqualPriority"]),
            "borrowWithinCohort": {"policy": borrow, **rng.choice([{}, {"maxPriorityThreshold": 1}])},
        }
        fungibility: dict[str, Any] = {
            "whenCanBorrow": rng.choice(["MayStopSearch", "TryNextFlavor"]),
            "whenCanPreempt": rng.choice(["MayStopSearch", "TryNextFlavor"]),
        }
        found.append(
            cluster_queue(
                name,
                *_groups(rng, 1.0),
                cohort=rng.choice(cohorts),
                preemption=preemption,
                flavorFungibility=fungibility,
                fairSharing=_weight(rng),
                queueingStrategy=rng.choice(["StrictFIFO", "BestEffortFIFO", "BestEffortFIFO"]),
            )
        )
    return found, queues


def _weight(rng: random.Random) -> dict[str, str]:
    return {"weight": rng.choice(["0", "500m", "1", "1", "2"])}


def _groups(rng: random.Random, chance: float) -> list[dict[str, Any]]:
    if rng.random() > chance:
        return []
    quotas = []
    for name in _FLAVORS:
        nominal = rng.randrange(9)
        lending = rng.choice([None, None, rng.randrange(nominal + 1)])
        quotas.append((name, [quota("cpu", nominal, rng.choice([None, None, rng.randrange(6)]), lending)]))
    return [group(*quotas)]


def holders(rng: random.Random, queues: list[str], number: int) -> list[Held]:
    found = []
    for n in range(number):
        workload = wl(f"h{n}", rng.choice(queues), rng.randrange(1, 5), rng.randrange(3), at=rng.randrange(4))
        found.append(holds(workload, rng.randrange(4), rng.choice(_FLAVORS), evicted=rng.random() < 0.1))
    return found


def standing_of(rng: random.Random) -> tuple[Standing, list[str]]:
    found, queues = objects(rng)
    quotas = Quotas.parse([*map(flavor, _FLAVORS), *found])
    assert not quotas.problems
    tree = quotas.trees[queues[0]]
    standing = Standing(
        tree, [quotas.queues.get(n.name) if n.is_queue else None for n in tree.nodes], tree.position.values()
    )
    for held in holders(rng, queues, rng.randrange(14)):
        standing.admit(tree.position[held.cluster_queue], held)
    return standing, queues


def request_of(rng: random.Random) -> dict[tuple[str, str], int]:
    keys = rng.choice([[("a", "cpu")], [("a", "cpu"), ("b", "cpu")]])
    return {key: rng.randrange(1, 9) * 1000 for key in keys}


@pytest.mark.parametrize("strategies", [(), *_STRATEGIES], ids=lambda s: "+".join(s) or "classical")
@settings(max_examples=400, deadline=None)
@given(seed=seeds)
def test_victims_are_those_that_the_rules_name(strategies: Any, seed: int) -> None:
    rng = random.Random(seed)
    standing, queues = standing_of(rng)
    position = standing.tree.position[rng.choice(queues)]
    workload, request = wl("w", "q", 1, rng.randrange(4), at=rng.randrange(4)), request_of(rng)
    needed = frozenset(rng.choice([list(request), list(request)[:1]]))
    before = [dict(used) for used in standing.usage.used]
    if strategies:
        found = FairSearch(strategies)(standing, position, workload, needed, request)
        expected = kueue_model.fair(standing, position, workload, needed, request, strategies)
    else:
        found = classical_victims(standing, position, workload, needed, request)
        expected = kueue_model.classical(standing, position, workload, needed, request)
    assert {victim.held.key for victim in found} == expected
    assert standing.usage.used == before


@settings(max_examples=300, deadline=None)
@given(seed=seeds)
def test_the_tournament_is_the_one_that_the_rules_describe(seed: int) -> None:
    rng = random.Random(seed)
    standing, queues = standing_of(rng)
    entries = []
    for name in queues:
        usage = request_of(rng)
        workload = wl(f"w-{name}", name, 1, rng.randrange(3), at=rng.randrange(3))
        entries.append(
            Entry(workload, name, standing, standing.tree.position[name], Assignment(usage=usage, mode=Mode.FIT))
        )
    takes = {entry.queue for entry in entries if rng.random() < 0.6}
    orders = []
    for iterate in (fair_order, lambda some: kueue_model.tournament(standing, list(some))):
        order, added = [], []
        for entry in iterate(entries):
            order.append(entry.queue)
            if entry.queue in takes:
                standing.usage.add(entry.position, entry.usage.items())
                added.append(entry)
        for entry in added:
            standing.usage.remove(entry.position, entry.usage.items())
        orders.append(order)
    assert orders[0] == orders[1]


def a_backlog(rng: random.Random, queues: list[str], number: int) -> list[Workload]:
    found = []
    for n in range(number):
        pods = (
            pod_set("main", rng.randrange(1, 4), count := rng.randrange(1, 4), rng.choice([None, 1, count])),
            *([pod_set("more", 1)] if rng.random() < 0.2 else []),
        )
        found.append(wl(f"w{n}", rng.choice(queues), priority=rng.randrange(3), at=rng.randrange(5), pod_sets=pods))
    return found


def run(
    seed: int, config: Settings, look: Callable[[Scheduler, Any], None], shuffled: int | None = None
) -> list[object]:
    rng = random.Random(seed)
    found, queues = objects(rng)
    held, waiting = holders(rng, queues, rng.randrange(10)), a_backlog(rng, queues, rng.randrange(16))
    if shuffled is not None:
        again = random.Random(shuffled)
        for some in (found, held, waiting):
            again.shuffle(some)
    scheduler = scene(found, waiting, held, config, flavors=map(flavor, _FLAVORS))
    said: list[object] = []
    for now in range(12):
        outcome = scheduler.cycle(float(now))
        look(scheduler, outcome)
        said.append(
            (
                [(e.workload.key, e.amounts, [p.count for p in e.pod_sets]) for e in outcome.admitted],
                [(e.held.key, e.why, e.preemptor) for e in outcome.preempted],
                [(w.key, parked, scheduler.roster.verdicts[w.key].message) for w, parked in scheduler.roster.waiting],
            )
        )
        if not outcome.moved:
            break
    return said


@pytest.mark.parametrize("config", [PLAIN, FAIR], ids=["classical", "fair"])
@settings(max_examples=150, deadline=None)
@given(seed=seeds)
def test_quota_is_kept_and_nobody_is_lost(config: Settings, seed: int) -> None:
    everyone: set[str] = set()

    def look(scheduler: Scheduler, outcome: Any) -> None:
        holding = set(scheduler.roster._held)
        waiting = {workload.key for workload, _ in scheduler.roster.waiting}
        assert not holding & waiting
        everyone.update(holding | waiting)
        assert holding | waiting == everyone
        for tree in scheduler.roster.trees.values():
            standing = tree.standing
            anew = TreeUsage(standing.tree)
            for held in scheduler.roster._held.values():
                anew.add(standing.tree.position[held.cluster_queue], held.amounts)
            assert [{k: v for k, v in used.items() if v} for used in standing.usage.used] == anew.used
        for entry in outcome.admitted:
            # What was over its limits before stays so; what is admitted never takes more than there is.
            tree, position = scheduler.roster.places[entry.queue]
            for key, value in entry.amounts:
                usage = tree.standing.usage
                assert not value or usage.used[position][key] <= usage.tree.potential(position, key)

    run(seed, config, look)


@pytest.mark.parametrize("config", [PLAIN, FAIR], ids=["classical", "fair"])
@settings(max_examples=60, deadline=None)
@given(seed=seeds, shuffled=seeds)
def test_the_order_of_the_input_changes_nothing(config: Settings, seed: int, shuffled: int) -> None:
    assert run(seed, config, lambda *_: None) == run(seed, config, lambda *_: None, shuffled)
