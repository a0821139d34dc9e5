"""Gangs: what a FleetJob may say of them, and how that travels to the pods and back."""

from __future__ import annotations

from typing import Any

import pytest
from jobs_world import fleet_job, tasks

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.jobs.fold import demand_of, fold
from hub.jobs.memory import memory_of
from hub.jobs.spec import JobSpec
from hub.jobs.workload import workload_object
from hub.jobs.works import attempt_from_work, slice_to_work

RACK = "topology.kubernetes.io/rack"


@pytest.mark.parametrize(
    ("spec", "gang", "domain", "preferred"),
    [
        ({"tasks": 8}, False, "", ()),
        ({"tasks": 8, "gang": True}, True, "", (names.RACK,)),
        ({"tasks": 8, "gang": True, "gpu": {"count": 8}}, True, "", (names.GPU_CLIQUE, names.RACK)),
        ({"tasks": 1, "gang": True}, True, "", ()),
        ({"tasks": 8, "gang": True, "topology": {"preferred": "example.com/row"}}, True, "", ("example.com/row",)),
        ({"tasks": 8, "gang": True, "topology": {"required": RACK}}, True, RACK, ()),
        ({"tasks": 8, "gang": True, "parallelism": 8}, True, "", (names.RACK,)),
    ],
)
def test_what_a_gang_needs_and_prefers(spec: Any, gang: bool, domain: str, preferred: tuple[str, ...]) -> None:
    job = fleet_job(**spec)
    read = JobSpec.from_fleet_job(job)
    assert (read.gang, read.shape.domain, read.domains) == (gang, domain, preferred)
    wanted = demand_of(read, fold(read, [], lost=set(), now=read.created, memory=memory_of(job)), 0)
    assert wanted is not None
    assert (wanted.gang, wanted.domains, wanted.shape.domain) == (gang, preferred, domain)
    pods = workload_object(read)["spec"]["podSets"][0]
    assert ("minCount" in pods) == (not gang)
    assert pods.get("topologyRequest") == ({"required": domain} if domain else None)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"tasks": 8, "topology": {"required": RACK}}, "spec.topology"),
        ({"tasks": 8, "gang": True, "parallelism": 7}, "spec.parallelism"),
        ({"tasks": 8, "gang": True, "topology": {"required": RACK, "preferred": RACK}}, "spec.topology"),
    ],
)
def test_what_contradicts_itself_is_refused_by_its_field(spec: Any, field: str) -> None:
    with pytest.raises(InvalidObjectError) as refused:
        JobSpec.from_fleet_job(fleet_job(**spec))
    assert refused.value.field == field


def test_the_pods_ask_for_the_domain_that_was_chosen() -> None:
    job = fleet_job(tasks=4, gang=True, topology={"required": RACK})
    job["spec"]["template"]["spec"]["nodeSelector"] = {"disk": "nvme"}
    read = JobSpec.from_fleet_job(job)
    work = slice_to_work(read, "ash", tasks("0-3"), 1, 4, (), "team", 1, domain=(RACK, "r=7"))
    pod = work["spec"]["workload"]["manifests"][0]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"disk": "nvme", RACK: "r=7"}
    assert work["metadata"]["annotations"][names.TOPOLOGY_DOMAIN] == f"{RACK}=r=7"
    assert attempt_from_work(work).domain == (RACK, "r=7")
    assert job["spec"]["template"]["spec"]["nodeSelector"] == {"disk": "nvme"}
    assert attempt_from_work(slice_to_work(read, "ash", tasks("0-3"), 1, 4, (), "team", 1)).domain is None
