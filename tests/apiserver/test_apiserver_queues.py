"""Quotas, queues and workloads that Kueue would refuse are refused, in both versions, by field."""

from __future__ import annotations

from typing import Any

import pytest

from hub.api.errors import RefusedError
from hub.api.resource import CLUSTER_QUEUES, COHORTS, RESOURCE_FLAVORS, WORKLOADS, Resource
from hub.client.session import Session

OLD_CLUSTER_QUEUES = Resource("kueue.x-k8s.io", "v1beta1", "ClusterQueue", "clusterqueues", False)


def flavor(name: str, *quotas: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "resources": list(quotas)}


def quota(name: str, nominal: Any = 4, **limits: Any) -> dict[str, Any]:
    return {"name": name, "nominalQuota": nominal, **limits}


def queue(*groups: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "q"}, "spec": {"resourceGroups": list(groups), **spec}}


def group(*flavors: dict[str, Any], covers: tuple[str, ...] = ("cpu", "memory")) -> dict[str, Any]:
    return {"coveredResources": list(covers), "flavors": list(flavors)}


CPU, MEMORY = quota("cpu"), quota("memory", "1Gi")
WHERE = "spec.resourceGroups[0].flavors[0].resources"


@pytest.mark.parametrize(
    ("obj", "field"),
    [
        (queue(group(flavor("a", MEMORY, CPU))), WHERE),
        (queue(group(flavor("a", CPU))), "spec.resourceGroups[0]"),
        (queue(group(flavor("a", quota("cpu", -1), MEMORY))), f"{WHERE}[0].nominalQuota"),
        (queue(group(flavor("a", quota("cpu", "-100m"), MEMORY))), f"{WHERE}[0].nominalQuota"),
        (queue(group(flavor("a", quota("cpu", borrowingLimit=1), MEMORY))), f"{WHERE}[0].borrowingLimit"),
        (
            queue(group(flavor("a", quota("cpu", lendingLimit="4001m"), MEMORY)), cohortName="all"),
            f"{WHERE}[0].lendingLimit",
        ),
        (
            queue(group(flavor("a", CPU), covers=("cpu",)), group(flavor("b", CPU), covers=("cpu",))),
            "spec.resourceGroups[1].coveredResources[0]",
        ),
        (
            queue(group(flavor("a", CPU), covers=("cpu",)), group(flavor("a", MEMORY), covers=("memory",))),
            "spec.resourceGroups[1].flavors[0].name",
        ),
        (queue(fairSharing={"weight": "-1"}), "spec.fairSharing.weight"),
        (queue(flavorFungibility={"preference": "PreemptionOverBorrowing"}), "spec.flavorFungibility.preference"),
    ],
)
async def test_a_cluster_queue_that_kueue_refuses(api: Session, obj: dict[str, Any], field: str) -> None:
    with pytest.raises(RefusedError) as caught:
        await api.create(CLUSTER_QUEUES, obj)
    assert [cause["field"] for cause in caught.value.status["details"]["causes"]] == [field]


async def test_limits_go_with_a_cohort_in_both_versions(api: Session) -> None:
    limited = group(flavor("a", quota("cpu", borrowingLimit=1, lendingLimit=4), MEMORY))
    await api.create(CLUSTER_QUEUES, queue(limited, cohortName="all", fairSharing={"weight": "0"}))
    older = queue(limited, cohort="all")
    older["metadata"]["name"] = "older"
    await api.create(OLD_CLUSTER_QUEUES, older)
    assert (await api.get(CLUSTER_QUEUES, "older"))["spec"]["cohortName"] == "all"
    with pytest.raises(RefusedError):
        await api.create(COHORTS, {**queue(limited), "metadata": {"name": "root"}})
    await api.create(COHORTS, {**queue(limited, parentName="root"), "metadata": {"name": "child"}})


async def test_flavors_and_workloads(api: Session) -> None:
    with pytest.raises(RefusedError, match=r"spec\.topologyName"):
        await api.create(RESOURCE_FLAVORS, {"metadata": {"name": "f"}, "spec": {"topologyName": "t"}})
    pod = {"spec": {"containers": [{"name": "a"}]}}
    sets = [{"name": name, "count": 2, "minCount": 1, "template": pod} for name in ("a", "b")]
    with pytest.raises(RefusedError, match=r"spec\.podSets\[1\]\.minCount"):
        await api.create(WORKLOADS, {"metadata": {"name": "w"}, "spec": {"podSets": sets}}, "default")
