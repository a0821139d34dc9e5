"""Kueue's topology annotations of a pod template: what they mean on a plain Job, and what a fleet cannot see to."""

from __future__ import annotations

from typing import Any

import pytest
from jobs_world import fleet_job, plain_job

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.jobs.spec import JobSpec
from hub.jobs.workload import workload_object

ROW = "example.com/row"


def _noted(job: dict[str, Any], **notes: str) -> dict[str, Any]:
    template = job["spec"]["template"]
    template["metadata"] = {"annotations": {f"kueue.x-k8s.io/{name.replace('_', '-')}": v for name, v in notes.items()}}
    return job


def _job(**notes: str) -> dict[str, Any]:
    return _noted(plain_job(completions=6, parallelism=3), **notes)


@pytest.mark.parametrize(
    ("notes", "gang", "domain", "preferred", "request_"),
    [
        ({}, False, "", (), None),
        ({"podset_required_topology": ROW}, True, ROW, (), {"required": ROW}),
        ({"podset_preferred_topology": ROW}, True, "", (ROW,), {"preferred": ROW}),
        ({"podset_unconstrained_topology": "true"}, True, "", (), {"unconstrained": True}),
        ({"podset_unconstrained_topology": "false"}, False, "", (), None),
    ],
)
def test_what_they_mean(notes: Any, gang: bool, domain: str, preferred: tuple[str, ...], request_: Any) -> None:
    read = JobSpec.from_job(_job(**notes))
    assert (read.gang, read.shape.domain, read.domains) == (gang, domain, preferred)
    assert workload_object(read)["spec"]["podSets"][0].get("topologyRequest") == request_


@pytest.mark.parametrize(
    ("notes", "name", "words"),
    [
        ({"podset_required_topology": "no label!"}, names.PODSET_REQUIRED, "not the name of a node label"),
        ({"podset_unconstrained_topology": "yes"}, names.PODSET_UNCONSTRAINED, "allowed: true, false"),
        (
            {"podset_required_topology": ROW, "podset_preferred_topology": ROW},
            names.PODSET_PREFERRED,
            "write one of",
        ),
        ({"podset_slice_required_topology": ROW}, names.PODSET_SLICES[0], "not parts of them"),
        ({"podset_required_topology": ROW, "podset_slice_size": "2"}, names.PODSET_SLICES[1], "not parts of them"),
        ({"podset_group_name": "a"}, names.PODSET_SLICES[3], "leave it out"),
    ],
)
def test_what_cannot_be_honoured_is_named(notes: dict[str, str], name: str, words: str) -> None:
    with pytest.raises(InvalidObjectError, match=words) as caught:
        JobSpec.from_job(_job(**notes))
    assert caught.value.field == f"spec.template.metadata.annotations[{name}]"


def test_pods_that_start_together_are_never_fewer() -> None:
    job = _job(podset_required_topology=ROW)
    job["metadata"]["annotations"] = {names.MIN_PARALLELISM: "1"}
    with pytest.raises(InvalidObjectError, match="start all at once") as caught:
        JobSpec.from_job(job)
    assert caught.value.field == f"metadata.annotations[{names.MIN_PARALLELISM}]"


def test_a_fleet_job_says_it_in_its_own_fields() -> None:
    with pytest.raises(InvalidObjectError, match=r"spec.gang and spec.topology"):
        JobSpec.from_fleet_job(_noted(fleet_job(tasks=2), podset_required_topology=ROW))
