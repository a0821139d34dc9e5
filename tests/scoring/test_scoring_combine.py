"""How scores become one order: unknown stays last, nobody's nonsense reaches the others, the order is total."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.fleet.changes import ClusterSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.scoring.combine import UNKNOWN, Ranking, rank
from hub.scoring.interface import ScoreRequest, WeightedScorer

NAN = math.nan
REQUEST = ScoreRequest(TaskShape(), 1, 0.0)


class Says:
    def __init__(self, name: str, answer: Any, *, lower: bool = False) -> None:
        self.name = name
        self.answer = answer
        self.lower_is_better = lower

    def score(self, fleet: Fleet, request: ScoreRequest) -> Any:
        return self.answer(fleet, request) if callable(self.answer) else self.answer


def fleet_of(count: int) -> Fleet:
    return Fleet.empty().apply(ClusterSeen({"metadata": {"name": f"c{i}"}}) for i in range(count))


def ranked(
    *columns: tuple[Sequence[float], float], lower: bool = False, among: Sequence[bool] | None = None
) -> Ranking:
    count = len(columns[0][0])
    scorers = [WeightedScorer(Says(f"s{i}", np.array(v), lower=lower), w) for i, (v, w) in enumerate(columns)]
    return rank(fleet_of(count), REQUEST, scorers, np.array(among if among is not None else [True] * count))


@pytest.mark.parametrize(
    ("values", "weight", "lower", "normalised", "order"),
    [
        ([1, 3, 2], 1, False, [0, 100, 50], "c1 c2 c0"),
        ([1, 3, 2], 1, True, [100, 0, 50], "c0 c2 c1"),
        ([1, 3, 2], -1, False, [100, 0, 50], "c0 c2 c1"),
        ([1, 3, 2], -1, True, [0, 100, 50], "c1 c2 c0"),
        ([5, 5, 5], 1, False, [100, 100, 100], "c0 c1 c2"),
        ([NAN, 3, -3], 1, False, [NAN, 100, 0], "c1 c2 c0"),
        ([NAN, 3, -3], -1, False, [NAN, 0, 100], "c2 c1 c0"),
        ([NAN, 3, 3], 1, True, [NAN, 100, 100], "c1 c2 c0"),
        ([NAN, NAN, NAN], 1, False, [NAN, NAN, NAN], "c0 c1 c2"),
        ([-1e308, 1e308, 0], 1, False, [0, 100, 50], "c1 c2 c0"),
        # Differences too small to tell apart are none; the smallest that are not, are.
        ([0, 5e-324, 0], 1, False, [100, 100, 100], "c0 c1 c2"),
        ([0, 1e-320, 0], 1, False, [0, 100, 0], "c1 c0 c2"),
    ],
)
def test_one_scorer(values: list[float], weight: float, lower: bool, normalised: list[float], order: str) -> None:
    ranking = ranked((values, weight), lower=lower)
    assert " ".join(ranking.ordered) == order
    assert np.array_equal(ranking.columns[0].normalised, normalised, equal_nan=True)


def test_weights_add_up_and_everything_is_kept() -> None:
    ranking = ranked(([0, 10, 5], 1.0), ([8, 0, NAN], 2.0))
    first, second = ranking.columns
    assert first.weighted.tolist() == [0, 100, 50]
    assert second.weighted.tolist() == [200, 0, 2 * UNKNOWN]
    assert ranking.total.tolist() == [200, 100, 48]
    assert ranking.order.tolist() == [0, 1, 2]
    assert (second.name, second.weight, second.raw.tolist()[:2]) == ("s1", 2.0, [8, 0])


def test_only_candidates_are_compared() -> None:
    ranking = ranked(([100, 1, 2, 3], 1.0), among=[False, True, False, True])
    assert ranking.ordered == ("c3", "c1")
    assert np.array_equal(ranking.total, [NAN, 0, NAN, 100], equal_nan=True)
    assert np.array_equal(ranking.columns[0].normalised, [NAN, 0, NAN, 100], equal_nan=True)
    assert ranked(([1, 2], 1.0), among=[False, False]).ordered == ()


def test_without_scorers_names_decide() -> None:
    assert rank(fleet_of(3), REQUEST, (), np.array([True, False, True])).ordered == ("c0", "c2")
    assert ranked(([1, 2], 0.0)).columns == ()


def _raises(fleet: Fleet, request: ScoreRequest) -> Any:
    raise RuntimeError("no luck")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (_raises, "RuntimeError: no luck"),
        (np.zeros(2), "answered shape (2,), expected (3,)"),
        (np.zeros((3, 1)), "answered shape (3, 1), expected (3,)"),
        (np.array([1.0, math.inf, 0.0]), "answered an infinite value for c1"),
        ("words", "ValueError: "),
        (None, "answered shape (), expected (3,)"),
        ([1, 2, {}], "TypeError: "),
    ],
)
def test_a_broken_scorer_costs_itself_only(answer: Any, problem: str) -> None:
    good = WeightedScorer(Says("good", np.array([1.0, 2.0, 3.0])), 1.0)
    bad = WeightedScorer(Says("bad", answer), 5.0)
    ranking = rank(fleet_of(3), REQUEST, [bad, good], np.ones(3, np.bool_))
    assert ranking.problems.keys() == {"bad"}
    assert ranking.problems["bad"].startswith(problem)
    assert np.isnan(ranking.columns[0].raw[1])
    if not isinstance(answer, np.ndarray) or answer.shape != (3,):
        assert ranking.ordered == ("c2", "c1", "c0")


COLUMNS = st.integers(1, 6).flatmap(
    lambda n: st.tuples(
        st.lists(
            st.tuples(
                st.lists(st.floats(allow_infinity=False), min_size=n, max_size=n), st.integers(-10, 10), st.booleans()
            ),
            max_size=3,
        ),
        st.lists(st.booleans(), min_size=n, max_size=n),
    )
)


@settings(max_examples=200, deadline=None)
@given(COLUMNS)
def test_laws(case: tuple[list[tuple[list[float], int, bool]], list[bool]]) -> None:
    columns, among = case
    fleet = fleet_of(len(among))
    scorers = [WeightedScorer(Says(f"s{i}", np.array(v), lower=low), w) for i, (v, w, low) in enumerate(columns)]
    ranking = rank(fleet, REQUEST, scorers, np.array(among))
    # Every candidate once, best first, equals by name.
    assert sorted(ranking.order.tolist()) == [i for i, chosen in enumerate(among) if chosen]
    keys = [(-ranking.total[i], fleet.names[i]) for i in ranking.order.tolist()]
    assert keys == sorted(keys)
    for column in ranking.columns:
        known = ~np.isnan(column.normalised)
        assert ((column.normalised[known] >= 0) & (column.normalised[known] <= 100)).all()
        unknown = np.array(among) & ~known
        if known.any() and unknown.any():
            assert column.weighted[unknown].max() < column.weighted[known].min()
    # The others' order does not move when the last is taken away.
    again = rank(fleet, REQUEST, scorers, np.array(among))
    assert again.order.tolist() == ranking.order.tolist()


def test_callables_see_what_is_asked() -> None:
    asked: list[tuple[Fleet, ScoreRequest]] = []
    answer: Callable[[Fleet, ScoreRequest], Any] = lambda f, r: asked.append((f, r)) or np.zeros(1)  # noqa: E731
    fleet = fleet_of(1)
    rank(fleet, REQUEST, [WeightedScorer(Says("s", answer), 1.0)], np.ones(1, np.bool_))
    assert asked == [(fleet, REQUEST)]
