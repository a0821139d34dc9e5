"""Quotas read from objects: what a broken object costs, and whom."""

from __future__ import annotations

from typing import Any

import pytest
from kueue_objects import cluster_queue, cohort, cpu_queue, flavor, group, local_queue, namespace, quota

from hub.api.reasons import Reason
from hub.queueing.amount import UNLIMITED, minus, plus, readable
from hub.queueing.ledger import QuotaLedger
from hub.queueing.objects import ClusterQueue
from hub.queueing.quotas import Denial, Quotas

CPU = ("default", "cpu")
GOOD = [flavor("default"), cpu_queue("good", "4"), local_queue("good", "good")]


def route(quotas: Quotas, queue: str, space: str = "default") -> str | Reason:
    """The ClusterQueue's name, or the reason; its message is made too, so that no fact is missing."""
    found = quotas.route(space, queue)
    if isinstance(found, ClusterQueue):
        return found.name
    assert found.message
    return found.reason


def test_amounts_never_turn_negative_where_int64_would() -> None:
    assert plus(UNLIMITED - 1, 5) == UNLIMITED
    assert minus(UNLIMITED, 7) == UNLIMITED
    assert minus(UNLIMITED, UNLIMITED) == 0
    assert minus(3, 5) == -2
    assert [readable(*pair) for pair in (("cpu", 1500), ("memory", 2**30), ("cpu", UNLIMITED))] == [
        "1500m",
        "1Gi",
        "unlimited",
    ]


def test_quantities_past_int64_are_unlimited() -> None:
    quotas = Quotas.parse([flavor("default"), cpu_queue("huge", "1e30"), local_queue("huge", "huge")])
    ledger = QuotaLedger(quotas, {"huge": {CPU: 10**15}})
    assert ledger.available("huge", CPU) == UNLIMITED


def test_v1beta1_is_read_as_what_it_means() -> None:
    old = cpu_queue("old", "4")
    old["apiVersion"] = "kueue.x-k8s.io/v1beta1"
    old["spec"]["cohort"] = "team"
    quotas = Quotas.parse([flavor("default"), old, cpu_queue("new", "2", cohort="team")])
    assert quotas.queues["old"].cohort == "team"
    assert quotas.trees["old"] is quotas.trees["new"]


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (cpu_queue("bad", "-1"), "spec.resourceGroups[0].flavors[0].resources[cpu].nominalQuota: -1 is negative"),
        (cpu_queue("bad", "1", borrowing="1"), "borrowingLimit: a ClusterQueue without cohort neither borrows nor"),
        (cpu_queue("bad", "1", lending="2", cohort="c"), "lendingLimit: 2 is more than the nominal quota 1"),
        (cpu_queue("bad", "a lot"), "is not a quantity"),
        (cpu_queue("bad", "1", queueingStrategy="Random"), "spec.queueingStrategy"),
        (cpu_queue("bad", "1", fairSharing={"weight": "-1"}), "spec.fairSharing.weight"),
        (cpu_queue("bad", "1", fairSharing={"weight": "1n"}), "spec.fairSharing.weight: found 1n"),
        (
            cpu_queue("bad", "1", namespaceSelector={"matchExpressions": [{"key": "a", "operator": "Like"}]}),
            "spec.namespaceSelector.matchExpressions[0].operator: 'Like' is not an operator: write In, NotIn,",
        ),
        (
            cpu_queue("bad", "1", namespaceSelector={"matchExpressions": [{"key": "a", "operator": "In"}]}),
            "In needs at least one value",
        ),
        (
            cluster_queue("bad", group(("default", [quota("cpu", 1)])), group(("other", [quota("cpu", 1)]))),
            "resource cpu is in two resource groups",
        ),
        (
            cluster_queue("bad", group(("default", [quota("cpu", 1)]), ("default", [quota("cpu", 1)]))),
            "names a flavor or a resource twice",
        ),
        (
            cluster_queue("bad", group(("default", [quota("cpu", 1)]), ("other", [quota("memory", 1)]))),
            "flavor other must list exactly the covered resources: cpu",
        ),
        ({"kind": "ClusterQueue", "apiVersion": "kueue.x-k8s.io/v1beta2", "metadata": {"name": "bad"}, "spec": 3}, ""),
        (cpu_queue("bad", "1", resourceGroups="all of them"), "spec.resourceGroups"),
        (cluster_queue("bad", group(("nowhere", [quota("cpu", 1)]))), "ResourceFlavor nowhere does not exist"),
        (
            cpu_queue("bad", "1", admissionChecksStrategy={"admissionChecks": [{"name": "prov"}]}),
            "AdmissionCheck prov does not exist",
        ),
    ],
)
def test_a_broken_queue_takes_no_jobs_and_the_others_stand(broken: dict[str, Any], problem: str) -> None:
    quotas = Quotas.parse([broken, *GOOD, local_queue("bad", "bad")])
    assert problem in quotas.problems["ClusterQueue/bad"]
    assert route(quotas, "bad") is Reason.QUEUE_INACTIVE
    assert route(quotas, "good") == "good"


