"""Each of Kueue's rules on the smallest cohort that shows it."""

from __future__ import annotations

from typing import Any

import pytest
from kueue_objects import cluster_queue, cohort, cpu_queue, flavor, group, local_queue, namespace, quota
from kueue_scene import FAIR, TAKES_ALL, admitted, holds, parked, pod_set, preempted, reason, scene, wl

from hub.api.reasons import Reason
from hub.fleet.shape import Toleration
from hub.queueing.kueue.history import Past
from hub.queueing.kueue.settings import FINAL, INITIAL, Settings, UsageHistory
from hub.queueing.kueue.workload import NodeRequirement


def two_flavors(first: Any, second: Any, **spec: Any) -> dict[str, Any]:
    return cluster_queue("q", group(("a", [quota("cpu", *first)]), ("b", [quota("cpu", *second)])), **spec)


def flavors_of(outcome: Any) -> list[str]:
    return [choice.flavor for entry in outcome.admitted for p in entry.pod_sets for choice in p.flavors.values()]


# Heads.


def test_one_head_of_every_queue_a_cycle_by_priority_then_age() -> None:
    waiting = [wl("old", "q", at=1), wl("young", "q", at=2), wl("high", "q", priority=5, at=3), wl("other", "r", at=9)]
    scheduler = scene([cpu_queue("q", 10), cpu_queue("r", 10)], waiting)
    assert [admitted(scheduler.cycle(1.0)) for _ in range(4)] == [["high", "other"], ["old"], ["young"], []]


def test_a_strict_head_blocks_and_another_makes_room() -> None:
    waiting = [wl("big", "q", 5, at=1), wl("small", "q", 1, at=2)]
    strict = scene([cpu_queue("q", 2, queueingStrategy="StrictFIFO")], waiting)
    assert [admitted(strict.cycle(1.0)), admitted(strict.cycle(2.0))] == [[], []]
    assert reason(strict, "small") == "PendingEvaluation"
    relaxed = scene([cpu_queue("q", 2)], waiting)
    assert [admitted(relaxed.cycle(1.0)), admitted(relaxed.cycle(2.0))] == [[], ["small"]]
    assert reason(relaxed, "big") == "ExceedsMaxQuota"
    assert parked(relaxed) == {"big"}


def test_all_that_are_alike_are_parked_with_one_of_them() -> None:
    waiting = [wl(f"big{n}", "q", 5, at=n) for n in range(9)] + [wl("small", "q", 1, at=99)]
    scheduler = scene([cpu_queue("q", 2)], waiting)
    scheduler.cycle(1.0)
    assert parked(scheduler) == {f"big{n}" for n in range(9)}
    assert reason(scheduler, "big8") == "ExceedsMaxQuota"
    assert admitted(scheduler.cycle(2.0)) == ["small"]


def test_what_ends_wakes_its_tree_and_no_other() -> None:
    queues = [cpu_queue("q", 2, cohort="c"), cpu_queue("r", 0, cohort="c"), cpu_queue("s", 2)]
    held = [holds(wl("one", "q", 2))]
    scheduler = scene(queues, [wl("waits", "r", 2), wl("huge", "s", 3)], held)
    assert not admitted(scheduler.cycle(1.0))
    assert parked(scheduler) == {"waits", "huge"}
    scheduler.roster.finish(["default/one"])
    assert parked(scheduler) == {"huge"}
    assert admitted(scheduler.cycle(2.0)) == ["waits"]


# Quota.


@pytest.mark.parametrize(
    ("lender", "borrower", "wanted", "why"),
    [
        ((4,), (2,), 6, ""),
        ((4,), (2, 1), 3, ""),
        ((4,), (2, 1), 4, "ExceedsMaxQuota"),
        ((4, None, 1), (2,), 3, ""),
        ((4, None, 1), (2,), 4, "ExceedsMaxQuota"),
        ((4, None, 0), (2,), 3, "ExceedsMaxQuota"),
    ],
)
def test_borrowing_and_lending_limits(lender: Any, borrower: Any, wanted: int, why: str) -> None:
    queues = [cpu_queue("lender", *lender, cohort="c"), cpu_queue("q", *borrower, cohort="c")]
    scheduler = scene(queues, [wl("w", "q", wanted)])
    assert bool(admitted(scheduler.cycle(1.0))) is (not why)
    if why:
        assert reason(scheduler, "w") == why


