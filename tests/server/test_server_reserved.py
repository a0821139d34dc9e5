"""A job whose quota is reserved while admission checks are asked: what `why`, `explain` and `plan` say of it."""

from __future__ import annotations

from typing import Any

import pytest
from plan_objects import job, queue, site

from hub.api.indexset import IndexSet
from hub.api.timestamps import parse_time
from hub.jobs.spec import JobSpec
from hub.jobs.workload import workload_object
from hub.jobs.works import cluster_of, slice_to_work
from hub.server.plan_document import plan_document
from hub.server.reading import Source, sort_objects
from hub.server.snapshot import State
from hub.server.waiting import standing_facts

NOW = "2026-01-31T12:00:00Z"
KUEUE = "kueue.x-k8s.io/v1beta2"


def _objects(state: str, **more: Any) -> list[Any]:
    wanted = job("sweep", "research", tasks=2)
    wanted["metadata"] |= {"uid": "uid-sweep", "creationTimestamp": NOW}
    spec = JobSpec.from_fleet_job(wanted)
    flavors = (("cpu", "default"),)
    work = slice_to_work(spec, "north", IndexSet.parse("0-1"), 1, 2, flavors, "research", 1, reserved=True)
    assert cluster_of(work) == "north"
    work["metadata"]["creationTimestamp"] = NOW
    mirror = workload_object(spec)
    entry = {"name": "provision", "state": state, "lastTransitionTime": NOW, "message": "twelve ahead", **more}
    reserved = {"type": "QuotaReserved", "status": "True", "reason": "", "message": "", "lastTransitionTime": NOW}
    mirror["status"] = {"admissionChecks": [entry], "conditions": [reserved]}
    active = {"type": "Active", "status": "True", "reason": "", "message": "", "lastTransitionTime": NOW}
    check = {
        "apiVersion": KUEUE,
        "kind": "AdmissionCheck",
        "metadata": {"name": "provision"},
        "spec": {"controllerName": "example.com/capacity"},
        "status": {"conditions": [active]},
    }
    checks = {"admissionChecks": [{"name": "provision"}]}
    return [
        *site("north"), check, *queue("research", cpu=9, admissionChecksStrategy=checks), wanted, work, mirror,
    ]  # fmt: skip


def _state(objects: list[Any]) -> tuple[Any, State]:
    found = sort_objects(Source(obj, "objects.yaml") for obj in objects)
    state = State(found, parse_time(NOW).timestamp(), (), live=True)
    found.check()
    return found, state


def test_it_says_what_it_waits_for_and_where_it_is_reserved() -> None:
    objects, state = _state(_objects("Pending"))
    sections = standing_facts(state, "default/sweep")
    assert sections is not None
    facts = dict(sections[0].facts)
    assert facts["Phase"] == "Queued"
    assert "waits for admission checks: provision (twelve ahead)" in str(facts["Why"])
    assert str(facts["Reserved on"]).startswith("north:")
    usage = plan_document(objects, state, 1)["queues"][0]["usage"]
    assert usage["default"]["cpu"] == "2"


@pytest.mark.parametrize(
    ("answer", "reason"), [("Retry", "AdmissionCheck"), ("Rejected", "DeactivatedDueToAdmissionCheck")]
)
def test_an_answer_that_sends_it_away_is_foreseen(answer: str, reason: str) -> None:
    objects, state = _state(_objects(answer))
    (left,) = plan_document(objects, state, 1)["cycles"][0]["evicted"]
    assert left["workload"] == "default/sweep"
    assert left["reason"] == reason
    assert "twelve ahead" in left["message"]