def test_cohorts_in_a_circle_stop_their_own_queues_only() -> None:
    quotas = Quotas.parse(
        [
            *GOOD,
            cohort("a", parent="b"),
            cohort("b", parent="c"),
            cohort("c", parent="b"),
            cpu_queue("lost", "4", cohort="a"),
            local_queue("lost", "lost"),
            cpu_queue("well", "4", cohort="d"),
            local_queue("well", "well"),
        ]
    )
    assert quotas.inactive["lost"].detail == "its cohorts go round in a circle: b → c → b"
    assert [route(quotas, name) for name in ("lost", "well", "good")] == [Reason.QUEUE_INACTIVE, "well", "good"]


def test_a_broken_cohort_stops_what_is_below_it() -> None:
    bad = cohort("bad", group(("default", [quota("cpu", "-4")])))
    quotas = Quotas.parse([*GOOD, bad, cohort("child", parent="bad"), cpu_queue("lost", "4", cohort="child")])
    assert "Cohort bad is broken" in quotas.inactive["lost"].detail
    assert "-4 is negative" in quotas.problems["Cohort/bad"]
    assert route(quotas, "good") == "good"


def test_ways_in() -> None:
    quotas = Quotas.parse(
        [
            *GOOD,
            namespace("team-a", tier="gold"),
            namespace("team-b", tier="tin"),
            cpu_queue("gold", "4", namespaceSelector={"matchLabels": {"tier": "gold"}}),
            cpu_queue("named", "4", namespaceSelector={"matchLabels": {"kubernetes.io/metadata.name": "team-c"}}),
            {"kind": "ClusterQueue", "apiVersion": "kueue.x-k8s.io/v1beta2", "metadata": {"name": "nobody"}},
            cpu_queue("held", "4", stopPolicy="Hold"),
            cpu_queue("drained", "4", stopPolicy="HoldAndDrain"),
            *(local_queue(q, q) for q in ("nobody", "held", "drained", "absent")),
            local_queue("gold", "gold", "team-a"),
            local_queue("gold", "gold", "team-b"),
            local_queue("named", "named", "team-c"),
            local_queue("stopped", "good", stopPolicy="Hold"),
            local_queue("broken", "", "team-a"),
        ]
    )
    assert route(quotas, "gold", "team-a") == "gold"
    assert route(quotas, "gold", "team-b") is Reason.NAMESPACE_MISMATCH
    assert route(quotas, "named", "team-c") == "named"
    assert route(quotas, "nobody") is Reason.NAMESPACE_MISMATCH
    for stopped in ("held", "drained", "absent", "stopped"):
        assert route(quotas, stopped) is Reason.QUEUE_INACTIVE
    assert route(quotas, "broken", "team-a") is Reason.QUEUE_INACTIVE
    missing = quotas.route("team-a", "glod")
    assert isinstance(missing, Denial)
    assert missing.message == "LocalQueue glod does not exist"
    assert dict(missing.facts)["known"] == "gold"
    # Held is no fault, so it is no problem either.
    assert "ClusterQueue/held" not in quotas.problems