def test_heads_that_borrow_less_come_first() -> None:
    queues = [cpu_queue("q", 1, cohort="c"), cpu_queue("r", 3, cohort="c")]
    waiting = [wl("borrows", "q", 3, priority=9, at=1), wl("owns", "r", 3, at=2)]
    scheduler = scene(queues, waiting)
    assert admitted(scheduler.cycle(1.0)) == ["owns"]
    assert reason(scheduler, "borrows") == "PendingEvaluation"
    assert not parked(scheduler), "who lost a race is asked again at once"


# Flavors.


@pytest.mark.parametrize(
    ("first", "second", "borrowing", "chosen"),
    [
        ((4,), (4,), "MayStopSearch", "a"),
        ((1,), (4,), "MayStopSearch", "a"),
        ((1,), (4,), "TryNextFlavor", "b"),
        ((1,), (1,), "TryNextFlavor", "a"),
        ((0, 0), (1,), "MayStopSearch", "b"),
    ],
)
def test_borrowing_ends_the_search_or_not(first: Any, second: Any, borrowing: str, chosen: str) -> None:
    queue = two_flavors(first, second, cohort="c", flavorFungibility={"whenCanBorrow": borrowing})
    lender = cluster_queue("lender", group(("a", [quota("cpu", 9)]), ("b", [quota("cpu", 9)])), cohort="c")
    scheduler = scene([queue, lender], [wl("w", "q", 2)], flavors=[flavor("a"), flavor("b")])
    assert flavors_of(scheduler.cycle(1.0)) == [chosen]


@pytest.mark.parametrize(
    ("preempting", "preference", "victims", "taken"),
    [
        # `a` needs a preemption, `b` is borrowed.
        ("MayStopSearch", None, {"low": "InClusterQueue"}, []),
        ("TryNextFlavor", None, {}, ["b"]),
        ("TryNextFlavor", "BorrowingOverPreemption", {}, ["b"]),
        ("TryNextFlavor", "PreemptionOverBorrowing", {"low": "InClusterQueue"}, []),
    ],
)
def test_preempting_ends_the_search_or_not(
    preempting: str, preference: str | None, victims: dict[str, str], taken: list[str]
) -> None:
    fungibility = {"whenCanPreempt": preempting, "whenCanBorrow": "TryNextFlavor"} | (
        {"preference": preference} if preference else {}
    )
    queue = two_flavors((2, 0), (0,), cohort="c", flavorFungibility=fungibility, preemption=TAKES_ALL)
    lender = cluster_queue("lender", group(("b", [quota("cpu", 9)])), cohort="c")
    held = [holds(wl("low", "q", 2), flavor="a")]
    scheduler = scene([queue, lender], [wl("w", "q", 2, priority=1)], held, flavors=[flavor("a"), flavor("b")])
    outcome = scheduler.cycle(1.0)
    assert (preempted(outcome), flavors_of(outcome)) == (victims, taken)


def test_of_flavors_without_candidates_the_one_that_borrows_less_is_kept_for_it() -> None:
    queue = two_flavors((1,), (3,), cohort="c", preemption=TAKES_ALL | {"reclaimWithinCohort": "LowerPriority"})
    other = cluster_queue("r", group(("a", [quota("cpu", 4)]), ("b", [quota("cpu", 0)])), cohort="c")
    held = [
        holds(wl("one", "r", 5), flavor="a"),
        holds(wl("two", "r", 2), flavor="b"),
    ]
    waiting = [wl("w", "q", 2, at=1), wl("x", "r", 1, at=2)]
    scheduler = scene([queue, other], waiting, held, flavors=[flavor("a"), flavor("b")])
    assert not admitted(scheduler.cycle(1.0)), "what is left of b is not x's"
    assert reason(scheduler, "w") == "WaitingForQuota"


