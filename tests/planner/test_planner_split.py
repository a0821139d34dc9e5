"""Tasks shared out over slots."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.api.indexset import IndexSet
from hub.planner.split import WAVES, deal, shares


@pytest.mark.parametrize(
    ("tasks", "slots", "expected"),
    [
        (3, [3], [3]),
        (10, [2, 3], [4, 6]),
        (10, [1, 2], [3, 7]),
        (11, [2, 2, 2], [4, 4, 3]),
        (1000, [2, 3], [16, 24]),
        (5, [2, 3], [2, 3]),
    ],
)
def test_in_proportion_and_at_most_so_many_waves(tasks: int, slots: list[int], expected: list[int]) -> None:
    assert shares(tasks, slots) == expected


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 2000))
def test_every_slot_has_a_task_and_none_is_lost(slots: list[int], extra: int) -> None:
    tasks = sum(slots) + extra
    given_out = shares(tasks, slots)
    assert sum(given_out) == min(tasks, WAVES * sum(slots))
    assert all(count <= got <= WAVES * count for count, got in zip(slots, given_out, strict=True))


@given(st.sets(st.integers(0, 60)), st.lists(st.integers(0, 20), max_size=5))
def test_dealing_keeps_the_order_and_gives_each_task_once(tasks: set[int], counts: list[int]) -> None:
    parts = [list(part) for part in deal(IndexSet.of(tasks), counts)]
    dealt = [task for part in parts for task in part]
    assert dealt == sorted(tasks)[: sum(counts)]
    left = len(tasks)
    for part, count in zip(parts, counts, strict=True):
        assert len(part) == min(count, left)
        left -= len(part)
