"""Numbers for people: how even a cohort is, and who waits for what is its own."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kueue_objects import cpu_queue, flavor, local_queue

from hub.api.indexset import IndexSet
from hub.fleet.shape import TaskShape
from hub.queueing.demand import Demand, TaskGroup
from hub.queueing.fairness import evenness, jain, owed
from hub.queueing.ledger import QuotaLedger
from hub.queueing.quotas import Quotas

CPU = ("default", "cpu")


def quotas(**nominal: int) -> Quotas:
    objects: list[dict[str, Any]] = [flavor("default")]
    for name, cpu in nominal.items():
        objects += [cpu_queue(name, cpu, cohort="lab"), local_queue(name, name)]
    return Quotas.parse(objects)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_jain_is_between_one_part_and_one(values: list[float]) -> None:
    assert 1 / len(values) - 1e-9 <= jain(values) <= 1 + 1e-9


@pytest.mark.parametrize(("values", "index"), [([], 1), ([0, 0], 1), ([5, 5, 5], 1), ([1, 0, 0, 0], 0.25)])
def test_jain_at_its_ends(values: list[float], index: float) -> None:
    assert jain(values) == index


@pytest.mark.parametrize(
    ("usage", "waiting", "found"),
    [
        ({}, set(), {}),
        ({"a": {CPU: 4000}}, set(), {}),
        ({"a": {CPU: 4000}, "b": {CPU: 2000}}, set(), {"lab": 1.0}),
        ({"a": {CPU: 4000}}, {"b"}, {"lab": 0.5}),
    ],
)
def test_who_uses_or_wants_something_counts(usage: Any, waiting: set[str], found: dict[str, float]) -> None:
    assert evenness(quotas(a=4, b=2, c=1), usage, waiting) == found


@pytest.mark.parametrize(
    ("used", "cpu", "gang", "is_owed"),
    [(0, 1000, False, True), (3500, 1000, False, False), (3000, 1000, False, True), (3000, 1000, True, False)],
)
def test_what_a_queue_owns_and_does_not_use_is_owed(used: int, cpu: int, gang: bool, is_owed: bool) -> None:
    known = quotas(a=4)
    tasks = (TaskGroup(IndexSet.span(2), 1),)
    demand = Demand("default/x", "u", "default", "a", 0, 0.0, TaskShape((("cpu", cpu),)), tasks, 2, gang=gang)
    assert owed(known, QuotaLedger(known, {"a": {CPU: used}}), demand) is is_owed
    nowhere = Demand("default/x", "u", "default", "none", 0, 0.0, demand.shape, tasks, 2)
    assert not owed(known, QuotaLedger(known, {}), nowhere)
