"""Mode kueue counts pods as they would be created: overhead, a namespace's defaults, limits; and what it forbids."""

from __future__ import annotations

from typing import Any

import pytest

from hub.api.validation import load_objects
from hub.cli.plan_input import Settings
from hub.server.reading import Source

_KATA = {
    "apiVersion": "node.k8s.io/v1",
    "kind": "RuntimeClass",
    "metadata": {"name": "kata"},
    "handler": "kata",
    "overhead": {"podFixed": {"cpu": "250m"}},
}


def limit_range(name: str = "one", namespace: str = "default", *items: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": meta, "spec": {"limits": list(items)}}


def plan(pod: dict[str, Any], resources: dict[str, Any], *more: dict[str, Any], mode: str = "kueue") -> dict[str, Any]:
    api = "kueue.x-k8s.io/v1beta2"
    flavors = [{"name": "f", "resources": [{"name": "cpu", "nominalQuota": 100}]}]
    spec = {"namespaceSelector": {}, "resourceGroups": [{"coveredResources": ["cpu"], "flavors": flavors}]}
    template = {"spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]} | pod}
    meta = {"namespace": "default"}
    pods = [{"name": "main", "count": 2, "template": template}]
    objects: list[dict[str, Any]] = [
        {"apiVersion": api, "kind": "ResourceFlavor", "metadata": {"name": "f"}},
        {"apiVersion": api, "kind": "ClusterQueue", "metadata": {"name": "q"}, "spec": spec},
        {"apiVersion": api, "kind": "LocalQueue", "metadata": meta | {"name": "q"}, "spec": {"clusterQueue": "q"}},
        {
            "apiVersion": api,
            "kind": "Workload",
            "metadata": meta | {"name": "w", "uid": "w"},
            "spec": {"queueName": "q", "podSets": pods},
        },
    ]
    return Settings.read("2026-01-01T00:00:00Z", "1", None, mode).decide([Source(o) for o in [*objects, *more]])


def usage(*arguments: Any) -> str:
    (row,) = plan(*arguments)["cycles"][0]["admitted"]
    part: dict[str, Any] = row["admission"]["podSetAssignments"][0]
    return str(part["resourceUsage"].get("cpu"))


_DEFAULTS = {"type": "Container", "default": {"cpu": "3"}, "defaultRequest": {"cpu": "1"}}


@pytest.mark.parametrize(
    ("pod", "resources", "more", "cpu"),
    [
        ({"runtimeClassName": "kata"}, {"requests": {"cpu": "1"}}, [_KATA], "2500m"),
        ({"runtimeClassName": "kata", "overhead": {"cpu": "1"}}, {"requests": {"cpu": "1"}}, [_KATA], "4"),
        ({"runtimeClassName": "none"}, {"requests": {"cpu": "1"}}, [_KATA], "2"),
        ({}, {}, [limit_range("one", "default", _DEFAULTS)], "2"),
        ({}, {"limits": {"cpu": "2"}}, [], "4"),
        # A namespace's default request goes before the container's own limit.
        ({}, {"limits": {"cpu": "2"}}, [limit_range("one", "default", _DEFAULTS)], "2"),
        ({}, {}, [limit_range("one", "default", {"type": "Container", "default": {"cpu": "3"}})], "6"),
        ({}, {"requests": {"cpu": "2"}}, [limit_range("one", "elsewhere", _DEFAULTS)], "4"),
        # Of two defaults the first one's counts.
        (
            {},
            {},
            [
                limit_range("two", "default", {"type": "Container", "defaultRequest": {"cpu": "5"}}),
                limit_range("one", "default", _DEFAULTS),
            ],
            "2",
        ),
    ],
)
def test_what_pods_ask_for_in_the_end(
    pod: dict[str, Any], resources: dict[str, Any], more: list[dict[str, Any]], cpu: str
) -> None:
    assert usage(pod, resources, *more) == cpu


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (
            {"type": "Container", "max": {"cpu": "1"}},
            "2 of cpu is more than the 1 that a LimitRange allows a container",
        ),
        (
            {"type": "Container", "min": {"cpu": "3"}},
            "2 of cpu is less than the 3 that a LimitRange asks of a container",
        ),
        (
            {"type": "Pod", "max": {"cpu": "1500m"}},
            "2000m of cpu is more than the 1500m that a LimitRange allows a pod",
        ),
        ({"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "2"}}, ""),
        ({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}}, ""),
    ],
)
def test_what_a_namespace_never_allows_is_not_admitted(item: dict[str, Any], said: str) -> None:
    cycle = plan({}, {"requests": {"cpu": "2"}}, limit_range("one", "default", item))["cycles"][0]
    assert [row["reason"] for row in cycle["pending"]] == (["Misconfigured"] if said else [])
    assert all(said in row["message"] for row in cycle["pending"])


def test_limits_of_all_ranges_of_a_namespace_count() -> None:
    ranges = [
        limit_range(name, "default", {"type": "Container", "max": {"cpu": most}})
        for name, most in (("a", "4"), ("b", "1"))
    ]
    assert plan({}, {"requests": {"cpu": "2"}}, *ranges)["cycles"][0]["admitted"] == []


def test_only_this_mode_reads_them() -> None:
    ranges = [limit_range("one", "default", _DEFAULTS), _KATA]
    assert plan({}, {"requests": {"cpu": "1"}}, *ranges)["ignored"] == []
    assert plan({}, {"requests": {"cpu": "1"}}, *ranges, mode="fleet")["ignored"] == [
        "LimitRange",
        "RuntimeClass.node.k8s.io",
    ]


def test_files_may_have_them() -> None:
    text = "{apiVersion: v1, kind: LimitRange, metadata: {name: a, namespace: b}, spec: {limits: []}}"
    assert [obj["kind"] for obj in load_objects(text, "here", recorded=True)] == ["LimitRange"]
