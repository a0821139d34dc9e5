"""What people are told of queues: the tree of quota, the line of what waits, why one job waits, who uses most."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_objects import NOW, a_fleet, holding, job, queue, site, workload

from hub.api import names
from hub.api.timestamps import parse_time
from hub.planner.cycle import plan
from hub.planner.estimate import Estimate
from hub.scoring.builtin import default_scorers
from hub.server.derived_quota import derived_section
from hub.server.pending import pending_rows, pending_table, start_text, with_starts
from hub.server.queues import queue_sections
from hub.server.quota_tree import BAR, Holding, _proportion, bar, branch_names, drift_of, find, quota_tree, tree_table
from hub.server.reading import Source, sort_objects
from hub.server.rules import Rules
from hub.server.snapshot import State
from hub.server.tenants import fairness, jain, tenant_sections, tenants
from hub.server.waiting import standing_facts, why_sections

_NOW = parse_time(NOW).timestamp()


def _state(objects: list[Any]) -> State:
    found = sort_objects(Source(obj) for obj in objects)
    state = State(found, _NOW, default_scorers())
    found.check()
    return state


def _two_teams(*more: Any) -> list[Any]:
    """`lender` owns 12 GPUs and holds 2; `borrower` owns 4 and holds 10, of a cohort that belongs to a company."""
    cohort = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "Cohort", "metadata": {"name": "team"}}
    return [
        cohort | {"spec": {"parentName": "company"}},
        *queue("lender", cpu=40, gpus=12, cohort="team"),
        *queue("borrower", cpu=40, gpus=4, cohort="team"),
        workload("small", "lender", (1, 1), status=holding("lender", **{names.GPU: "2", "cpu": "2"})),
        workload("large", "borrower", (1, 1), status=holding("borrower", **{names.GPU: "10", "cpu": "10"})),
        *more,
    ]


def test_what_one_borrows_the_others_of_its_cohort_lend() -> None:
    (company,) = quota_tree(_state(_two_teams()))
    assert (company.kind, company.name, company.share) == ("Cohort", "company", None)
    lender, borrower = find([company], "lender"), find([company], "borrower")
    assert lender is not None
    assert borrower is not None
    assert lender.holdings[names.GPU] == Holding(own=12, used=2, borrowed=0, lent=6, limit=16)
    assert borrower.holdings[names.GPU] == Holding(own=4, used=10, borrowed=6, lent=0, limit=16)
    assert company.holdings[names.GPU] == Holding(own=16, used=12, borrowed=0, lent=0, limit=16)
    # 6 borrowed of 16 that can be lent.
    assert (lender.share, borrower.share) == (0, 375)


def test_the_tree_is_drawn_with_a_line_for_each_resource_that_matters() -> None:
    table = tree_table(quota_tree(_state(_two_teams())))
    labels = [row[0] for row in table.rows]
    assert labels[::2] == ["company", "└─ team", "   ├─ borrower", "   └─ lender"]
    assert [row[1] for row in table.rows] == ["GPU", "CPU"] * 4
    bars = {row[0]: row[2] for row in table.rows[::2]}
    assert bars["   ├─ borrower"] == "█" * 8 + "▓" * 12
    assert bars["   └─ lender"] == "█" * 4 + "░" * 10 + "·" * 6
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_a_queue_of_no_tree_is_shown_with_why_it_takes_no_jobs() -> None:
    broken = queue("odd", cpu=1)
    broken[1]["spec"]["resourceGroups"][0]["flavors"][0]["name"] = "absent"
    branches = quota_tree(_state([*broken, *queue("fine", cpu=1)]))
    odd = find(branches, "odd")
    assert odd is not None
    assert odd.status.startswith("takes no jobs: ")
    assert branch_names(branches) == ["fine", "odd"]
    assert find(branches, "neither") is None


def test_a_document_says_the_same_as_the_table() -> None:
    (company,) = quota_tree(_state(_two_teams()))
    team = company.document()["below"][0]
    assert team["resources"][names.GPU] == {
        "guaranteed": "16", "used": "12", "borrowed": "0", "lent": "0", "atMost": "16",
    }  # fmt: skip
    assert [below["name"] for below in team["below"]] == ["borrower", "lender"]


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_a_bar_is_always_as_wide_and_shows_whatever_there_is(own: int, used: int, lent: int) -> None:
    borrowed = max(0, used - own)
    held = Holding(own, used, borrowed, min(lent, max(0, own - used)), own)
    text = bar(held)
    assert len(text) == (BAR if own or used else 0)
    if borrowed * BAR >= max(own, used) > 0:
        assert "▓" in text
    if not borrowed:
        assert "▓" not in text
    if used and own:
        assert text.startswith("█")


@given(st.integers(0, 100), st.lists(st.integers(0, 30), min_size=1, max_size=6))
def test_what_is_lent_adds_up_and_is_never_more_than_idle(amount: int, idle: list[int]) -> None:
    parts = _proportion(amount, idle)
    assert sum(parts) == min(amount, sum(idle))
    assert all(0 <= part <= free for part, free in zip(parts, idle, strict=True))


def test_the_line_has_places_in_each_queue_and_one_reason_each() -> None:
    rows = pending_rows(_state(a_fleet()))
    assert [row.position for row in rows] == list(range(1, len(rows) + 1))
    by_name = {row.name: row for row in rows}
    assert by_name["sweep"].position < by_name["train"].position, "older, but no cluster has what it needs"
    assert by_name["train"].in_cluster_queue == by_name["sweep"].in_cluster_queue == 1
    assert by_name["lost"].reason == "QueueNotFound"
    refusals = {refusal.key: refusal for refusal in plan(_state(a_fleet()).snapshot()).refusals}
    assert {row.key for row in rows if row.reason} == set(refusals)
    assert all(row.message == refusals[row.key].message for row in rows if row.reason)


def test_a_start_is_estimated_for_whom_it_is_asked() -> None:
    objects = [*site("north", nodes=1, cpu=4), *queue("research", cpu=2)]
    first = job("first", "research", cpu=2, expectedDuration="10m")
    second = job("second", "research", cpu=2)
    first["metadata"]["creationTimestamp"] = "2025-12-30T00:00:00Z"
    state = _state([*objects, first, second])
    waiting = pending_rows(state)
    assert [row.start for row in waiting] == [None, None], "nobody asked"
    rows = [*waiting[:1], *with_starts(state, waiting[1:], 1)]
    assert rows[1].start == Estimate(_NOW + 600, _NOW + 1200)
    assert rows[1].document()["estimatedStart"] == {
        "earliest": "2026-01-01T00:10:00Z",
        "latest": "2026-01-01T00:20:00Z",
    }
    (line,) = [row for row in pending_table(rows, _NOW).rows if row[1] == "second"]
    assert line[7] == "in 10m to 20m"


def test_without_a_duration_the_start_is_unknown_and_says_why() -> None:
    objects = [*site("north", nodes=1, cpu=4), *queue("research", cpu=2)]
    first, second = job("first", "research", cpu=2), job("second", "research", cpu=2)
    first["metadata"]["creationTimestamp"] = "2025-12-30T00:00:00Z"
    state = _state([*objects, first, second])
    start = with_starts(state, pending_rows(state)[1:], 1)[0].start
    assert start is not None
    assert start.earliest is None
    assert "expectedDuration" in start.why
    assert start_text(start, _NOW) == "unknown"


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Estimate(_NOW, _NOW), "now"),
        (Estimate(_NOW + 60, _NOW + 60), "in 1m"),
        (Estimate(_NOW + 60, _NOW + 120), "in 1m to 2m"),
        (Estimate(_NOW + 60, None), "in 1m or later"),
        (Estimate(None, None, "why"), "unknown"),
    ],
)
def test_an_estimate_in_words(found: Estimate, text: str) -> None:
    assert start_text(found, _NOW) == text


def test_why_names_the_numbers_the_place_in_line_and_what_would_help() -> None:
    big = job("big", "borrower", gpu={"count": 8})
    state = _state(_two_teams(*site("north", nodes=2, cpu=32, gpus=8), big))
    sections = why_sections(state, "default/big")
    assert sections is not None
    facts = sections[0].facts
    said = dict(facts)
    assert said["Reason"] == "WaitingForQuota"
    assert said["In line"] == "1st of 1 in ClusterQueue borrower"
    assert "nominalQuota" in str(said["Would start with"])
    quota = [value for label, value in facts if label == "Quota"]
    assert quota == [
        "ClusterQueue borrower: 10 of 4 used, 6 of it borrowed",
        "Cohort team: 12 of 16 used",
        "Cohort company: 12 of 16 used",
    ]
    assert sections[1].title == "Who has nvidia.com/gpu of flavor default"


def test_who_waits_for_nothing_that_ends_is_not_told_to_wait() -> None:
    first = job("first", "research", cpu=2, expectedDuration="10m")
    state = _state([*site("north", nodes=1, cpu=4), *queue("research", cpu=2), first, job("lost", "absent")])
    state.carry_out(plan(state.snapshot()))
    sections = why_sections(state, "default/lost")
    assert sections is not None
    said = dict(sections[0].facts)
    assert said["Reason"] == "QueueNotFound"
    assert said["Likely start"] == "unknown: waiting alone does not help"
    assert "In line" not in said


def test_a_job_that_runs_or_is_not_there_is_no_riddle() -> None:
    state = _state(a_fleet())
    state.carry_out(plan(state.snapshot()))
    assert why_sections(state, "default/nobody") is None
    assert standing_facts(state, "default/nobody") is None
    facts = standing_facts(state, "default/sweep")
    assert facts is not None
    said = dict(facts[0].facts)
    assert said["Phase"] in ("Admitted", "Running")
    assert "explain sweep" in str(said["Runs on"])


def test_tenants_are_listed_by_what_they_hold() -> None:
    state = _state(a_fleet())
    state.carry_out(plan(state.snapshot()))
    found = tenants(state)
    assert [tenant.queue for tenant in found if tenant.cpu_milli] == ["research"]
    first = found[0]
    assert (first.queue, first.cpu_milli, first.running, first.pending) == ("research", 10_000, 1, 1)
    assert first.oldest is not None
    assert {tenant.queue for tenant in found} == {"research", "vision", "absent"}
    (table, *_) = tenant_sections(found, 0.5, _NOW)
    assert table.table is not None
    assert len(table.table.rows) == 3
    assert first.document()["cpus"] == 10.0


def test_jains_index_goes_from_one_in_n_to_one() -> None:
    assert jain([1, 1, 1, 1]) == 1.0
    assert jain([1, 0, 0, 0]) == 0.25
    assert jain([0, 0]) == 1.0
    assert jain([2, 1]) == pytest.approx(0.9)


def test_fairness_is_about_queues_that_use_or_want_something() -> None:
    waiting = [job("a", "lender", cpu=1), job("b", "borrower", cpu=1)]
    index = fairness(_state(_two_teams(*site("north", nodes=2, cpu=32), *waiting)))
    # 2 of 12 and 10 of 4 GPUs: (1/6 + 5/2)² / (2 · (1/36 + 25/4)).
    assert index == pytest.approx((1 / 6 + 2.5) ** 2 / (2 * (1 / 36 + 6.25)))
    assert fairness(_state(queue("alone", cpu=1))) is None


def test_quota_from_clusters_is_shown_beside_what_they_report() -> None:
    """What runs keeps more in force than half of the 8 CPUs that the site reports."""
    kept = {"type": "NominalQuotaDerived", "status": "True", "reason": "QuotaKeptForRunning", "message": "",
            "lastTransitionTime": NOW}  # fmt: skip
    label = {names.CLUSTER_SET: "gpu"}
    north = site("north", nodes=2, cpu=4)
    north[0]["metadata"]["labels"] = label
    chosen = {
        "apiVersion": "cluster.open-cluster-management.io/v1beta2", "kind": "ManagedClusterSet",
        "metadata": {"name": "gpu"}, "spec": {"clusterSelector": {"selectorType": "ExclusiveClusterSetLabel"}},
    }  # fmt: skip
    objects = queue("research", cpu=1)
    objects[1]["metadata"]["annotations"] = {names.NOMINAL_FROM: '{"clusterSet": "gpu", "factor": 0.5}'}
    objects[1]["status"] = {"conditions": [kept]}
    runs = workload("runs", "research", (4, 1), status=holding("research", cpu="6"))
    branches = quota_tree(_state([*north, chosen, *objects, runs]))
    (branch,) = branches
    document = {entry["resource"]: entry for entry in branch.document()["derived"]}["cpu"]
    assert document == {
        "flavor": "default", "resource": "cpu", "inForce": "6", "reported": "8", "factor": 0.5, "clusterSet": "gpu",
        "written": "1", "keptForRunning": True,
    }  # fmt: skip
    section = derived_section(drift_of(branches))
    assert section is not None
    assert section.table is not None
    rows = {row[2]: row[3:] for row in section.table.rows}
    assert rows["cpu"] == ("6", "8", "0.5", "gpu", "1", "kept for what runs: it shrinks as jobs end")
    assert rows[names.GPU] == ("0", "0", "0.5", "gpu", "0", "follows the clusters")
    assert derived_section([]) is None
    assert branch.holdings["cpu"] == Holding(own=6000, used=6000, borrowed=0, lent=0, limit=6000)
    titles = [
        part.title for part in queue_sections(_state([*north, chosen, *objects, runs]), "default", "research", _NOW)
    ]
    assert titles == ["", "Quota", "Quota from clusters", "Waiting, in order", "Running"]


def test_an_array_that_started_with_few_slots_in_mode_kueue_says_that_it_does_not_grow() -> None:
    objects = [*site("north", nodes=1, cpu=8), *queue("research", cpu=2), job("array", "research", tasks=6)]
    found = sort_objects(Source(obj) for obj in objects)
    state = State(found, _NOW, default_scorers(), rules=Rules(kueue=True))
    state.carry_out(state.way.outlook(state.snapshot()))
    assert pending_rows(state) == []
    sections = standing_facts(state, "default/array")
    assert sections is not None
    assert dict(sections[0].facts)["Slots"] == (
        "2 of the 6 that it may use: there was quota for no more when it started, and in mode kueue it does not grow"
    )
    fleet = _state(objects)
    fleet.carry_out(plan(fleet.snapshot()))
    sections = standing_facts(fleet, "default/array")
    assert sections is not None
    assert "Slots" not in dict(sections[0].facts)
