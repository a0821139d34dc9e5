"""What one cycle decides, case by case; and laws that hold for every snapshot."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from fleet_objects import carry_out, demand, flavor, fleet, open_queue, queue, shape, site, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.api.indexset import IndexSet
from hub.api.reasons import Reason
from hub.fleet.fleet import Fleet
from hub.fleet.shape import Toleration
from hub.placement.rule import ClusterRule, Predicate, Requirement
from hub.planner.cycle import plan
from hub.planner.plan import Plan, Snapshot
from hub.planner.split import WAVES
from hub.queueing.demand import Demand, TaskGroup
from hub.queueing.ledger import QuotaLedger


def placed(decided: Plan) -> dict[str, list[tuple[str, str, int]]]:
    """By job's name: (cluster, tasks, slots) of its slices."""
    return {
        admission.key.partition("/")[2]: [(part.cluster, str(part.tasks), part.slots) for part in admission.slices]
        for admission in decided.admissions
    }


def refused(decided: Plan) -> dict[str, str]:
    """By job's name: code and message."""
    return {r.key.partition("/")[2]: f"{r.reason.code}: {r.message}" for r in decided.refusals}


def test_one_task_goes_to_the_one_site() -> None:
    decided = plan(snapshot(fleet(site("a")), open_queue(), demand()))
    assert placed(decided) == {"job": [("a", "0", 1)]}
    assert decided.admissions[0].queue == "q"
    assert decided.admissions[0].slices[0].flavors == (("cpu", "default"),)
    assert not decided.refusals


def test_an_array_is_split_by_what_fits_and_waits_for_the_rest() -> None:
    decided = plan(snapshot(fleet(site("a", cpu=2), site("b", cpu=4)), open_queue(), demand(tasks=100)))
    # 6 slots, 48 tasks in proportion; 52 wait.
    assert placed(decided) == {"job": [("a", "0-15", 2), ("b", "16-47", 4)]}
    assert refused(decided) == {
        "job": "WaitingForCapacity: needs 1 CPU a task; the clusters that could run it are full: "
        "b has room for 0 of 4; a has room for 0 of 2"
    }


def test_parallelism_bounds_slots_not_tasks() -> None:
    sites = fleet(site("a", cpu=20))
    decided = plan(snapshot(sites, open_queue(), demand(tasks=30, slots=3)))
    assert placed(decided) == {"job": [("a", "0-23", 3)]}
    assert refused(decided) == {"job": "ParallelismReached: 3 tasks run; parallelism allows no more"}
    none = plan(snapshot(sites, open_queue(), demand(tasks=30, slots=0, active=7)))
    assert refused(none) == {"job": "ParallelismReached: 7 tasks run; parallelism allows no more"}


def test_quota_bounds_an_array_and_says_so() -> None:
    decided = plan(snapshot(fleet(site("a", cpu=20)), open_queue(cpu="2500m"), demand(tasks=20)))
    assert placed(decided) == {"job": [("a", "0-15", 2)]}
    assert refused(decided) == {"job": "WaitingForQuota: needs 1 cpu in flavor default; 500m free in ClusterQueue q"}


def test_priority_then_age_then_name() -> None:
    jobs = [
        demand("young", created=5.0),
        demand("old", created=1.0),
        demand("b", created=3.0),
        demand("a", created=3.0),
        demand("urgent", priority=10, created=9.0),
    ]
    decided = plan(snapshot(fleet(site("a", cpu=3)), open_queue(), *jobs))
    assert list(placed(decided)) == ["urgent", "old", "a"]
    assert list(refused(decided)) == ["b", "young"]


def test_what_does_not_fit_does_not_hold_up_what_does() -> None:
    jobs = [demand("big", shape=shape(cpu=3), created=1.0), demand("small", created=2.0)]
    sites = fleet(site("a", cpu=2))
    assert list(placed(plan(snapshot(sites, open_queue(), *jobs)))) == ["small"]
    strict = plan(snapshot(sites, open_queue(queueingStrategy="StrictFIFO"), *jobs))
    assert placed(strict) == {}
    assert refused(strict)["small"] == (
        "BehindOlderJob: ClusterQueue q is StrictFIFO and default/big before it still waits"
    )