@pytest.mark.parametrize(
    ("wishes", "chosen"),
    [
        ({}, ["plain"]),
        ({"selector": (("zone", "eu"),)}, ["plain"]),
        ({"selector": (("disk", "ssd"),)}, []),
        ({"selector": (("disk", "ssd"),), "tolerations": (Toleration("spot", "Exists"),)}, ["spot"]),
        ({"terms": ((NodeRequirement("disk", "In", ("hdd",)),),)}, ["plain"]),
        ({"terms": ((NodeRequirement("disk", "NotIn", ("hdd",)),),)}, []),
        ({"terms": ((NodeRequirement("disk", "DoesNotExist"),),)}, []),
        ({"terms": ((NodeRequirement("disk", "DoesNotExist"),), (NodeRequirement("gen", "Gt", ("3",)),))}, []),
        ({"terms": ((NodeRequirement("gen", "Gt", ("1",)),),)}, ["plain"]),
        ({"terms": ((NodeRequirement("gen", "Lt", ("x",)),),)}, []),
        ({"terms": ((NodeRequirement("disk", "DoesNotExist"),), (NodeRequirement("zone", "In", ("eu",)),))}, ["plain"]),
        ({"terms": ((NodeRequirement("disk", "Exists"),),)}, ["plain"]),
    ],
)
def test_a_flavor_is_held_against_its_own_labels_and_taints(wishes: dict[str, Any], chosen: list[str]) -> None:
    flavors = [
        flavor("spot", nodeLabels={"disk": "ssd"}, nodeTaints=[{"key": "spot", "effect": "NoSchedule"}]),
        flavor("plain", nodeLabels={"disk": "hdd", "gen": "3"}),
    ]
    queue = cluster_queue("q", group(("spot", [quota("cpu", 9)]), ("plain", [quota("cpu", 9)])))
    scheduler = scene([queue], [wl("w", "q", pod_sets=(pod_set("main", 1, **wishes),))], flavors=flavors)
    assert flavors_of(scheduler.cycle(1.0)) == chosen
    if not chosen:
        assert reason(scheduler, "w") == "NoMatchingFlavor"


def test_pod_sets_share_what_there_is_and_a_group_shares_its_flavor() -> None:
    queue = two_flavors((3,), (9,))
    flavors = [flavor("a"), flavor("b")]
    apart = (pod_set("head", 2), pod_set("rest", 1, 4))
    outcome = scene([queue], [wl("w", "q", pod_sets=apart)], flavors=flavors).cycle(1.0)
    assert flavors_of(outcome) == ["a", "b"]
    together = (pod_set("head", 2, group="g"), pod_set("rest", 1, 4, group="g"))
    outcome = scene([queue], [wl("w", "q", pod_sets=together)], flavors=flavors).cycle(1.0)
    assert flavors_of(outcome) == ["b", "b"]
    assert dict(outcome.admitted[0].amounts) == {("b", "cpu"): 6000}


def test_pods_and_resources_that_nobody_covers() -> None:
    queue = cluster_queue("q", group(("default", [quota("cpu", 9), quota("pods", 3)])))
    scheduler = scene([queue], [wl("w", "q", 1, count=4), wl("x", "q", 1, count=3, at=1)])
    assert [admitted(scheduler.cycle(1.0)), admitted(scheduler.cycle(2.0))] == [[], ["x"]]
    bare = scene([cluster_queue("q", group(("default", [quota("memory", 9)])))], [wl("w", "q")])
    bare.cycle(1.0)
    assert reason(bare, "w") == "NoMatchingFlavor"
    assert (
        bare.roster.verdicts["default/w"].message
        == "no flavor of ClusterQueue q offers cpu to this job: it covers memory"
    )


