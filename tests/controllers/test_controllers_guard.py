"""Plugins that raise, hang, block or answer nonsense: each costs itself only; its last good values count a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hub.api.errors import PluginError
from hub.controllers.guard import Guarded
from hub.fleet.changes import ClusterGone, ClusterSeen
from hub.fleet.fleet import Fleet
from hub.fleet.shape import TaskShape
from hub.scoring.combine import admit, rank
from hub.scoring.interface import ScoreRequest, WeightedScorer
from hub.scoring.normalise import Normaliser

FLEET = Fleet.empty().apply(ClusterSeen({"metadata": {"name": name}}) for name in ("a", "b", "c"))
ALL = np.ones(3, np.bool_)


def request(now: float, *, cpu: int = 1) -> ScoreRequest:
    return ScoreRequest(TaskShape(requests=(("cpu", cpu),)), 1, now)


class Plugin:
    name = "mine"
    lower_is_better = True

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.answer = answer
        self.calls = 0

    def score(self, fleet: Fleet, request: ScoreRequest) -> Any:
        self.calls += 1
        return self.answer()


class Bench:
    """A guarded plugin, with a clock in the test's hands and everything that is told about its calls."""

    def __init__(self, answer: Callable[[], Any], **options: Any) -> None:
        self.now = 0.0
        self.told: list[tuple[str, str]] = []
        self.plugin = Plugin(answer)
        self.guarded = Guarded(
            self.plugin,
            watcher=lambda scorer, seconds, problem: self.told.append((scorer, problem)),
            clock=lambda: self.now,
            **options,
        )
        self.asked = 0.0

    def ask(self, fleet: Fleet = FLEET, **options: Any) -> list[float]:
        self.asked += 1
        return self.guarded.score(fleet, request(self.asked, **options)).tolist()


def test_what_it_says_of_itself_is_passed_on_and_a_decision_asks_once_a_shape() -> None:
    bench = Bench(lambda: [1, 2, 3])
    assert bench.ask() == [1.0, 2.0, 3.0]
    bench.guarded.score(FLEET, request(1.0))
    assert bench.plugin.calls == 1
    bench.guarded.score(FLEET, request(1.0, cpu=2))
    bench.ask()
    assert bench.plugin.calls == 3
    assert (bench.guarded.name, bench.guarded.lower_is_better, bench.guarded.ready) == ("mine", True, True)
    assert bench.guarded.coverage == 1.0
    assert not hasattr(bench.guarded, "filter")


def test_one_that_wants_to_is_asked_for_every_choice() -> None:
    bench = Bench(lambda: [1, 2, 3])
    bench.plugin.live = True  # type: ignore[attr-defined]
    guarded = Guarded(bench.plugin)
    for _ in range(3):
        guarded.score(FLEET, request(1.0))
    assert bench.plugin.calls == 3


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda: [1, 2], "answered shape (2,), expected (3,)"),
        (lambda: 7, "answered shape (), expected (3,)"),
        (lambda: [1, float("inf"), 2], "answered an infinite value"),
        (lambda: "words", "ValueError"),
        (lambda: None, "expected (3,)"),
        (lambda: [1, 2, {}], "TypeError"),
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: exec("raise SystemExit(3)"), "SystemExit"),
    ],
)
def test_nonsense_is_unknown_and_said_and_after_some_of_it_nobody_asks_for_a_while(
    answer: Callable[[], Any], said: str
) -> None:
    bench = Bench(answer)
    for _ in range(5):
        with pytest.raises(PluginError, match=r"mine: "):
            bench.ask()
    assert said in bench.guarded.problem
    assert "left alone for 10s" in bench.guarded.problem
    assert bench.plugin.calls == 3
    assert not bench.guarded.ready
    assert [scorer for scorer, _ in bench.told] == ["mine"] * 3
    bench.now = 10.5
    with pytest.raises(PluginError):
        bench.ask()
    assert bench.plugin.calls == 4


