"""The ledger: worked examples of Kueue's formulas, and laws that hold for every tree."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kueue_objects import cluster_queue, cohort, cpu_queue, flavor, group, quota

from hub.queueing.amount import UNLIMITED
from hub.queueing.ledger import QuotaLedger
from hub.queueing.quotas import Quotas
from hub.queueing.shares import share

CPU = ("default", "cpu")


def parse(*objects: dict[str, Any]) -> Quotas:
    quotas = Quotas.parse([flavor("default"), *objects])
    assert not quotas.problems
    return quotas


def test_a_queue_without_cohort_has_what_it_owns() -> None:
    ledger = QuotaLedger(parse(cpu_queue("q", 4)), {"q": {CPU: 1000}})
    assert ledger.available("q", CPU) == 3000
    assert ledger.potential("q", CPU) == 4000
    assert ledger.available("q", ("default", "memory")) == 0


def test_unused_quota_of_the_cohort_can_be_borrowed() -> None:
    quotas = parse(cpu_queue("a", 4, cohort="c"), cpu_queue("b", 6, cohort="c"))
    ledger = QuotaLedger(quotas, {"b": {CPU: 1000}})
    assert (ledger.available("a", CPU), ledger.potential("a", CPU)) == (9000, 10000)
    ledger.add("a", [(CPU, 9000)])
    assert (ledger.available("a", CPU), ledger.available("b", CPU)) == (0, 0)
    assert (ledger.borrowed("a", CPU), ledger.borrowed("b", CPU)) == (5000, 0)
    ledger.remove("a", [(CPU, 6000)])
    assert ledger.available("b", CPU) == 6000


def test_borrowing_and_lending_limits() -> None:
    quotas = parse(
        cpu_queue("a", 4, borrowing=2, cohort="c"),
        cpu_queue("b", 6, lending=1, cohort="c"),
        cpu_queue("c", 0, cohort="c"),
    )
    ledger = QuotaLedger(quotas, {})
    # a: its 4 and of b's 1 that is lent, 1; c: a's 4 and b's 1.
    assert [ledger.available(q, CPU) for q in "abc"] == [5000, 10000, 5000]
    ledger.add("c", [(CPU, 5000)])
    # What b does not lend stays b's, whatever the cohort owes.
    assert [ledger.available(q, CPU) for q in "abc"] == [0, 5000, 0]
    ledger.add("b", [(CPU, 5000)])
    assert ledger.available("b", CPU) == 0
    ledger.remove("c", [(CPU, 5000)])
    assert [ledger.available(q, CPU) for q in "abc"] == [5000, 5000, 5000]
    assert ledger.potential("a", CPU) == 5000


def test_borrowing_stops_at_the_limit_even_when_more_is_idle() -> None:
    quotas = parse(cpu_queue("a", 4, borrowing=2, cohort="c"), cpu_queue("b", 60, cohort="c"))
    ledger = QuotaLedger(quotas, {"a": {CPU: 3000}})
    assert (ledger.available("a", CPU), ledger.potential("a", CPU)) == (3000, 6000)


def test_limits_of_nested_cohorts_hold_for_all_below_together() -> None:
    def pool(nominal: int, **limits: int) -> dict[str, Any]:
        return group(("default", [quota("cpu", nominal, **limits)]))

    quotas = parse(
        cohort("root", pool(10)),
        cohort("left", pool(2, borrowing=3), parent="root"),
        cohort("right", pool(8, lending=4), parent="root"),
        cpu_queue("l1", 1, cohort="left"),
        cpu_queue("l2", 0, cohort="left"),
        cpu_queue("r1", 0, cohort="right"),
    )
    ledger = QuotaLedger(quotas, {})
    # left owns 2 + 1 and may borrow 3; root has 10 + 3 of left + 4 that right lends; right keeps 4 of its 8.
    assert [ledger.available(q, CPU) for q in ("l1", "l2", "r1")] == [6000, 6000, 21000]
    ledger.add("l1", [(CPU, 4000)])
    assert [ledger.available(q, CPU) for q in ("l1", "l2", "r1")] == [2000, 2000, 17000]
    ledger.add("r1", [(CPU, 17000)])
    assert [ledger.available(q, CPU) for q in ("l1", "l2", "r1")] == [0, 0, 0]
    assert [ledger.potential(q, CPU) for q in ("l1", "l2", "r1")] == [6000, 6000, 21000]


def test_more_used_than_owned_is_no_crash_and_no_room() -> None:
    quotas = parse(cpu_queue("a", 4, cohort="c"), cpu_queue("b", 6, lending=2, cohort="c"))
    ledger = QuotaLedger(quotas, {"a": {CPU: 50_000}, "gone": {CPU: 1}})
    assert ledger.available("a", CPU) == 0
    # Overdrawn as the cohort is, b's own part that it does not lend is its own (Kueue: less what the cohort owes).
    assert ledger.available("b", CPU) == 0
    ledger.remove("a", [(CPU, 44_000)])
    assert ledger.available("b", CPU) == 4000


def test_unlimited_quota_stays_unlimited() -> None:
    quotas = parse(cpu_queue("a", UNLIMITED, cohort="c"), cpu_queue("b", 1, cohort="c"))
    ledger = QuotaLedger(quotas, {"b": {CPU: 10**12}})
    assert ledger.available("a", CPU) == UNLIMITED
    assert ledger.available("b", CPU) == UNLIMITED


def test_share_counts_what_is_borrowed_of_what_can_be_lent() -> None:
    def both(name: str, cpu: int, gpu: int, weight: str = "1") -> dict[str, Any]:
        quotas = group(("default", [quota("cpu", cpu), quota("nvidia.com/gpu", gpu)]))
        return cluster_queue(name, quotas, cohort="c", fairSharing={"weight": weight})

    quotas = parse(both("a", 4, 0), both("b", 4, 4, "2"), both("z", 0, 0, "0"), cpu_queue("alone", 4))
    usage = {"a": {CPU: 5000, ("default", "nvidia.com/gpu"): 1}, "b": {CPU: 4000}, "z": {}}
    ledger = QuotaLedger(quotas, usage)
    tree = quotas.trees["a"]

    def of(queue: str) -> tuple[int, str]:
        found = share(ledger, tree, tree.position[queue])
        return found.weighted, found.resource

    # a borrows 1 of 8 CPUs (125) and 1 of 4 GPUs (250): the GPU is dominant.
    assert of("a") == (250, "nvidia.com/gpu")
    assert of("b") == (0, "")
    ledger.add("b", [(CPU, 3000)])
    # 375 over a weight of 2, rounded up.
    assert of("b") == (188, "cpu")
    assert of("z") == (0, "")
    ledger.add("z", [(CPU, 1)])
    assert of("z") == (UNLIMITED, "cpu")
    alone = quotas.trees["alone"]
    assert share(ledger, alone, 0).weighted == 0


@st.composite
def trees(draw: st.DrawFn) -> Quotas:
    """A random cohort tree of up to three levels, every kind of limit."""

    def pool(rooted: bool) -> dict[str, Any]:
        nominal = draw(st.integers(0, 9))
        limits: dict[str, int] = {}
        if rooted and draw(st.booleans()):
            limits["borrowing"] = draw(st.integers(0, 9))
        if rooted and draw(st.booleans()):
            limits["lending"] = draw(st.integers(0, nominal))
        return group(("default", [quota("cpu", nominal, **limits)]))

    names = [f"c{n}" for n in range(draw(st.integers(1, 4)))]
    objects = []
    for number, name in enumerate(names):
        parent = names[draw(st.integers(0, number - 1))] if number else ""
        if draw(st.booleans()) or parent:
            objects.append(cohort(name, pool(bool(parent)), parent=parent))
    objects += [
        cluster_queue(f"q{n}", pool(True), cohort=draw(st.sampled_from(names))) for n in range(draw(st.integers(1, 5)))
    ]
    return parse(*objects)


def admit(quotas: Quotas, ledger: QuotaLedger, wishes: list[tuple[int, int]]) -> list[tuple[str, int]]:
    """Takes each wish (queue, milli-CPUs) that is available, as a cycle would."""
    queues = sorted(quotas.queues)
    taken = []
    for pick, amount in wishes:
        queue = queues[pick % len(queues)]
        if amount <= ledger.available(queue, CPU):
            ledger.add(queue, [(CPU, amount)])
            taken.append((queue, amount))
    return taken


WISHES = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 12_000)), max_size=25)


@settings(max_examples=150, deadline=None)
@given(trees(), WISHES)
def test_quota_is_never_exceeded_at_any_node(quotas: Quotas, wishes: list[tuple[int, int]]) -> None:
    ledger = QuotaLedger(quotas, {})
    admit(quotas, ledger, wishes)
    for tree in {id(t): t for t in quotas.trees.values()}.values():
        for position, node in enumerate(tree.nodes):
            used = ledger.usage_at(tree, position).get(CPU, 0)
            if node.parent < 0:
                assert used <= node.subtree.get(CPU, 0)
                # All queues together never use more than the whole tree owns.
                everything = sum(other.nominal.get(CPU, 0) for other in tree.nodes)
                assert sum(ledger.used(queue, CPU) for queue in tree.position) <= everything
            elif CPU in node.limits:
                lent = node.subtree.get(CPU, 0) - node.local.get(CPU, 0)
                assert max(0, used - node.local.get(CPU, 0)) <= lent + node.limits[CPU]


@settings(max_examples=150, deadline=None)
@given(trees(), WISHES, st.data())
def test_removing_is_the_inverse_of_adding(quotas: Quotas, wishes: list[tuple[int, int]], data: st.DataObject) -> None:
    ledger = QuotaLedger(quotas, {})
    queues = sorted(quotas.queues)
    fresh = [ledger.available(queue, CPU) for queue in queues]
    taken = admit(quotas, ledger, wishes)
    kept = taken[: data.draw(st.integers(0, len(taken)))]
    for queue, amount in data.draw(st.permutations(taken[len(kept) :])):
        ledger.remove(queue, [(CPU, amount)])
    # The order of the past does not matter: only who holds how much.
    usage: dict[str, dict[tuple[str, str], int]] = {}
    for queue, amount in kept:
        usage.setdefault(queue, {CPU: 0})[CPU] += amount
    again = QuotaLedger(quotas, usage)
    assert [ledger.available(q, CPU) for q in queues] == [again.available(q, CPU) for q in queues]
    if not kept:
        assert [ledger.available(q, CPU) for q in queues] == fresh


@settings(max_examples=100, deadline=None)
@given(trees(), WISHES, st.integers(1, 3000))
def test_taking_never_gives_anyone_more(quotas: Quotas, wishes: list[tuple[int, int]], more: int) -> None:
    ledger = QuotaLedger(quotas, {})
    admit(quotas, ledger, wishes)
    queues = sorted(quotas.queues)
    before = {queue: ledger.available(queue, CPU) for queue in queues}
    for queue in queues:
        assert 0 <= before[queue] <= ledger.potential(queue, CPU)
        if before[queue] >= more:
            ledger.add(queue, [(CPU, more)])
            assert ledger.available(queue, CPU) == before[queue] - more
            assert all(ledger.available(other, CPU) <= before[other] for other in queues)
            ledger.remove(queue, [(CPU, more)])


@pytest.mark.parametrize(("wanted", "paid"), [(10, 4), (3, 3), (0, 0)])
def test_affordable_counts_whole_tasks_of_the_scarcest_resource(wanted: int, paid: int) -> None:
    quotas = parse(cluster_queue("q", group(("default", [quota("cpu", 9), quota("memory", "40Gi")]))))
    ledger = QuotaLedger(quotas, {})
    requests = [(CPU, 2000), (("default", "memory"), 8 * 2**30)]
    assert ledger.affordable("q", requests, wanted) == paid
    assert ledger.possible("q", requests, 4)
    assert not ledger.possible("q", requests, 5)
