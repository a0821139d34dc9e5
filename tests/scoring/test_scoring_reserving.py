"""Ledgers of scorers: always those of the fleet that is asked about, however it was reached."""

from __future__ import annotations

import types
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scorer_examples import Licences, PowerBudget

from hub.api.errors import PluginError
from hub.fleet.changes import Charge, ClusterGone, ClusterSeen, Release
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.scoring.contract import check
from hub.scoring.interface import ScoreRequest
from hub.scoring.plugins import GROUP, discover
from hub.scoring.reserving import Reserving

TASK = TaskShape((("cpu", 1000),))
OTHER = TaskShape((("memory", 1),))
START = Fleet.empty().apply(ClusterSeen({"metadata": {"name": name}}) for name in ("a", "b", "c"))


def ask(scorer: Any, fleet: Fleet) -> list[int]:
    found: list[int] = scorer.limit(fleet, ScoreRequest(TASK, 1, 0.0)).tolist()
    return found


def test_it_is_told_of_what_is_held_before_it_is_asked() -> None:
    ledger = Licences()
    scorer = Reserving(lambda: ledger)
    assert ask(scorer, START) == [10, 10, 10]
    one = START.apply([Charge("w1", "a", TASK, 3), Charge("w2", "b", OTHER, 9)])
    assert ask(scorer, one) == [7, 7, 7]
    assert ask(scorer, one) == [7, 7, 7]
    assert ledger.told == [("reserve", "a", 3), ("reserve", "b", 9)]
    # A decision that is thrown away is taken back by asking about what was before.
    assert ask(scorer, one.apply([Charge("cycle/1", "c", TASK, 5)])) == [2, 2, 2]
    assert ask(scorer, one) == [7, 7, 7]
    assert ledger.told[2:] == [("reserve", "c", 5), ("unreserve", "c", 5)]
    # Task by task, and then all of it.
    assert ask(scorer, one.apply([Charge("w1", "a", TASK, 1)])) == [9, 9, 9]
    assert ask(scorer, one.apply([Release("w1")])) == [10, 10, 10]


def test_what_a_cluster_held_that_left_is_given_back_and_its_return_reserves_it_again() -> None:
    scorer = Reserving(Licences)
    held = START.apply([Charge("w", "b", TASK, 4)])
    assert ask(scorer, held) == [6, 6, 6]
    assert ask(scorer, held.apply([ClusterGone("b")])) == [10, 10]
    assert ask(scorer, held) == [6, 6, 6]


steps = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from("abc"), st.sampled_from([TASK, OTHER]), st.integers(0, 4)), max_size=20
)


@settings(max_examples=60)
@given(steps, st.lists(st.integers(0, 20), max_size=10))
def test_a_ledger_is_that_of_the_fleet_however_it_was_reached(moves: Any, visits: list[int]) -> None:
    fleets = [START]
    for key, cluster, shape, count in moves:
        fleets.append(fleets[-1].apply([Charge(str(key), cluster, shape, count)]))
    for make in (Licences, PowerBudget):
        travelled = Reserving(make)
        for visit in visits:
            fleet = fleets[visit % len(fleets)]
            assert ask(travelled, fleet) == ask(Reserving(make), fleet)


def test_one_that_fails_in_the_midst_of_it_begins_anew() -> None:
    broken = [True]

    class Failing(Licences):
        def reserve(self, cluster: str, request: ScoreRequest) -> None:
            super().reserve(cluster, request)
            if cluster == "b" and broken[0]:
                raise RuntimeError("no answer from the licence server")

    scorer = Reserving(Failing)
    held = START.apply([Charge("w1", "a", TASK, 1), Charge("w2", "b", TASK, 2)])
    for _ in range(3):
        with pytest.raises(RuntimeError, match="licence server"):
            ask(scorer, held)
    broken[0] = False
    assert ask(scorer, held) == [7, 7, 7]


@pytest.mark.parametrize("make", [Licences, PowerBudget])
def test_examples_keep_the_contract(make: Any) -> None:
    findings = check(make)
    assert [found for found in findings if found.problem] == []
    assert "what is reserved is given back whole, in any order" in [found.check for found in findings]


class Leaks(Licences):
    def unreserve(self, cluster: str, request: ScoreRequest) -> None:
        self.used = max(0, self.used - 1)


class Ordered(Licences):
    def reserve(self, cluster: str, request: ScoreRequest) -> None:
        self.used = self.used * 2 % 7 + request.count


class Half(Licences):
    unreserve = None  # type: ignore[assignment]


class Negative(Licences):
    def limit(self, fleet: Fleet, request: ScoreRequest) -> Any:
        return super().limit(fleet, request) - 11


@pytest.mark.parametrize(
    ("make", "title", "said"),
    [
        (Leaks, "what is reserved is given back whole, in any order", "what was given back is not there again"),
        (Ordered, "what is reserved is given back whole, in any order", "says another thing"),
        (Half, "it can be made", "needs unreserve too"),
        (Negative, "an empty fleet", ""),
    ],
)
def test_a_ledger_that_is_wrong_is_found(make: Any, title: str, said: str) -> None:
    problems = {found.check: found.problem for found in check(make) if found.problem}
    if make is Negative:
        assert "numbers from 0" in next(iter(problems.values()))
        return
    assert said in problems[title]


def test_plugins_that_reserve_are_made_anew_when_they_must(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    module = types.ModuleType("reserving_of_a_test")
    module.licences, module.instance, module.half = Licences, Licences(), Half  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "reserving_of_a_test", module)
    points = [EntryPoint(name, f"reserving_of_a_test:{name}", GROUP) for name in ("licences", "instance", "half")]
    found = discover(found=points[:1], settings={"licences": {"total": 2}})
    (entry,) = found.scorers
    assert isinstance(entry.scorer, Reserving)
    assert ask(entry.scorer, START) == [2, 2, 2]
    assert (entry.scorer.name, entry.scorer.live) == ("licences", True)
    problems = discover(found=points[1:]).problems
    assert "must be a class" in problems["instance"]
    assert "needs unreserve too" in problems["half"]
    with pytest.raises(PluginError, match="needs unreserve"):
        Reserving(Half)