def test_last_good_values_count_until_they_are_too_old_and_it_comes_back() -> None:
    answers: list[Any] = [[1, 2, 3]]
    bench = Bench(lambda: answers[0], keep=60.0)
    bench.ask()
    answers[0] = None
    bench.now = 30.0
    assert bench.ask() == [1.0, 2.0, 3.0]
    fewer = FLEET.apply([ClusterGone("b"), ClusterSeen({"metadata": {"name": "d"}})])
    found = bench.ask(fewer)
    assert found[:2] == [1.0, 3.0]
    assert np.isnan(found[2])
    bench.now = 61.0
    with pytest.raises(PluginError):
        bench.ask()
    answers[0] = [4, 5, 6]
    bench.now = 200.0
    assert bench.ask() == [4.0, 5.0, 6.0]
    assert bench.guarded.problem == ""
    assert bench.guarded.ready
    bench.now = 203.0
    assert bench.guarded.age() == 3.0


def test_the_rest_doubles_while_it_fails() -> None:
    bench = Bench(lambda: None)
    rests = []
    for _ in range(4):
        for _ in range(3):
            with pytest.raises(PluginError):
                bench.ask()
        rests.append(bench.guarded.problem.rsplit(" ", 1)[1])
        bench.now += 3600
    assert rests == ["10s", "20s", "40s", "1m20s"]


def test_one_that_blocks_is_waited_for_no_longer_than_its_budget_and_not_asked_while_it_hangs() -> None:
    free = threading.Event()
    bench = Bench(lambda: free.wait(30) and None, budget=0.05)
    started = time.monotonic()
    with pytest.raises(PluginError, match="no answer within 50ms"):
        bench.ask()
    assert time.monotonic() - started < 1
    bench.now = 1000.0
    for _ in range(3):
        with pytest.raises(PluginError):
            bench.ask()
    assert bench.plugin.calls == 1
    free.set()
    hung = bench.guarded._hung
    assert hung is not None
    hung.join(5)
    bench.plugin.answer = lambda: [1, 2, 3]
    assert bench.ask() == [1.0, 2.0, 3.0]


def test_one_that_loops_for_ever_is_interrupted() -> None:
    def loop() -> None:
        while True:
            pass

    bench = Bench(loop, budget=0.05)
    with pytest.raises(PluginError):
        bench.ask()
    hung = bench.guarded._hung
    assert hung is not None
    hung.join(5)
    assert not hung.is_alive()


class Filtering(Plugin):
    def filter(self, fleet: Fleet, request: ScoreRequest) -> Any:
        return self.answer()

    def concerns(self, fleet: Fleet) -> Any:
        return np.array([True, True, False])

    def score(self, fleet: Fleet, request: ScoreRequest) -> Any:
        return [1, 2, 9]


def test_a_filter_keeps_out_whom_it_says_and_nobody_when_it_fails() -> None:
    answers: list[Any] = [np.array([True, False, True])]
    plugin = Filtering(lambda: answers[0])
    plugin.normaliser = Normaliser("none")  # type: ignore[attr-defined]
    entry = WeightedScorer(Guarded(plugin), 1.0)
    mask, by = admit(FLEET, request(1.0), [entry])
    assert mask is not None
    assert (mask.tolist(), by) == ([True, False, True], {1: "mine"})
    answers[0] = [1, 0, 1]
    mask, by = admit(FLEET, request(2.0), [entry])
    assert mask is not None
    # Its last good answer.
    assert mask.tolist() == [True, False, True]
    fresh = WeightedScorer(Guarded(plugin), 1.0)
    mask, by = admit(FLEET, request(3.0), [fresh])
    assert mask is not None
    assert (mask.all(), by) == (True, {})
    ranking = rank(FLEET, request(3.0), [fresh], ALL)
    assert ranking.columns[0].normalised.tolist() == [99.0, 98.0, 98.5]
    assert "expected a mask of 3 booleans" in ranking.problems["mine"]


def test_without_filters_there_is_no_mask() -> None:
    assert admit(FLEET, request(1.0), [WeightedScorer(Plugin(lambda: [1, 2, 3]), 1.0)]) == (None, {})
