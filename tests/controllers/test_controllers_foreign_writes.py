"""How the status of a Workload that somebody else runs is written: over what was seen, and not again if refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hub.api.indexset import IndexSet
from hub.controllers.foreign import Foreign
from hub.controllers.world import World
from hub.controllers.writes import MergePatch
from hub.planner.plan import Admission, Slice

Json = dict[str, Any]
_API = "kueue.x-k8s.io/v1beta2"


class Written:
    """In place of `Writes`: what is submitted last, and how it goes."""

    def __init__(self) -> None:
        self.desired: Callable[[], Any] = lambda: None
        self.failed: Callable[[Any, Exception], None] = lambda key, error: None

    def submit(self, key: Any, desired: Callable[[], Any], **options: Any) -> None:
        self.desired, self.failed = desired, options["on_error"]

    @property
    def patch(self) -> Json:
        write = self.desired()
        assert isinstance(write, MergePatch)
        return dict(write.patch)


def _workload(version: int = 1, **status: Any) -> Json:
    pods = {"containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": 1}}}]}
    return {
        "apiVersion": _API,
        "kind": "Workload",
        "metadata": {
            "name": "w",
            "namespace": "default",
            "uid": "uid-w",
            "resourceVersion": str(version),
            "ownerReferences": [{"kind": "RayJob", "name": "w", "uid": "ray"}],
        },
        "spec": {"queueName": "q", "podSets": [{"name": "main", "count": 1, "template": {"spec": pods}}]},
        "status": status,
    }


@pytest.fixture
def world() -> World:
    quota = {"name": "any", "resources": [{"name": "cpu", "nominalQuota": 4}]}
    spec = {"namespaceSelector": {}, "resourceGroups": [{"coveredResources": ["cpu"], "flavors": [quota]}]}
    found = World()
    for kind, name, body, namespace in (
        ("ResourceFlavor", "any", {}, ""),
        ("ClusterQueue", "q", spec, ""),
        ("LocalQueue", "q", {"clusterQueue": "q"}, "default"),
    ):
        meta = {"name": name} | ({"namespace": namespace} if namespace else {})
        found.quota_seen({"apiVersion": _API, "kind": kind, "metadata": meta, "spec": body})
    found.refresh()
    return found


@pytest.fixture
def written() -> Written:
    return Written()


@pytest.fixture
def foreign(world: World, written: Written) -> Foreign:
    found = Foreign(world, written, now=lambda: 1_700_000_000.0, on_change=lambda: None)  # type: ignore[arg-type]
    found.refresh()
    return found


def _admit(foreign: Foreign) -> bool:
    part = Slice("", IndexSet.span(1), 1, 1, (("cpu", "any"),))
    return foreign.admit(Admission("default/w", "q", (part,)))


def test_a_status_is_written_over_what_was_seen_and_nothing_newer(foreign: Foreign, written: Written) -> None:
    foreign.seen(_workload(7))
    assert _admit(foreign)
    assert written.patch["metadata"] == {"uid": "uid-w", "resourceVersion": "7"}
    # Whoever runs it said something meanwhile: that is kept, and the write is made of it.
    up = {"type": "PodsReady", "status": "True", "reason": "Started", "message": ""}
    foreign.seen(_workload(8, conditions=[up]))
    assert written.patch["metadata"]["resourceVersion"] == "8"
    assert {c["type"] for c in written.patch["status"]["conditions"]} == {"PodsReady", "QuotaReserved", "Admitted"}


def test_what_the_api_refuses_holds_nothing_and_is_not_tried_again(foreign: Foreign, written: Written) -> None:
    foreign.seen(_workload())
    assert _admit(foreign)
    assert foreign.usage["q"] == {("any", "cpu"): 1000}
    written.failed(None, RuntimeError("no"))
    assert (foreign.usage["q"], foreign.slices, foreign.demands) == ({}, (), {})
    changed = _workload(2)
    changed["spec"]["priority"] = 5
    foreign.seen(changed)
    assert [demand.priority for demand in foreign.demands.values()] == [5]


def test_how_often_one_made_way_is_known_to_a_hub_that_starts(foreign: Foreign) -> None:
    evictions = [
        {"reason": "Preempted", "underlyingCause": "", "count": 3},
        {"reason": "ClusterQueueStopped", "underlyingCause": "", "count": 1},
    ]
    assigned = {"name": "main", "count": 1, "flavors": {"cpu": "any"}, "resourceUsage": {"cpu": "1"}}
    holds = {"type": "QuotaReserved", "status": "True", "reason": "QuotaReserved", "message": ""}
    foreign.seen(
        _workload(
            admission={"clusterQueue": "q", "podSetAssignments": [assigned]},
            conditions=[holds],
            schedulingStats={"evictions": evictions},
        )
    )
    assert [held.preempted for held in foreign.slices] == [3]
