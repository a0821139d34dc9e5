"""Who is accepted, who is silent, and what that does to conditions and taints."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.api import names
from hub.api.conditions import condition_is
from hub.api.mergepatch import create_merge_patch
from hub.registration.acceptance import AUTO_ACCEPTED, AcceptRule, entry_patch, lease_seconds
from hub.registration.availability import READABLE, available, is_lost, status_patch, taint_patch
from hub.registration.heartbeats import Heartbeats

NOW = "2026-01-31T12:00:00Z"
EVERYONE = AcceptRule(("system:open-cluster-management:*",))


def cluster(
    *, accepts: bool | None = None, available: str = "", taints: Any = None, annotations: Any = None, **labels: str
) -> dict[str, Any]:
    spec: dict[str, Any] = {} if accepts is None else {"hubAcceptsClient": accepts}
    if taints is not None:
        spec["taints"] = taints
    conditions = (
        [{"type": "ManagedClusterConditionAvailable", "status": available, "reason": "X", "message": ""}]
        if available
        else []
    )
    metadata = {"name": "edge-1", "resourceVersion": "7", "labels": labels, "annotations": annotations or {}}
    return {"metadata": metadata, "spec": spec, "status": {"conditions": conditions}}


def merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(target or {})
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def test_a_cluster_that_matches_is_let_in_once_and_put_into_the_default_set() -> None:
    patch = entry_patch(cluster(), EVERYONE, NOW)
    assert patch is not None
    assert patch["spec"] == {"hubAcceptsClient": True}
    assert patch["metadata"]["annotations"] == {AUTO_ACCEPTED: NOW}
    assert patch["metadata"]["labels"] == {names.CLUSTER_SET: "default"}
    assert entry_patch(merge(cluster(), patch), EVERYONE, "2027-01-01T00:00:00Z") is None


def test_what_cannot_be_read_is_a_condition_of_those_who_ever_had_such() -> None:
    sound = cluster(accepts=True, available="True")
    patch = status_patch(sound, silent=False, now=NOW)
    assert patch is not None
    sound = merge(sound, patch)
    assert status_patch(sound, silent=False, now=NOW) is None
    bad = merge(sound, status_patch(sound, silent=False, now=NOW, unreadable="ClusterCapacity: x: -1 is negative"))
    assert condition_is(bad["status"]["conditions"], READABLE, "False")
    assert "-1 is negative. What it said before still counts. " in bad["status"]["conditions"][-1]["message"]
    assert status_patch(bad, silent=False, now=NOW, unreadable="ClusterCapacity: x: -1 is negative") is None
    mended = merge(bad, status_patch(bad, silent=False, now=NOW))
    assert condition_is(mended["status"]["conditions"], READABLE, "True")
    assert status_patch(mended, silent=False, now=NOW) is None


@pytest.mark.parametrize(
    ("rule", "accepted"),
    [
        (AcceptRule(), False),
        (AcceptRule(("system:open-cluster-management:edge-*",)), True),
        (AcceptRule(("system:open-cluster-management:lab-*",)), False),
        (AcceptRule(("*",), (("region", "eu"),)), True),
        (AcceptRule(("*",), (("region", "us"),)), False),
    ],
)
def test_the_rule_is_about_the_agents_identity_and_the_labels(rule: AcceptRule, accepted: bool) -> None:
    patch = entry_patch(cluster(region="eu"), rule, NOW) or {}
    assert patch.get("spec", {}).get("hubAcceptsClient", False) is accepted


def test_a_persons_no_is_never_overruled() -> None:
    denied = cluster(accepts=False, annotations={AUTO_ACCEPTED: "2026-01-01T00:00:00Z"})
    assert "spec" not in (entry_patch(denied, EVERYONE, NOW) or {})


def test_the_set_a_person_chose_stays() -> None:
    chosen = cluster(accepts=True)
    chosen["metadata"]["labels"] = {names.CLUSTER_SET: "gpu"}
    assert entry_patch(chosen, EVERYONE, NOW) is None


def test_a_taint_gets_the_time_it_was_seen_and_keeps_it() -> None:
    taints = [
        {"key": "a", "effect": "NoSelect"},
        {"key": "b", "effect": "NoSelect", "timeAdded": "2026-01-01T00:00:00Z"},
    ]
    patch = entry_patch(cluster(accepts=True, taints=taints), EVERYONE, NOW)
    assert patch is not None
    assert [t["timeAdded"] for t in patch["spec"]["taints"]] == [NOW, "2026-01-01T00:00:00Z"]


def test_who_looks_after_its_leaving_holds_it_from_the_first_write_on() -> None:
    held = cluster()
    held["metadata"]["finalizers"] = ["theirs"]
    patch = entry_patch(held, EVERYONE, NOW, ("ours",))
    assert patch is not None
    assert patch["metadata"]["finalizers"] == ["theirs", "ours"]
    assert patch["metadata"]["resourceVersion"] == "7"
    assert "finalizers" not in (entry_patch(cluster(), AcceptRule(), NOW, ("ours",)) or {"metadata": {}})["metadata"]


def test_a_leaving_cluster_is_left_alone() -> None:
    leaving = cluster(available="Unknown")
    leaving["metadata"]["deletionTimestamp"] = NOW
    assert entry_patch(leaving, EVERYONE, NOW) is None
    assert taint_patch(leaving) is None
    assert is_lost(leaving)


@pytest.mark.parametrize("written", [None, 0, -3, "60", 5])
def test_a_lease_lasts_at_least_a_second(written: Any) -> None:
    told = cluster()
    told["spec"]["leaseDurationSeconds"] = written
    assert lease_seconds(told) == (5 if written == 5 else 60)


def test_silence_makes_available_unknown_with_a_precondition_and_only_once() -> None:
    patch = status_patch(cluster(accepts=True, available="True"), silent=True, now=NOW)
    assert patch is not None
    assert patch["metadata"] == {"resourceVersion": "7"}
    silent = cluster(accepts=True)
    silent["status"] = patch["status"]
    assert available(silent) == "Unknown"
    assert condition_is(silent["status"]["conditions"], "HubAcceptedManagedCluster")
    assert status_patch(silent, silent=True, now="2027-01-01T00:00:00Z") is None
    assert is_lost(silent)


def test_a_cluster_that_never_reported_is_not_called_lost_by_silence() -> None:
    fresh = cluster(accepts=True)
    patch = status_patch(fresh, silent=True, now=NOW)
    assert patch is not None
    fresh["status"] = patch["status"]
    assert available(fresh) == ""


def test_who_was_turned_away_is_told_so_but_not_who_still_waits() -> None:
    waiting = cluster()
    assert status_patch(waiting, silent=False, now=NOW) is None
    accepted = cluster(accepts=True)
    accepted["status"] = status_patch(accepted, silent=False, now=NOW)["status"]  # type: ignore[index]  # it changes
    accepted["spec"]["hubAcceptsClient"] = False
    patch = status_patch(accepted, silent=False, now=NOW)
    assert patch is not None
    condition = patch["status"]["conditions"][0]
    assert (condition["status"], condition["reason"]) == ("False", "HubClusterAdminDenied")
    assert is_lost(accepted)


@pytest.mark.parametrize(
    ("state", "before", "after"),
    [
        ("Unknown", [], [names.TAINT_UNREACHABLE]),
        ("False", [names.TAINT_UNREACHABLE], [names.TAINT_UNAVAILABLE]),
        ("True", [names.TAINT_UNREACHABLE, "mine"], ["mine"]),
        ("Unknown", [names.TAINT_UNREACHABLE], None),
        ("True", ["mine"], None),
        ("", [], None),
    ],
)
def test_taints_follow_the_condition_and_leave_others_alone(
    state: str, before: list[str], after: list[str] | None
) -> None:
    taints = [{"key": key, "effect": "NoSelect", "timeAdded": NOW} for key in before]
    patch = taint_patch(cluster(available=state, taints=taints))
    if after is None:
        assert patch is None
    else:
        assert patch is not None
        assert [taint["key"] for taint in patch["spec"]["taints"] or ()] == after


@given(
    st.lists(st.tuples(st.sampled_from(["see", "renew", "restart", "wait"]), st.floats(0, 50)), max_size=40),
    st.integers(1, 60),
)
def test_a_cluster_is_lost_only_after_a_whole_period_of_hearing_nothing(
    steps: list[tuple[str, float]], lease: int
) -> None:
    heartbeats = Heartbeats(grace=1.0)
    now, mark, last_sign = 1000.0, 0, 1000.0
    heartbeats.expect("a", now)
    heartbeats.renewed("a", mark, now)
    for what, seconds in steps:
        now += seconds
        if what == "renew":
            mark += 1
            assert heartbeats.renewed("a", mark, now)
            last_sign = now
        elif what == "see":
            assert not heartbeats.renewed("a", mark, now)
        elif what == "restart":
            heartbeats.restart(now)
            last_sign = now
        assert heartbeats.silence("a", now) == pytest.approx(now - last_sign)
        assert (now > heartbeats.deadline("a", lease)) == (now > last_sign + lease)


def test_nobody_is_missed_who_was_not_expected() -> None:
    heartbeats = Heartbeats()
    assert heartbeats.deadline("stranger", 60) == float("inf")
    assert heartbeats.silence("stranger", 5.0) == 0
    heartbeats.renewed("a", "x", 1.0)
    heartbeats.forget("a")
    assert heartbeats.deadline("a", 60) == float("inf")


def test_patches_are_what_merge_patch_means() -> None:
    before = cluster(available="Unknown", taints=[{"key": names.TAINT_UNREACHABLE, "effect": "NoSelect"}])
    before["status"]["conditions"][0]["status"] = "True"
    patch = taint_patch(before)
    assert patch is not None
    after = merge(before, {"spec": patch["spec"]})
    assert "taints" not in after["spec"]
    assert create_merge_patch(before["status"], after["status"]) is None
