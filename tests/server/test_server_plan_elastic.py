"""`plan` shows how elastic jobs change their size, and goes on from there."""

from __future__ import annotations

from typing import Any

import click
import pytest
from plan_objects import NOW, job, queue, site

from hub.api.indexset import IndexSet
from hub.api.timestamps import parse_time
from hub.cli.plan_tables import print_plan
from hub.jobs.spec import JobSpec
from hub.jobs.works import slice_to_work
from hub.planner.course import Course
from hub.planner.cycle import plan
from hub.server.plan_document import plan_document
from hub.server.reading import Source, sort_objects
from hub.server.snapshot import State

Json = dict[str, Any]


def running(slots: int) -> list[Json]:
    """An elastic job of 2 to 8 slots that runs eight tasks on so many slots of the only cluster, all that it has."""
    elastic = job("elastic", "vision", tasks=8, gang=True, elastic={"min": 2})
    elastic["metadata"] |= {"uid": "u-elastic", "creationTimestamp": "2025-12-01T00:00:00Z"}
    work = slice_to_work(
        JobSpec.from_fleet_job(elastic), "north", IndexSet.span(8), 1, slots, (("cpu", "default"),), "vision", 1
    )
    work["metadata"] |= {"uid": "u-work", "creationTimestamp": "2025-12-01T00:00:00Z"}
    objects = [*site("north", nodes=1, cpu=8), *queue("vision", 4, cohort="lab"), *queue("speech", 4, cohort="lab")]
    return [*objects, elastic, work]


def state_of(objects: list[Json]) -> tuple[Any, State]:
    found = sort_objects(Source(obj, "objects.yaml") for obj in objects)
    return found, State(found, parse_time(NOW).timestamp(), ())


def test_it_gives_back_and_who_is_entitled_starts(capsys: pytest.CaptureFixture[str]) -> None:
    owner = job("owner", "speech", tasks=3, gang=True)
    owner["metadata"]["creationTimestamp"] = "2025-12-05T00:00:00Z"
    document = plan_document(*state_of([*running(8), owner]), "settle")
    first, second, *_ = document["cycles"]
    (change,) = first["resized"]
    assert {key: change[key] for key in ("workload", "from", "to", "for", "cluster")} == {
        "workload": "default/elastic", "from": 8, "to": 5, "for": "default/owner", "cluster": "north",
    }  # fmt: skip
    assert first["preempted"] == []
    assert [entry["workload"] for entry in second["admitted"]] == ["default/owner"]
    assert document["settled"]
    used = {entry["clusterQueue"]: entry["usage"] for entry in document["queues"]}
    assert "5" in str(used["vision"])
    print_plan(document)
    assert "8 → 5" in click.unstyle(capsys.readouterr().out)


def test_it_grows_into_what_is_free() -> None:
    document = plan_document(*state_of(running(3)), "settle")
    (change,) = document["cycles"][0]["resized"]
    assert (change["from"], change["to"], change["for"]) == (3, 8, "")
    assert "resized" not in document["cycles"][1]
    assert document["settled"]


def test_a_course_into_the_future_carries_sizes_on() -> None:
    """What is estimated for others stands on what elastic jobs have then, and no quota is counted twice."""
    _, state = state_of(running(3))
    course = Course(state.snapshot(), plan)
    course.settle()
    (held,) = course.snapshot.held
    assert (held.slots, held.spare) == (8, 0)
    assert course.snapshot.usage["vision"]["default", "cpu"] == 8000
    assert course.snapshot.fleet.held("north")[held.work].count == 8
    owner = job("owner", "speech", tasks=3, gang=True)
    owner["metadata"]["creationTimestamp"] = "2025-12-05T00:00:00Z"
    _, state = state_of([*running(8), owner])
    course = Course(state.snapshot(), plan)
    course.settle()
    assert course.given == {"default/owner": 3}
    assert course.snapshot.usage["vision"]["default", "cpu"] == 5000