def test_the_walk_over_the_flavors_goes_on_where_it_was_left() -> None:
    """Both heads see `a` free; who loses it looks at `b` next time, not at `a` again."""
    groups = group(("a", [quota("cpu", 1)]), ("b", [quota("cpu", 1)]))
    shared = cohort("c", group(("a", [quota("cpu", 2)]), ("b", [quota("cpu", 2)])))
    queues = [cluster_queue("q", groups, cohort="c"), cluster_queue("r", groups, cohort="c"), shared]
    waiting = [wl("w", "q", 3, at=1), wl("x", "r", 3, at=2)]
    scheduler = scene(queues, waiting, flavors=[flavor("a"), flavor("b")])
    first = scheduler.cycle(1.0)
    assert (admitted(first), flavors_of(first)) == (["w"], ["a"])
    second = scheduler.cycle(2.0)
    assert (admitted(second), flavors_of(second)) == (["x"], ["b"])


# Partial admission.


def test_fewer_pods_where_fewer_do() -> None:
    outcome = scene([cpu_queue("q", 3)], [wl("w", "q", 1, count=8, minimum=2)]).cycle(1.0)
    assert outcome.admitted[0].pod_sets[0].count == 3
    assert not admitted(scene([cpu_queue("q", 1)], [wl("w", "q", 1, count=8, minimum=2)]).cycle(1.0))


def test_fewer_pods_by_preempting() -> None:
    queue = cpu_queue("q", 4, preemption=TAKES_ALL)
    held = [holds(wl("low", "q", 2)), holds(wl("high", "q", 2, priority=9))]
    scheduler = scene([queue], [wl("w", "q", 1, priority=5, count=4, minimum=1)], held)
    assert preempted(scheduler.cycle(1.0)) == {"low": "InClusterQueue"}
    outcome = scheduler.cycle(2.0)
    assert [(e.workload.uid, e.pod_sets[0].count) for e in outcome.admitted] == [("w", 2)]


# Classical preemption.


@pytest.mark.parametrize(
    ("policy", "priority", "at", "goes"),
    [
        ("Never", 5, 0, False),
        ("LowerPriority", 5, 9, True),
        ("LowerPriority", 0, 0, False),
        ("LowerOrNewerEqualPriority", 0, 0, True),
        ("LowerOrNewerEqualPriority", 0, 9, False),
        ("LowerOrNewerEqualPriority", -1, 0, False),
    ],
)
def test_within_the_queue(policy: str, priority: int, at: float, goes: bool) -> None:
    queue = cpu_queue("q", 2, preemption={"withinClusterQueue": policy})
    scheduler = scene([queue], [wl("w", "q", 2, priority, at)], [holds(wl("held", "q", 2, 0, at=5))])
    assert preempted(scheduler.cycle(1.0)) == ({"held": "InClusterQueue"} if goes else {})


@pytest.mark.parametrize(
    ("policy", "priority", "goes"),
    [("Never", 5, False), ("LowerPriority", 0, False), ("LowerPriority", 1, True), ("Any", -5, True)],
)
def test_reclaiming_what_others_borrowed(policy: str, priority: int, goes: bool) -> None:
    queues = [
        cpu_queue("q", 2, cohort="c", preemption={"reclaimWithinCohort": policy}),
        cpu_queue("r", 2, cohort="c"),
    ]
    held = [holds(wl("own", "r", 2, at=1), at=1), holds(wl("borrows", "r", 2, at=2), at=2)]
    scheduler = scene(queues, [wl("w", "q", 2, priority)], held)
    assert preempted(scheduler.cycle(1.0)) == ({"borrows": "InCohortReclamation"} if goes else {})


@pytest.mark.parametrize(
    ("threshold", "victim", "why"),
    [
        (None, 3, "InCohortReclaimWhileBorrowing"),
        (None, 5, ""),
        (2, 3, ""),
        (3, 3, "InCohortReclaimWhileBorrowing"),
    ],
)
def test_borrowing_while_preempting(threshold: int | None, victim: int, why: str) -> None:
    borrow = {"policy": "LowerPriority"} | ({} if threshold is None else {"maxPriorityThreshold": threshold})
    policy = {"reclaimWithinCohort": "Any", "borrowWithinCohort": borrow}
    queues = [
        cpu_queue("q", 1, cohort="c", preemption=policy),
        cpu_queue("r", 1, cohort="c"),
        cpu_queue("s", 2, cohort="c"),
    ]
    scheduler = scene(queues, [wl("w", "q", 3, 5)], [holds(wl("held", "r", 4, victim))])
    assert preempted(scheduler.cycle(1.0)) == ({"held": why} if why else {})


