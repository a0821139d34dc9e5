"""Elastic jobs: what a spec may say, how a change of size is recorded, and when slots that were given back are free."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.api.indexset import IndexSet
from hub.apiserver.jsonpatch import apply_json_patch
from hub.jobs.attempt import Attempt, Eviction, Resize
from hub.jobs.elastic import bounds_of, elastic_entry
from hub.jobs.eviction import eviction_patch, read_eviction
from hub.jobs.fold import demand_of, fold
from hub.jobs.memory import Memory
from hub.jobs.resize import read_resize, resize_note, resize_patch
from hub.jobs.spec import JobSpec
from hub.jobs.works import attempt_from_work, slice_to_work

Json = dict[str, Any]
SHRINK = Resize(8, 5, 100.0, 130.0, "3 slots go to default/owner", "default/owner")


def job(**spec: Any) -> Json:
    container = {"name": "main", "image": "host", "command": ["true"], "resources": {"requests": {"cpu": "1"}}}
    meta = {"name": "e", "namespace": "default", "uid": "0f3a", "creationTimestamp": "2026-01-05T12:00:00Z"}
    return {"metadata": meta, "spec": {"tasks": 10, "template": {"spec": {"containers": [container]}}, **spec}}


def spec_of(**elastic: int) -> JobSpec:
    return JobSpec.from_fleet_job(job(elastic=elastic))


def work(slots: int = 8, tasks: int = 10, **reported: int | str) -> Json:
    made = slice_to_work(
        spec_of(min=2, max=8), "ash", IndexSet.span(tasks), 1, slots, (("cpu", "default"),), "vision", 1
    )
    made["metadata"] |= {"uid": "u1", "generation": 1}
    return report(made, 1, **reported)


def report(work: Json, generation: int, **values: int | str) -> Json:
    """What an agent says that has applied `generation` of it."""
    fields = [
        {
            "name": name,
            "fieldValue": {"type": "Integer", "integer": value} if isinstance(value, int) else {"string": value},
        }
        for name, value in values.items()
    ]
    applied = {"type": "Applied", "status": "True", "observedGeneration": generation}
    manifests = [{"statusFeedback": {"values": fields}}]
    return {**work, "status": {"conditions": [applied], "resourceStatus": {"manifests": manifests}}}


def kind_of(value: int | str) -> str:
    return "integer" if isinstance(value, int) else "string"


def changed(work: Json, patch: tuple[Json, ...]) -> Json:
    """As the API has it then: of another generation, with the status that it had."""
    after: Json = apply_json_patch(work, list(patch))
    after["metadata"] = {**after["metadata"], "generation": work["metadata"]["generation"] + 1}
    return after


def shrunk(before: Json, resize: Resize = SHRINK) -> Json:
    return changed(before, resize_patch("u1", attempt_from_work(before), resize))


def test_a_change_of_size_is_one_patch_that_says_everything() -> None:
    before = work(active=8)
    after = shrunk(before)
    notes, manifest = after["metadata"]["annotations"], after["spec"]["workload"]["manifests"][0]
    assert notes[names.SLOTS] == "5"
    assert manifest["spec"]["parallelism"] == 5
    assert read_resize(notes[names.RESIZE]) == read_resize(manifest["metadata"]["annotations"][names.RESIZE]) == SHRINK
    # What is not about its size is as it was: a Job's template cannot be changed.
    assert manifest["spec"]["template"] == before["spec"]["workload"]["manifests"][0]["spec"]["template"]
    with pytest.raises(Exception, match="test"):
        apply_json_patch(after, list(resize_patch("u1", attempt_from_work(before), SHRINK)))
    with pytest.raises(Exception, match="test"):
        apply_json_patch(before, list(resize_patch("another", attempt_from_work(before), SHRINK)))


def test_an_eviction_suspends_the_job_and_tells_it_until_when() -> None:
    eviction = Eviction("Preempted", "m", 100.0, 130.0, "InClusterQueue", "default/owner")
    after = changed(work(active=8), eviction_patch("u1", eviction))
    manifest = after["spec"]["workload"]["manifests"][0]
    assert manifest["spec"]["suspend"] is True
    assert read_eviction(manifest["metadata"]["annotations"][names.EVICTION]) == eviction
    assert attempt_from_work(after).eviction == eviction
    # As soon as nothing of it runs any more it has gone, whatever the notice.
    still = attempt_from_work(report(after, 2, active=2, slots=0))
    assert still.eviction == eviction
    for gone in ({"active": 0, "slots": 0}, {"active": 0}):
        found = attempt_from_work(report(after, 2, **gone))
        assert found.eviction == replace(eviction, stops=100.0)
    assert attempt_from_work(report(after, 2, active=0, terminating=1)).eviction == eviction
    assert attempt_from_work(report(after, 1, active=0)).eviction == eviction


@pytest.mark.parametrize(
    ("generation", "reported", "held"),
    [
        (1, {"active": 8}, 8),
        (1, {"active": 3}, 8),
        (2, {"active": 8, "slots": 5}, 8),
        (2, {"active": 6, "slots": 5}, 6),
        (2, {"active": 5, "slots": 5}, 5),
        (2, {"active": 2, "slots": 5}, 5),
        (2, {"active": 3, "slots": 8}, 8),
        (2, {"active": 5, "terminating": 3}, 8),
        (2, {"active": 5, "terminating": 1}, 6),
        (2, {"active": 5}, 5),
        (2, {}, 5),
    ],
)
def test_slots_are_free_when_what_ran_on_them_has_stopped(generation: int, reported: Any, held: int) -> None:
    attempt = attempt_from_work(report(shrunk(work(active=8)), generation, **reported))
    assert attempt.holds == held
    assert attempt.shrinking == (held > 5)
    assert attempt.slots == 5
    assert attempt.spare == 10 - held


@given(
    before=st.integers(2, 8),
    to=st.integers(1, 7),
    generation=st.integers(1, 2),
    active=st.integers(0, 9),
    terminating=st.integers(0, 9),
    slots=st.none() | st.integers(0, 9),
    ended=st.integers(0, 10),
)
def test_never_fewer_slots_are_held_than_tasks_may_run(
    before: int, to: int, generation: int, active: int, terminating: int, slots: int | None, ended: int
) -> None:
    """Until the cluster has the change it may start as many as before; after that it has what it reports."""
    to = min(to, before)
    made = work(before)
    values: dict[str, int | str] = {"active": active, "terminating": terminating}
    if slots is not None:
        values["slots"] = slots
    if ended:
        values["completedIndexes"] = str(IndexSet.span(ended))
    attempt = attempt_from_work(report(shrunk(made, Resize(before, to, 1.0, 2.0, "m")), generation, **values))
    left = 10 - ended
    acknowledged = generation == 2 and slots in (None, to)
    running = before if not acknowledged else min(before, active + terminating)
    assert attempt.holds == min(left, max(to, running if to < before else 0))
    assert attempt.holds <= before


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"from": "x", "to": 1, "at": "2026-01-05T12:00:00Z", "stops": "2026-01-05T12:00:00Z"}'],
)
def test_an_unreadable_record_is_none(text: str) -> None:
    assert read_resize(text) is None


def test_records_are_read_as_they_were_written() -> None:
    assert read_resize(resize_note(SHRINK)) == SHRINK
    assert read_resize(resize_note(replace(SHRINK, by="", message="x" * 999))) == replace(
        SHRINK, by="", message="x" * 300
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, None),
        ({"elastic": {}}, (1, 10)),
        ({"elastic": {"min": 3}}, (3, 10)),
        ({"elastic": {"min": 3, "max": 4}}, (3, 4)),
        ({"elastic": {"min": 3, "max": 400}}, (3, 10)),
    ],
)
def test_bounds(spec: Json, expected: tuple[int, int] | None) -> None:
    assert bounds_of(spec, 10) == expected
    read = JobSpec.from_fleet_job(job(**spec))
    assert read.bounds == expected
    assert read.parallelism == (expected[1] if expected else 10)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"elastic": {"min": 0}}, "spec.elastic.min"),
        ({"elastic": {"min": 11}}, "spec.elastic.min"),
        ({"elastic": {"min": 5, "max": 4}}, "spec.elastic.min"),
        ({"elastic": {"max": True}}, "spec.elastic.max"),
        ({"elastic": {}, "parallelism": 4}, "spec.parallelism"),
        ({"elastic": [1]}, "spec.elastic"),
        (
            {
                "elastic": {"min": 2},
                "placement": {
                    "spreadPolicy": {"spreadConstraints": [{"topologyKey": "zone", "topologyKeyType": "Label"}]}
                },
            },
            "spec.elastic.min",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_field(spec: Json, field: str) -> None:
    with pytest.raises(InvalidObjectError) as refused:
        JobSpec.from_fleet_job(job(**spec))
    assert refused.value.field == field


def state_of(*attempts: Attempt) -> tuple[JobSpec, Any]:
    spec = spec_of(min=2, max=8)
    return spec, fold(spec, attempts, now=200.0, memory=Memory())


def test_the_status_says_how_large_it_is_and_for_whom_it_gives_back() -> None:
    attempt = attempt_from_work(report(shrunk(work(active=8)), 2, active=7, ready=7, slots=5))
    spec, state = state_of(attempt)
    entry = elastic_entry((2, 8), state.attempts)
    assert {key: entry[key] for key in ("current", "min", "max", "giving")} == {
        "current": 5, "min": 2, "max": 8, "giving": 2,
    }  # fmt: skip
    assert entry["message"].startswith("from 8 to 5 slots on ash at 1970-01-01T00:01:40Z: 3 slots go to default/owner")
    assert state.message.endswith("2 slots on ash are being given back: 3 slots go to default/owner")
    assert state.preemptions == 0
    assert demand_of(spec, state, 0) is None
    after = attempt_from_work(report(shrunk(work(active=8)), 2, active=5, ready=5, slots=5))
    _, state = state_of(after)
    assert "giving" not in elastic_entry((2, 8), state.attempts)
    assert "given back" not in state.message


def test_what_waits_of_it_asks_with_its_bounds() -> None:
    spec, state = state_of()
    asked = demand_of(spec, state, 0)
    assert asked is not None
    assert (asked.slots, asked.bounds, asked.least, asked.minimum) == (8, (2, 8), 2, 2)
    running = attempt_from_work(work(slots=3, tasks=4, active=3))
    asked = demand_of(spec, state_of(running)[1], 0)
    assert asked is not None
    assert (asked.slots, asked.least, asked.waiting) == (5, 1, 6)
