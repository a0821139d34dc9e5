"""What admission checks have answered, as it is read, listed and set back; and what they add to pods."""

from __future__ import annotations

from typing import Any

import pytest

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.jobs.admission_checks import (
    CheckState,
    again_at,
    all_ready,
    answered,
    awaited,
    listed,
    read_checks,
    requeue_time,
    set_back,
    stale,
)
from hub.jobs.pod_updates import PodUpdates, updated, updates_of

AT = "2026-01-01T00:00:00Z"
EPOCH = 1767225600.0


def _entry(name: str, state: str = "Pending", **more: Any) -> dict[str, Any]:
    return {"name": name, "state": state, "lastTransitionTime": AT, "message": "", **more}


def test_they_are_read_as_they_are_written() -> None:
    entry = _entry("a", "Retry", message="no", requeueAfterSeconds=7, retryCount=2, podSetUpdates=[{"name": "main"}])
    broken = {"name": "b", "state": "Ready", "lastTransitionTime": "yesterday"}
    found = read_checks({"admissionChecks": [entry, broken, {"state": "Ready"}, "text"]})
    assert found == (CheckState("a", "Retry", "no", EPOCH, 7.0, 2, ({"name": "main"},)), CheckState("b", "Ready"))
    assert read_checks({}) == ()
    assert requeue_time({"requeueState": {"requeueAt": AT}}) == EPOCH
    assert requeue_time({"requeueState": {"requeueAt": "soon"}}) is None


@pytest.mark.parametrize(
    ("states", "asked", "ready"),
    [
        ((), (), True),
        ((), ("a",), False),
        ((("a", "Ready"),), ("a",), True),
        ((("a", "Ready"), ("b", "Pending")), ("a",), True),
        ((("a", "Ready"), ("b", "Pending")), ("a", "b"), False),
    ],
)
def test_whoever_is_asked_has_to_say_yes(states: Any, asked: tuple[str, ...], ready: bool) -> None:
    assert all_ready([CheckState(*one) for one in states], asked) == ready


@pytest.mark.parametrize(
    ("after", "retries", "wait"),
    [(None, 0, 0.0), (None, 1, 1.0), (None, 3, 4.0), (None, 99, 3600.0), (90.0, 5, 90.0), (0.0, 5, 0.0)],
)
def test_a_retry_waits_as_long_as_it_asks_or_ever_longer(after: float | None, retries: int, wait: float) -> None:
    states = (CheckState("a", "Retry", "", EPOCH, after, retries), CheckState("b", "Ready", "", EPOCH + 9999))
    assert again_at(states) == EPOCH + wait
    assert again_at(states[1:]) is None


def test_the_list_has_what_is_asked_and_keeps_answers() -> None:
    before = [_entry("a", "Ready", message="yes"), _entry("old", "Ready")]
    entries = listed(before, ("a", "b"), "2026-01-02T00:00:00Z")
    assert entries == [
        _entry("a", "Ready", message="yes"),
        _entry("b") | {"lastTransitionTime": "2026-01-02T00:00:00Z"},
    ]
    said = answered(entries, "b", "placed", "2026-01-03T00:00:00Z")
    assert said[1] == {"name": "b", "state": "Ready", "message": "placed", "lastTransitionTime": "2026-01-03T00:00:00Z"}
    assert answered(said, "b", "placed", "2026-01-04T00:00:00Z") == said
    assert awaited(read_checks({"admissionChecks": entries}), ("a", "b", "c")) == "b, c"


def test_answers_are_set_back_and_retries_counted() -> None:
    before = [
        _entry("a", "Retry", retryCount=1, requeueAfterSeconds=5, podSetUpdates=[{"name": "main"}]),
        _entry("b", "Ready"),
        _entry("c"),
    ]
    after = set_back(before, "2026-01-02T00:00:00Z")
    assert [(one["state"], one.get("retryCount")) for one in after] == [
        ("Pending", 2),
        ("Pending", None),
        ("Pending", None),
    ]
    assert "podSetUpdates" not in after[0]
    assert after[2] == before[2]
    assert stale(read_checks({"admissionChecks": before}))
    assert not stale(read_checks({"admissionChecks": after}))


def _said(name: str, **update: Any) -> CheckState:
    return CheckState(name, "Ready", updates=({"name": "main", **update}, {"name": "other", "labels": {"x": "y"}}))


def test_what_they_add_to_pods_is_added_once() -> None:
    toleration = {"key": "burst", "operator": "Exists"}
    template = {
        "metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [], "nodeSelector": {"arch": "arm"}, "tolerations": [{"key": "own"}]},
    }
    found = updates_of(
        [
            _said("a", labels={"app": "x", "pool": "p"}, nodeSelector={"pool": "p"}, tolerations=[toleration]),
            _said("b", annotations={"note": "1"}, nodeSelector={"pool": "p"}, tolerations=[toleration, {"key": "own"}]),
        ],
        "main",
        template,
    )
    assert found == PodUpdates({"app": "x", "pool": "p"}, {"note": "1"}, {"pool": "p"}, (toleration,))
    assert updated(template, found) == {
        "metadata": {"labels": {"app": "x", "pool": "p"}, "annotations": {"note": "1"}},
        "spec": {
            "containers": [],
            "nodeSelector": {"arch": "arm", "pool": "p"},
            "tolerations": [{"key": "own"}, toleration],
        },
    }
    assert not updates_of([CheckState("a", "Ready")], "main", template)


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ((_said("a", nodeSelector={"arch": "amd"}),), "arch=arm, as the job says"),
        (
            (_said("a", labels={"k": "1"}), _said("b", labels={"k": "2"})),
            "check b sets labels k=2, and it is k=1, as check a",
        ),
        ((_said("a", labels={f"{names.GROUP}/epoch": "1"}),), "the fleet's own"),
        ((_said("a", annotations=["x"]),), "annotations are no map"),
    ],
)
def test_what_contradicts_cannot_be_followed(states: Any, words: str) -> None:
    with pytest.raises(InvalidObjectError, match=words):
        updates_of(states, "main", {"spec": {"nodeSelector": {"arch": "arm"}}})
