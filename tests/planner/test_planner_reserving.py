"""Scorers that count what a decision takes: within one decision, over several, and in what is said of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fleet_objects import carry_out, demand, fleet, open_queue, site, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.controllers.guard import Guarded
from hub.fleet.changes import Release
from hub.fleet.fleet import Fleet
from hub.planner.cycle import plan
from hub.planner.explain import explain
from hub.planner.plan import Plan, Snapshot
from hub.scoring.interface import ScoreRequest, WeightedScorer
from hub.scoring.reserving import Reserving


class Licences:
    """So many tasks in the whole fleet, and no more than three on one site."""

    name = "licences"

    def __init__(self, total: int) -> None:
        self.total = total
        self.used: dict[str, int] = {}

    def score(self, fleet: Fleet, request: ScoreRequest) -> Any:
        return np.zeros(len(fleet.names))

    def limit(self, fleet: Fleet, request: ScoreRequest) -> Any:
        free = max(0, self.total - sum(self.used.values()))
        here = [min(free, max(0, 3 - self.used.get(name, 0))) for name in fleet.names]
        return np.array(here, np.int64)

    def reserve(self, cluster: str, request: ScoreRequest) -> None:
        self.used[cluster] = self.used.get(cluster, 0) + request.count

    def unreserve(self, cluster: str, request: ScoreRequest) -> None:
        self.used[cluster] -= request.count


def scored(total: int, *demands: Any, guarded: bool = False) -> Snapshot:
    asked = snapshot(fleet(site("a", cpu=9), site("b", cpu=9), site("c", cpu=9)), open_queue(), *demands)
    scorer: Any = Reserving(lambda: Licences(total))
    return replace(asked, scorers=(WeightedScorer(Guarded(scorer) if guarded else scorer, 1.0),))


def got(decided: Plan) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for admission in decided.admissions:
        for part in admission.slices:
            job = found.setdefault(admission.key.removeprefix("default/"), {})
            job[part.cluster] = job.get(part.cluster, 0) + part.slots
    return found


@pytest.mark.parametrize("guarded", [False, True])
def test_one_job_gets_no_more_than_there_is_wherever_it_goes(guarded: bool) -> None:
    asked = scored(7, demand("array", tasks=20), demand("late", created=1.0), guarded=guarded)
    decided = plan(asked)
    assert got(decided) == {"array": {"a": 3, "b": 3, "c": 1}}
    assert "a has room for 6, and scorer licences allows 0 more" in decided.refusals[0].message
    # The same again: what was tried left no trace.
    assert plan(asked) == plan(asked) == decided


@pytest.mark.parametrize("guarded", [False, True])
def test_the_next_job_of_a_decision_sees_what_the_first_took(guarded: bool) -> None:
    asked = scored(5, demand("first", tasks=4, created=0.0), demand("second", tasks=4, created=1.0), guarded=guarded)
    assert got(plan(asked)) == {"first": {"a": 3, "b": 1}, "second": {"b": 1}}


def test_a_gang_that_is_not_allowed_together_waits_whole() -> None:
    asked = scored(2, demand(tasks=3, gang=True))
    decided = plan(asked)
    assert decided.admissions == ()
    assert "scorer licences allows 2 more" in decided.refusals[0].message
    assert got(plan(scored(3, demand(tasks=3, gang=True)))) == {"job": {"a": 3}}


def test_an_explanation_names_the_scorer_that_allows_no_more() -> None:
    asked = scored(3, demand("first", tasks=3, created=0.0), demand("second", created=1.0))
    lines = {line.cluster: line for line in explain(asked, "default/second").clusters}
    assert {name: line.code for name, line in lines.items()} == dict.fromkeys("abc", "LimitedByScorer")
    assert lines["a"].message == "has room for 6, and scorer licences allows 0 more"
    assert (lines["b"].room, lines["b"].message) == (0, "has room for 9, and scorer licences allows 0 more")


def test_what_ends_is_there_for_the_next_decision() -> None:
    asked = scored(3, demand("first", tasks=3, created=0.0), demand("second", tasks=2, created=1.0))
    decided = plan(asked)
    assert got(decided) == {"first": {"a": 3}}
    after = carry_out(asked, decided)
    assert got(plan(after)) == {}
    (key,) = after.fleet.charges
    freed = replace(after, fleet=after.fleet.apply([Release(key)]))
    assert got(plan(freed)) == {"second": {"a": 2}}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 12), st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=5))
def test_no_decision_takes_more_than_there_is_and_a_second_takes_nothing(total: int, jobs: Any) -> None:
    demands = [
        demand(f"j{number}", tasks=tasks, gang=gang, created=float(number)) for number, (tasks, gang) in enumerate(jobs)
    ]
    asked = scored(total, *demands)
    decided = plan(asked)
    taken = got(decided)
    assert sum(slots for job in taken.values() for slots in job.values()) <= total
    for name in "abc":
        assert sum(job.get(name, 0) for job in taken.values()) <= 3
    assert got(plan(carry_out(asked, decided))) == {}