def test_a_strict_queue_holds_up_only_itself() -> None:
    objects = [*open_queue(queueingStrategy="StrictFIFO"), *queue("other", ("default", {"cpu": 9}))]
    jobs = [demand("big", shape=shape(cpu=3), created=1.0), demand("small", created=2.0, queue="other")]
    assert list(placed(plan(snapshot(fleet(site("a", cpu=2)), objects, *jobs)))) == ["small"]
    # A job that has all it may have is no obstacle.
    jobs = [demand("array", tasks=3, slots=0, created=1.0), demand("small", created=2.0)]
    assert list(placed(plan(snapshot(fleet(site("a", cpu=2)), objects, *jobs)))) == ["small"]


def test_borrowing_in_one_cohort() -> None:
    objects = [
        flavor(),
        *queue("q", ("default", {"cpu": 1}), cohortName="team"),
        *queue("lender", ("default", {"cpu": {"nominalQuota": 3, "lendingLimit": 1}}), cohortName="team"),
    ]
    decided = plan(snapshot(fleet(site("a", cpu=20)), objects, demand(tasks=9)))
    assert placed(decided) == {"job": [("a", "0-8", 2)]}


def test_a_retry_avoids_the_cluster_where_it_failed_while_another_could_ever_do() -> None:
    again = demand(groups=(TaskGroup(IndexSet.parse("3"), 2, ("a",)),), slots=1)
    # b is full now, but will do one day: the task waits for it.
    full = [demand("filler", created=-1.0, shape=shape(cpu=4), rule=only("b"))]
    decided = plan(snapshot(fleet(site("a"), site("b")), open_queue(), *full, again))
    assert placed(decided) == {"filler": [("b", "0", 1)]}
    assert refused(decided)["job"].endswith("full: b has room for 0 of 4")
    # Where nothing else could ever do, it goes back.
    decided = plan(snapshot(fleet(site("a"), site("b", cpu="500m")), open_queue(), again))
    assert placed(decided) == {"job": [("a", "3", 1)]}
    assert decided.admissions[0].slices[0].attempt == 2


def test_retries_go_first_and_share_the_slots() -> None:
    groups = (TaskGroup(IndexSet.parse("5-9"), 1), TaskGroup(IndexSet.parse("0-1"), 2, ("a",)))
    decided = plan(snapshot(fleet(site("a"), site("b")), open_queue(), demand(groups=groups, slots=4)))
    assert placed(decided) == {"job": [("b", "0-1", 2), ("a", "5-9", 2)]}


def test_a_gang_starts_at_once_on_one_cluster_or_not_at_all() -> None:
    sites = fleet(site("a", cpu=3), site("b", cpu=4))
    decided = plan(snapshot(sites, open_queue(), demand(tasks=4, gang=True)))
    assert placed(decided) == {"job": [("b", "0-3", 4)]}
    decided = plan(snapshot(sites, open_queue(), demand(tasks=5, gang=True)))
    assert refused(decided) == {
        "job": "NoClusterFits: needs 5 tasks at once on one cluster, each 1 CPU a task; "
        "a: holds 3 of the 5 tasks that must start at once; b: holds 4 of the 5 tasks that must start at once"
    }
    decided = plan(snapshot(sites, open_queue(cpu=3), demand(tasks=4, gang=True)))
    assert refused(decided) == {
        "job": "ExceedsMaxQuota: needs 4 cpu at once; ClusterQueue q can never have more than 3 of flavor default"
    }
    busy = demand("busy", created=-1.0, rule=only("b"))
    decided = plan(snapshot(sites, open_queue(), busy, demand(tasks=4, gang=True)))
    assert refused(decided)["job"].endswith("full: b has room for 3 of 4")


def test_at_most_so_many_clusters() -> None:
    sites = fleet(site("a", cpu=2), site("b", cpu=2), site("c", cpu=2))
    rule = ClusterRule(limit=2)
    before = snapshot(sites, open_queue(), demand(tasks=60, rule=rule))
    decided = plan(before)
    assert [cluster for cluster, *_ in placed(decided)["job"]] == ["a", "b"]
    after = carry_out(before, decided)
    assert not plan(after).admissions
    # What is on a cluster already counts.
    decided = plan(snapshot(sites, open_queue(), demand(tasks=60, rule=rule, running=("c",))))
    assert [cluster for cluster, *_ in placed(decided)["job"]] == ["a", "c"]