def test_the_better_right_in_the_tree_needs_no_priority() -> None:
    """Cohort `left` owns what `r` of cohort `right` borrowed, and takes it back for its queue that owns nothing."""
    objects = [
        cohort("top"),
        cohort("left", group(("default", [quota("cpu", 2)])), parent="top"),
        cohort("right", parent="top"),
        cpu_queue("q", 0, cohort="left", preemption={"reclaimWithinCohort": "Any"}),
        cpu_queue("r", 0, cohort="right"),
    ]
    scheduler = scene(objects, [wl("w", "q", 2, 0)], [holds(wl("held", "r", 2, 9))])
    assert preempted(scheduler.cycle(1.0)) == {"held": "InCohortReclamation"}


def test_victims_come_in_order_and_who_is_not_needed_is_spared() -> None:
    """Evicted ones first, then the lowest priority, then the newest; who is too small is spared."""
    queue = cpu_queue("q", 6, preemption={"withinClusterQueue": "LowerPriority"})
    held = [
        holds(wl("small", "q", 1, 0), at=1),
        holds(wl("middle", "q", 2, 1, at=1), at=1),
        holds(wl("newer", "q", 2, 1, at=2), at=2),
        holds(wl("high", "q", 1, 3), at=9),
    ]
    assert preempted(scene([queue], [wl("w", "q", 2, 9)], held).cycle(1.0)) == {"newer": "InClusterQueue"}
    leaving = [*held[:3], holds(wl("high", "q", 1, 3), at=9, evicted=True)]
    victims = preempted(scene([queue], [wl("w", "q", 2, 9)], leaving).cycle(1.0))
    assert victims == {"high": "InClusterQueue", "small": "InClusterQueue"}


def test_others_give_first_as_long_as_that_needs_no_borrowing() -> None:
    queues = [
        cpu_queue("q", 3, cohort="c", preemption={"reclaimWithinCohort": "Any", "withinClusterQueue": "LowerPriority"}),
        cpu_queue("r", 1, cohort="c"),
    ]
    held = [holds(wl(name, name[0], 1), at=at) for name, at in (("q1", 1), ("q2", 2), ("r1", 1), ("r2", 2))]
    victims = preempted(scene(queues, [wl("w", "q", 2, 5)], held).cycle(1.0))
    assert victims == {"r2": "InCohortReclamation", "q2": "InClusterQueue"}


def test_a_stopped_queue_keeps_its_quota_and_is_left_alone() -> None:
    queues = [
        cpu_queue("q", 2, cohort="c", preemption=TAKES_ALL),
        cpu_queue("r", 2, cohort="c", stopPolicy="Hold"),
    ]
    scheduler = scene(queues, [wl("w", "q", 2), wl("x", "r", 1)], [holds(wl("held", "r", 4))])
    outcome = scheduler.cycle(1.0)
    assert (preempted(outcome), admitted(outcome), reason(scheduler, "x")) == ({}, [], "Suspended")


def test_victims_are_back_in_their_place_and_the_preemptor_stays_in_front() -> None:
    queue = cpu_queue("q", 2, preemption=TAKES_ALL)
    held = [holds(wl("held", "q", 2, 0, at=1), at=1)]
    scheduler = scene([queue], [wl("w", "q", 2, 5, at=2), wl("later", "q", 2, 0, at=3)], held)
    assert preempted(scheduler.cycle(1.0)) == {"held": "InClusterQueue"}
    assert reason(scheduler, "w") == "WaitingForPreemptedWorkloads"
    assert admitted(scheduler.cycle(2.0)) == ["w"]
    scheduler.roster.finish(["default/w"])
    assert admitted(scheduler.cycle(3.0)) == ["held"], "older than `later`"