@pytest.mark.parametrize(
    ("expression", "matched"),
    [
        ({"operator": "In", "values": ["gold", "tin"]}, True),
        ({"operator": "In", "values": ["lead"]}, False),
        ({"operator": "NotIn", "values": ["lead"]}, True),
        ({"operator": "NotIn", "values": ["gold"]}, False),
        ({"operator": "Exists"}, True),
        ({"operator": "DoesNotExist"}, False),
        ({"key": "other", "operator": "NotIn", "values": ["gold"]}, True),
        ({"key": "other", "operator": "DoesNotExist"}, True),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_namespace_expressions(expression: dict[str, Any], matched: bool) -> None:
    queue = cpu_queue("q", "4", namespaceSelector={"matchExpressions": [{"key": "tier"} | expression]})
    quotas = Quotas.parse([flavor("default"), queue, local_queue("q", "q", "ns"), namespace("ns", tier="gold")])
    assert route(quotas, "q", "ns") == ("q" if matched else Reason.NAMESPACE_MISMATCH)


def test_priorities_and_their_bounds() -> None:
    def priority(name: str, value: Any) -> dict[str, Any]:
        return {"kind": "WorkloadPriorityClass", "metadata": {"name": name}, "value": value}

    quotas = Quotas.parse([priority("low", -(2**31)), priority("high", 2**31 - 1), priority("bad", 2**31)])
    assert dict(quotas.priorities) == {"low": -(2**31), "high": 2**31 - 1}
    assert "32 bits" in quotas.problems["WorkloadPriorityClass/bad"]


def test_a_change_is_a_small_step_and_equals_a_fresh_start() -> None:
    objects = [
        *GOOD,
        *(cpu_queue(f"q{n}", n, cohort=f"c{n % 3}") for n in range(9)),
        *(local_queue(f"q{n}", f"q{n}") for n in range(9)),
    ]
    before = Quotas.parse(objects)
    changed = cpu_queue("q4", "40", cohort="c1")
    after = before.updated([changed])
    fresh = Quotas.parse([*objects, changed])
    assert dict(after.queues) == dict(fresh.queues)
    assert [n.subtree for n in after.trees["q1"].nodes] == [n.subtree for n in fresh.trees["q1"].nodes]
    # Other trees are the same ones, so what was remembered about them holds.
    assert after.trees["q0"] is before.trees["q0"]
    assert after.trees["q1"] is not before.trees["q1"]
    assert after.updated([namespace("x")]).trees is after.trees
    gone = after.updated(gone=[("ClusterQueue", "", "q4"), ("ResourceFlavor", "", "default")])
    assert "q4" not in gone.queues
    assert gone.inactive["good"].code == "FlavorNotFound"
    assert after.updated(gone=[("ClusterQueue", "", "never there")]) is after


def test_order_of_objects_does_not_matter() -> None:
    objects = [*GOOD, cohort("c", parent="p"), cpu_queue("x", 1, cohort="c"), cpu_queue("y", 1, cohort="p")]
    one, other = Quotas.parse(objects), Quotas.parse(reversed(objects))
    assert [n.name for n in one.trees["x"].nodes] == [n.name for n in other.trees["x"].nodes] == ["p", "y", "c", "x"]


def test_a_chain_of_a_thousand_cohorts_is_only_long() -> None:
    chain = [cohort(f"c{n}", parent=f"c{n + 1}") for n in range(1000)]
    quotas = Quotas.parse([flavor("default"), *chain, cpu_queue("deep", "4", cohort="c0"), local_queue("deep", "deep")])
    ledger = QuotaLedger(quotas, {})
    assert ledger.available("deep", CPU) == ledger.potential("deep", CPU) == 4000
    ledger.add("deep", [(CPU, 1000)])
    assert ledger.available("deep", CPU) == 3000