def only(cluster: str) -> ClusterRule:
    return ClusterRule(predicates=(Predicate(labels=(Requirement("name", "In", (cluster,)),)),))


@pytest.mark.parametrize(
    ("job", "sites", "objects", "expected"),
    [
        (demand(problem="spec.tasks: 0 is none"), [], [], "InvalidSpec: spec.tasks: 0 is none"),
        (demand(queue="absent"), [], open_queue(), "QueueNotFound: LocalQueue absent does not exist"),
        (demand(), [], open_queue(stopPolicy="Hold"), "QueueInactive: ClusterQueue q takes no jobs: it is stopped"),
        (demand(), [], open_queue(namespaceSelector=None), "NamespaceMismatch: ClusterQueue q does not accept jobs of"),
        (demand(), [], open_queue(), "NoClusters: no cluster has joined this hub"),
        (
            demand(),
            [("a", {})],
            [flavor(), *queue("q", ("default", {"memory": 1}))],
            "NoMatchingFlavor: no flavor of ClusterQueue q offers cpu to this job: it covers memory",
        ),
        (
            demand(),
            [("a", {})],
            [
                flavor(nodeTaints=[{"key": "k", "value": "v", "effect": "NoSchedule"}]),
                *queue("q", ("default", {"cpu": 1})),
            ],
            "NoMatchingFlavor: no flavor of ClusterQueue q offers cpu to this job: default has taint k=v:NoSchedule",
        ),
        (
            demand(shape=shape(cpu=5)),
            [("a", {})],
            open_queue(),
            "NoClusterFits: needs 5 CPU a task; a: no node can run it: nodes (1 node): ",
        ),
        (
            demand(shape=shape(gpus=1, models=["H100"])),
            [("a", {"gpus": 8}), ("b", {}), ("c", {"available": "Unknown"})],
            open_queue(),
            "NoClusterFits: needs 1 CPU, 1 × H100 a task; a: has A100 with 80Gi, not H100; b: has no GPU, not H100; "
            "c: silent for an unknown time",
        ),
        (
            demand(),
            [(name, {"taints": [{"key": "maintenance", "effect": "NoSelect"}]}) for name in "abcd"],
            open_queue(),
            "NoClusterFits: needs 1 CPU a task; 4 clusters: has taint maintenance:NoSelect",
        ),
        (
            demand(shape=shape(cpu=2)),
            [("a", {})],
            open_queue(cpu=1),
            "ExceedsMaxQuota: needs 2 cpu at once; ClusterQueue q can never have more than 1 of flavor default",
        ),
    ],
)
def test_one_reason_with_its_numbers(
    job: Demand, sites: list[tuple[str, dict[str, Any]]], objects: list[dict[str, Any]], expected: str
) -> None:
    decided = plan(snapshot(fleet(*(site(name, **fields) for name, fields in sites)), objects, job))
    assert not decided.admissions
    assert refused(decided)["job"].startswith(expected)


def test_what_waiting_cannot_change_is_said_before_what_it_can() -> None:
    # No quota now, but no cluster ever either.
    never = demand(shape=shape(cpu=5))
    usage = {"q": {("default", "cpu"): 10_000}}
    decided = plan(snapshot(fleet(site("a")), open_queue(cpu=10), never, usage=usage))
    assert refused(decided)["job"].startswith("NoClusterFits")
    # Full, and no quota: quota it is, since room alone would not help.
    decided = plan(snapshot(fleet(site("a")), open_queue(cpu=10), demand(), usage=usage))
    assert refused(decided)["job"].startswith("WaitingForQuota")


def test_flavors_in_their_order_by_quota_and_by_place() -> None:
    objects = [
        flavor("spot", nodeLabels={"pool": "spot"}),
        flavor("paid", nodeLabels={"pool": "paid"}),
        *queue("q", ("spot", {"cpu": 2}), ("paid", {"cpu": 9})),
    ]
    sites = fleet(
        site("a", cpu=9, node_labels={"pool": "spot"}), site("b", cpu=5, labels={"pool": "paid"}), site("c", cpu=9)
    )
    before = snapshot(sites, objects, demand(tasks=20))
    decided = plan(before)
    parts = [(part.cluster, part.slots, part.flavors) for part in decided.admissions[0].slices]
    # Two from spot's quota on nodes that are spot; then paid, on the cluster that is paid as a whole.
    assert parts == [("a", 2, (("cpu", "spot"),)), ("b", 5, (("cpu", "paid"),))]
    assert not plan(carry_out(before, decided)).admissions