def test_two_heads_after_the_same_victim() -> None:
    """The second looks for others in the same flavors, and waits with the first if there is enough for both."""
    queues = [cpu_queue(name, 2, cohort="c", preemption={"reclaimWithinCohort": "Any"}) for name in ("q", "r")]
    waiting = [wl("w", "q", 2, at=1), wl("x", "r", 2, at=2)]
    borrower = cpu_queue("s", 0, cohort="c")
    one = scene([*queues, borrower], waiting, [holds(wl("both", "s", 4))])
    assert preempted(one.cycle(1.0)) == {"both": "InCohortReclamation"}
    assert reason(one, "x") == "WaitingForPreemptedWorkloads"
    assert one.roster.verdicts["default/x"].message == "waits until the victims of others have given their quota back"
    assert sorted(admitted(one.cycle(2.0))) == ["w", "x"]
    held = [holds(wl("new", "s", 2), at=2), holds(wl("old", "s", 2), at=1)]
    two = scene([*queues, borrower], waiting, held)
    assert preempted(two.cycle(1.0)) == {"new": "InCohortReclamation", "old": "InCohortReclamation"}


def test_a_head_that_cannot_reclaim_keeps_its_quota_from_others() -> None:
    """`w` needs a preemption that it may not make; what is free of its own quota is not lent to `x` meanwhile."""
    for policy, taken in (("LowerPriority", []), ("Any", ["x"])):
        queues = [
            cpu_queue("q", 4, cohort="c", preemption={"reclaimWithinCohort": policy}),
            cpu_queue("r", 0, cohort="c"),
        ]
        held = [holds(wl("own", "q", 3, 9))]
        scheduler = scene(queues, [wl("w", "q", 2, 5, at=1), wl("x", "r", 1, 0, at=2)], held)
        assert admitted(scheduler.cycle(1.0)) == taken


# Fair sharing.


def test_the_smaller_share_goes_first_and_the_weight_counts() -> None:
    for weight, first in (("1", "x"), ("4", "w")):
        queues = [
            cpu_queue("q", 0, cohort="c", fairSharing={"weight": weight}),
            cpu_queue("r", 0, cohort="c"),
            cpu_queue("lender", 10, cohort="c"),
        ]
        held = [holds(wl("a", "q", 4)), holds(wl("b", "r", 2))]
        scheduler = scene(queues, [wl("w", "q", 3, priority=9), wl("x", "r", 3)], held, FAIR)
        assert admitted(scheduler.cycle(1.0)) == [first]


def test_a_weight_of_zero_borrows_last() -> None:
    queues = [
        cpu_queue("q", 0, cohort="c", fairSharing={"weight": "0"}),
        cpu_queue("r", 0, cohort="c"),
        cpu_queue("lender", 4, cohort="c"),
    ]
    waiting = [wl("w", "q", 3, priority=9), wl("x", "r", 3)]
    assert admitted(scene(queues, waiting, [holds(wl("b", "r", 1))], FAIR).cycle(1.0)) == ["x"]


@pytest.mark.parametrize(
    ("strategies", "victims"),
    [
        # After `w`, q has 2 of 8 and r 4 of 8 without one of its two: allowed by either rule.
        ((FINAL,), {"r1"}),
        ((INITIAL,), {"r1"}),
        ((FINAL, INITIAL), {"r1"}),
    ],
)
def test_who_has_the_larger_share_gives(strategies: Any, victims: set[str]) -> None:
    queues = [
        cpu_queue("q", 0, cohort="c", preemption=TAKES_ALL),
        cpu_queue("r", 0, cohort="c"),
        cpu_queue("lender", 8, cohort="c"),
    ]
    held = [holds(wl("r0", "r", 4), at=1), holds(wl("r1", "r", 4), at=2)]
    scheduler = scene(queues, [wl("w", "q", 2)], held, Settings(strategies=strategies))
    outcome = scheduler.cycle(1.0)
    assert preempted(outcome) == dict.fromkeys(victims, "InCohortFairSharing")


