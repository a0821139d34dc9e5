"""Limits on time, counted from slices: how long quota was held, who is up, and when somebody may try again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.api.indexset import IndexSet
from hub.jobs.attempt import Attempt, Eviction
from hub.jobs.limits import PodsReady, down, held_time, is_up, overdue, requeue_at, requeues

READY = PodsReady(timeout=60.0, recovery=20.0, backoff_base=10.0, backoff_max=100.0)


def attempt(epoch: int = 1, **fields: Any) -> Attempt:
    values: dict[str, Any] = {"state": "Running", "admitted_at": 100.0} | fields
    return Attempt(epoch, 1, "ash", IndexSet.span(8), 4, f"job-{epoch}", **values)


def timed_out(epoch: int, at: float) -> Attempt:
    return attempt(epoch, state="Evicted", reason="PodsReadyTimeout", finished_at=at)


@pytest.mark.parametrize(
    ("active", "ended", "up"), [(0, 0, False), (3, 0, False), (4, 0, True), (1, 3, True), (0, 4, True), (3, 2, True)]
)
def test_a_slice_is_up_when_as_many_run_or_have_ended_as_may_run(active: int, ended: int, up: bool) -> None:
    assert is_up(attempt(active=active, succeeded=IndexSet.span(ended))) is up


def test_time_runs_from_admission_until_it_is_up_and_from_the_loss_after_that() -> None:
    assert overdue(attempt(active=1), READY, None) == 160.0
    assert overdue(attempt(active=4), READY, None) is None
    assert overdue(attempt(active=1), READY, 500.0) == 520.0
    assert overdue(attempt(active=1), PodsReady(recovery=None), 500.0) is None
    assert overdue(attempt(active=1, eviction=Eviction("Preempted", "", 1.0, 2.0)), READY, None) is None
    assert overdue(attempt(state="Lost"), READY, None) is None


def test_since_when_somebody_is_down_is_remembered_while_it_is() -> None:
    up = down([attempt(active=4), attempt(2, active=1)], {}, 10.0)
    assert up == {1: None}
    lost = down([attempt(active=3)], up, 20.0)
    assert lost == {1: 20.0}
    assert down([attempt(active=3)], lost, 30.0) == {1: 20.0}
    assert down([attempt(active=4)], lost, 40.0) == {1: None}
    assert down([attempt(state="Lost")], lost, 40.0) == {}


@pytest.mark.parametrize(
    ("history", "since", "found"),
    [
        ([], 0, (0, 0.0)),
        ([timed_out(1, 50.0)], 0, (1, 50.0)),
        ([timed_out(1, 50.0), timed_out(2, 90.0)], 0, (2, 90.0)),
        # Two slices that were stopped together are one time.
        ([timed_out(1, 50.2), timed_out(2, 50.4)], 0, (1, 50.4)),
        ([timed_out(1, 50.0), attempt(2, state="Succeeded"), timed_out(3, 90.0)], 0, (1, 90.0)),
        ([timed_out(1, 50.0), attempt(2, active=4)], 0, (0, 0.0)),
        ([timed_out(1, 50.0), attempt(2)], 0, (1, 50.0)),
        ([timed_out(1, 50.0), timed_out(2, 90.0)], 2, (1, 90.0)),
    ],
)
def test_how_often_in_a_row(history: list[Attempt], since: int, found: tuple[int, float]) -> None:
    assert requeues(history, since) == found


@pytest.mark.parametrize(("count", "at"), [(1, 1010.0), (2, 1020.0), (4, 1080.0), (5, 1100.0), (500, 1100.0)])
def test_pauses_double_up_to_their_most(count: int, at: float) -> None:
    assert requeue_at(count, 1000.0, READY) == at


def test_held_time_is_the_union_and_pauses_do_not_count() -> None:
    history = [
        attempt(1, state="Evicted", admitted_at=0.0, finished_at=10.0),
        attempt(2, state="Succeeded", admitted_at=5.0, finished_at=20.0),
        attempt(3, state="Lost", admitted_at=30.0),
        attempt(4, admitted_at=100.0),
    ]
    assert held_time(history, 0, 107.0) == 27.0
    assert held_time(history, 2, 107.0) == 22.0
    assert held_time(history, 5, 107.0) == 0.0


spans = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=8)


@given(spans)
def test_held_time_is_what_a_stopwatch_says(found: list[tuple[int, int]]) -> None:
    history = [
        attempt(n + 1, state="Evicted", admitted_at=float(a), finished_at=float(b)) for n, (a, b) in enumerate(found)
    ]
    seconds = {second for a, b in found for second in range(a, b)}
    assert held_time(history, 0, 1000.0) == len(seconds)