def test_a_flavor_brings_its_tolerations_and_a_job_its_own() -> None:
    taint = {"key": "spot", "value": "", "effect": "NoSchedule"}
    objects = [
        flavor("spot", nodeTaints=[taint], tolerations=[{"key": "spot", "operator": "Exists"}]),
        *queue("q", ("spot", {"cpu": 2})),
    ]
    assert placed(plan(snapshot(fleet(site("a")), objects, demand())))
    objects[0] = flavor("spot", nodeTaints=[taint])
    assert refused(plan(snapshot(fleet(site("a")), objects, demand())))["job"].startswith("NoMatchingFlavor")
    tolerant = replace(shape(), tolerations=(Toleration("spot", "Exists"),))
    assert placed(plan(snapshot(fleet(site("a")), objects, demand(shape=tolerant))))


def test_pods_and_shares_of_gpus_count_where_the_queue_covers_them() -> None:
    sites = fleet(site("a", cpu=20, gpus=4))
    third = shape(share="300m")
    objects = [flavor(), *queue("q", ("default", {"cpu": 99, "pods": 3}))]
    assert placed(plan(snapshot(sites, objects, demand(tasks=9, shape=third)))) == {"job": [("a", "0-8", 3)]}
    objects = [flavor(), *queue("q", ("default", {"cpu": 99, "fleet.quarterdeck.dev/gpu-milli": 700}))]
    decided = plan(snapshot(sites, objects, demand(tasks=20, shape=third)))
    assert placed(decided) == {"job": [("a", "0-15", 2)]}
    assert "needs 0.3 GPU fleet.quarterdeck.dev/gpu-milli in flavor default; 0.1 GPU free" in refused(decided)["job"]


def test_quota_alone_where_no_place_is_asked_for() -> None:
    decided = plan(snapshot(Fleet.empty(), open_queue(cpu=2), demand(tasks=1, place=False), demand("b", place=False)))
    assert placed(decided) == {"b": [("", "0", 1)], "job": [("", "0", 1)]}
    decided = plan(snapshot(Fleet.empty(), open_queue(cpu=2), demand(tasks=3, gang=True, place=False)))
    assert refused(decided)["job"].startswith("ExceedsMaxQuota: needs 3 cpu at once")


def test_ten_thousand_equal_jobs_that_do_not_fit_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    original = Fleet.fit
    monkeypatch.setattr(Fleet, "fit", lambda self, shape: asked.append(shape) or original(self, shape))
    jobs = [demand(f"job{n:05}", shape=shape(cpu=3)) for n in range(10_000)]
    decided = plan(snapshot(fleet(site("a", cpu=4)), open_queue(), *jobs))
    assert len(decided.admissions) == 1
    assert len(decided.refusals) == 9_999
    assert len(asked) < 20


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    names = ["a", "b", "c", "d"][: draw(st.integers(0, 4))]
    sites = [
        site(
            name,
            nodes=draw(st.integers(1, 3)),
            cpu=draw(st.integers(1, 6)),
            gpus=draw(st.integers(0, 3)),
            labels={"pool": draw(st.sampled_from(["red", "blue"]))} if draw(st.booleans()) else {},
            node_labels={"pool": draw(st.sampled_from(["red", "blue"]))} if draw(st.booleans()) else {},
        )
        for name in names
    ]
    limit = st.one_of(st.none(), st.integers(0, 4))
    objects: list[dict[str, Any]] = [flavor("red", nodeLabels={"pool": "red"}), flavor("any")]
    for name in ("q", "r"):
        flavors = []
        for hardware in draw(st.permutations(["red", "any"]))[: draw(st.integers(1, 2))]:
            amounts: dict[str, Any] = {}
            for resource in ("cpu", "nvidia.com/gpu"):
                nominal = draw(st.integers(0, 8))
                entry: dict[str, Any] = {"nominalQuota": nominal}
                borrowing, lending = draw(limit), draw(limit)
                if borrowing is not None:
                    entry["borrowingLimit"] = borrowing
                if lending is not None:
                    entry["lendingLimit"] = min(lending, nominal)
                amounts[resource] = entry
            flavors.append((hardware, amounts))
        strategy = draw(st.sampled_from(["BestEffortFIFO", "StrictFIFO"]))
        objects += queue(name, *flavors, cohortName="team", queueingStrategy=strategy)
    demands = []
    for number in range(draw(st.integers(0, 7))):
        tasks = sorted(draw(st.sets(st.integers(0, 40), min_size=1, max_size=25)))
        cut = draw(st.integers(0, len(tasks)))
        avoid = tuple(sorted(draw(st.sets(st.sampled_from("abcd"), max_size=2))))
        groups = [
            TaskGroup(IndexSet.of(part), attempt, away)
            for part, attempt, away in ((tasks[:cut], 1, ()), (tasks[cut:], 2, avoid))
            if part
        ]
        demands.append(
            demand(
                f"job{number}",
                queue=draw(st.sampled_from(["q", "r", "r", "absent"])),
                priority=draw(st.integers(0, 1)),
                created=float(draw(st.integers(0, 2))),
                shape=shape(draw(st.integers(1, 3)), draw(st.integers(0, 2))),
                groups=tuple(groups),
                slots=draw(st.integers(0, 12)),
                gang=draw(st.booleans()),
                rule=ClusterRule(limit=draw(st.one_of(st.none(), st.integers(1, 2)))),
            )
        )
    return snapshot(fleet(*sites), objects, *demands)