@pytest.mark.parametrize(("strategies", "goes"), [((FINAL,), False), ((INITIAL,), True), ((FINAL, INITIAL), True)])
def test_the_initial_share_allows_what_the_final_one_does_not(strategies: Any, goes: bool) -> None:
    """One victim of 6 leaves r with 0 of 8, less than the 5 that q would have; before it had 6."""
    queues = [
        cpu_queue("q", 0, cohort="c", preemption=TAKES_ALL),
        cpu_queue("r", 0, cohort="c"),
        cpu_queue("lender", 8, cohort="c"),
    ]
    scheduler = scene(queues, [wl("w", "q", 5)], [holds(wl("r0", "r", 6))], Settings(strategies=strategies))
    assert preempted(scheduler.cycle(1.0)) == ({"r0": "InCohortFairSharing"} if goes else {})


def test_within_its_own_quota_shares_do_not_matter() -> None:
    queues = [cpu_queue("q", 4, cohort="c", preemption=TAKES_ALL), cpu_queue("r", 0, cohort="c")]
    scheduler = scene(queues, [wl("w", "q", 4)], [holds(wl("r0", "r", 4, priority=9))], FAIR)
    assert preempted(scheduler.cycle(1.0)) == {"r0": "InCohortReclamation"}


# What is beside quota.


def test_why_a_workload_is_in_no_line() -> None:
    objects = [
        cpu_queue("q", 9, namespaceSelector={"matchLabels": {"team": "a"}}),
        cpu_queue("open", 9),
        local_queue("q", "q"),
        local_queue("held", "open", stopPolicy="Hold"),
        local_queue("astray", "nowhere"),
        local_queue("open", "open"),
        namespace("default", team="b"),
    ]
    waiting = [
        wl("foreign", "q"),
        wl("held", "held"),
        wl("astray", "astray"),
        wl("lost", "lost"),
        wl("gated", "open", gated_by="quota.example.com"),
        wl("failed", "open", failed_checks=True),
        wl("resting", "open", not_before=5.0),
    ]
    scheduler = scene(objects, waiting)
    assert not admitted(scheduler.cycle(1.0))
    assert {name: reason(scheduler, name) for name in ("foreign", "held", "astray", "lost", "gated")} == {
        "foreign": "Misconfigured",
        "held": "OnHold",
        "astray": "Misconfigured",
        "lost": "Misconfigured",
        "gated": "AdmissionGated",
    }
    assert reason(scheduler, "failed") == reason(scheduler, "resting") == "PendingEvaluation"
    assert scheduler.roster.verdicts["default/resting"].message == "backs off for another 5 s"
    assert admitted(scheduler.cycle(5.0)) == ["resting"]
    assert scheduler.roster.verdicts["default/foreign"].message.endswith("does not accept jobs of namespace default")


def test_a_closed_gate_forbids_preempting_and_nothing_else() -> None:
    queue = cpu_queue("q", 2, preemption=TAKES_ALL)
    gated = wl("w", "q", 2, 5, gate=True)
    scheduler = scene([queue], [gated], [holds(wl("held", "q", 2))])
    assert not preempted(scheduler.cycle(1.0))
    assert reason(scheduler, "w") == "AdmissionGated"
    assert admitted(scene([queue], [gated]).cycle(1.0)) == ["w"]


def test_admission_waits_until_all_pods_are_ready() -> None:
    queues = [cpu_queue("q", 9), cpu_queue("r", 9)]
    scheduler = scene(queues, [wl("w", "q", at=1), wl("x", "r", at=2)], settings=Settings(block=True))
    assert admitted(scheduler.cycle(1.0)) == ["w"]
    assert reason(scheduler, "x") == "WaitingForPodsReady"
    assert not admitted(scheduler.cycle(2.0))
    scheduler.roster.finish(["default/w"])
    assert admitted(scheduler.cycle(3.0)) == ["x"]


def test_checks_of_the_flavors_that_were_taken() -> None:
    rules = {"admissionChecks": [{"name": "always"}, {"name": "budget", "onFlavors": ["b"]}]}
    for size, checks in ((1, ("always",)), (3, ("always", "budget"))):
        queue = two_flavors((2,), (9,), admissionChecksStrategy=rules)
        scheduler = scene([queue], [wl("w", "q", size)], inactive={}, flavors=[flavor("a"), flavor("b")])
        assert scheduler.cycle(1.0).admitted[0].checks == checks