@settings(max_examples=200, deadline=None)
@given(snapshots())
def test_laws_of_a_plan(before: Snapshot) -> None:
    decided = plan(before)
    demands = {wanted.key: wanted for wanted in before.demands}
    given_out: dict[str, IndexSet] = {}
    for admission in decided.admissions:
        wanted = demands[admission.key]
        assert admission.key not in given_out
        seen = IndexSet()
        waiting = {task: group for group in wanted.groups for task in group.tasks}
        for part in admission.slices:
            assert part.tasks
            assert not part.tasks & seen, "a task is in two slices"
            seen = seen | part.tasks
            assert {waiting[task].attempt for task in part.tasks} == {part.attempt}
            assert 0 < part.slots <= len(part.tasks)
            assert wanted.gang or len(part.tasks) <= WAVES * part.slots
        given_out[admission.key] = seen
        assert sum(part.slots for part in admission.slices) <= wanted.slots
        clusters = {part.cluster for part in admission.slices}
        assert wanted.rule.limit is None or len(clusters) <= wanted.rule.limit
        if wanted.gang:
            assert len(clusters) == 1
            assert sum(part.slots for part in admission.slices) == min(wanted.slots, wanted.waiting)
    # Whoever still waits has exactly one reason, and nobody else has any.
    reasons = [refusal.key for refusal in decided.refusals]
    assert len(set(reasons)) == len(reasons)
    still = {key for key, d in demands.items() if len(given_out.get(key, IndexSet())) < d.waiting}
    assert set(reasons) == still
    for refusal in decided.refusals:
        assert refusal.message
        if refusal.reason is Reason.PARALLELISM_REACHED:
            slots = sum(p.slots for a in decided.admissions if a.key == refusal.key for p in a.slices)
            assert slots == demands[refusal.key].slots

    after = carry_out(before, decided)
    # All that was decided has room: nothing waits on a node.
    for name in after.fleet.names:
        assert all(holding.waiting == 0 for holding in after.fleet.held(name).values())
    ledger = QuotaLedger(after.quotas, after.usage)
    tree = after.quotas.trees["q"]
    for resource in tree.flavor_resources():
        everything = sum(node.nominal.get(resource, 0) for node in tree.nodes)
        assert sum(ledger.used(name, resource) for name in tree.position) <= everything
        for name in tree.position:
            node = tree.nodes[tree.position[name]]
            if resource in node.limits:
                assert ledger.used(name, resource) <= node.nominal.get(resource, 0) + node.limits[resource]
    assert not plan(after).admissions, "carried out, a plan leaves nothing to decide"


@settings(max_examples=60, deadline=None)
@given(snapshots(), st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(before: Snapshot, order: random.Random) -> None:
    shuffled = list(before.demands)
    order.shuffle(shuffled)
    assert plan(replace(before, demands=tuple(shuffled))) == plan(before)