def test_past_usage_orders_the_local_queues_of_one_queue() -> None:
    history = UsageHistory(half_life=100.0, sampling=50.0)
    objects = [
        cpu_queue("q", 99, admissionScope={"admissionMode": "UsageBasedAdmissionFairSharing"}),
        local_queue("heavy", "q"),
        local_queue("light", "q"),
        local_queue("nothing", "q"),
    ]
    past = {
        ("default", "heavy"): Past({"cpu": 10.0}, 0.0, 4.0),
        ("default", "light"): Past({"cpu": 3.0}, 0.0, 1.0),
        ("default", "nothing"): Past({}, 0.0, 0.0),
    }
    waiting = [wl(f"h{n}", "heavy", 4, at=n) for n in range(3)]
    waiting += [wl("l0", "light", 1, at=9), wl("n0", "nothing", 1, priority=9)]
    scheduler = scene(objects, waiting, settings=Settings(history=history), past=past)
    # 10/4 against 3; then what was just admitted counts in part: (10 + 0.29 × 4) / 4, (10 + 0.59 × 4) / 4 …
    assert [admitted(scheduler.cycle(1.0))[0] for _ in range(5)] == ["h0", "h1", "l0", "h2", "n0"]


def test_victims_of_the_local_queue_that_used_most_go_first() -> None:
    objects = [
        cpu_queue("q", 4, preemption=TAKES_ALL, admissionScope={"admissionMode": "UsageBasedAdmissionFairSharing"}),
        local_queue("heavy", "q"),
        local_queue("light", "q"),
    ]
    past = {("default", "heavy"): Past({"cpu": 9.0}), ("default", "light"): Past({"cpu": 1.0})}
    held = [
        holds(wl("h", "heavy", 2, priority=3), at=1, queue="q"),
        holds(wl("l", "light", 2, priority=0), at=2, queue="q"),
    ]
    waiting = [wl("w", "light", 2, priority=9)]
    for settings, victim in ((Settings(history=UsageHistory(100.0)), "h"), (Settings(), "l")):
        scheduler = scene(objects, waiting, held, settings, past=past)
        assert preempted(scheduler.cycle(1.0)) == {victim: "InClusterQueue"}


def test_usage_fades_and_takes_up_what_is_held() -> None:
    objects = [
        cpu_queue("q", 99, admissionScope={"admissionMode": "UsageBasedAdmissionFairSharing"}),
        local_queue("a", "q"),
        local_queue("b", "q"),
    ]
    past = {("default", "a"): Past({"cpu": 8.0}), ("default", "b"): Past({"cpu": 5.0})}
    held = [holds(wl("b0", "b", 9), queue="q")]
    history = UsageHistory(half_life=100.0, sampling=50.0)
    # After 100 s a has 4; b has 2.5 and half of the 9 that it holds.
    for at, first in ((1.0, "wb"), (100.0, "wa")):
        scheduler = scene(objects, [wl("wa", "a"), wl("wb", "b")], held, Settings(history=history), past=past)
        assert admitted(scheduler.cycle(at)) == [first]


def test_an_unlimited_quota_stays_unlimited() -> None:
    queues = [cpu_queue("q", "1e30", cohort="c"), cpu_queue("r", 0, cohort="c")]
    scheduler = scene(queues, [wl("w", "r", 10**15), wl("x", "q", 10**15)])
    assert sorted(admitted(scheduler.cycle(1.0))) == ["w", "x"]


def test_every_reason_of_the_queue_is_one_of_kueues() -> None:
    codes = {
        Reason.WAITING_FOR_QUOTA: "WaitingForQuota",
        Reason.EXCEEDS_MAX_QUOTA: "ExceedsMaxQuota",
        Reason.NO_MATCHING_FLAVOR: "NoMatchingFlavor",
        Reason.WAITING_FOR_PREEMPTED: "WaitingForPreemptedWorkloads",
        Reason.WAITING_FOR_PODS_READY: "WaitingForPodsReady",
        Reason.QUEUE_SUSPENDED: "Suspended",
    }
    assert all(reason.code == code for reason, code in codes.items())
