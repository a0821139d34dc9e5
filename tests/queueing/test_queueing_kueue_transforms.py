"""What a pod's resources count as: prefixes that do not count, and resources that count as others."""

from __future__ import annotations

from typing import Any

import pytest

from hub.api.errors import InvalidObjectError
from hub.queueing.kueue.settings import read_settings


def counted(
    requests: dict[str, int], *transformations: dict[str, Any], exclude: tuple[str, ...] = ()
) -> dict[str, int]:
    resources = {"excludeResourcePrefixes": list(exclude), "transformations": list(transformations)}
    return read_settings({"resources": resources}).counted.of(requests)


_MIG = {"input": "mig", "outputs": {"gpu": "500m", "memory": "5Gi"}}


@pytest.mark.parametrize(
    ("requests", "transformations", "expected"),
    [
        ({"cpu": 1500}, [_MIG], {"cpu": 1500}),
        ({"mig": 2}, [_MIG], {"mig": 2, "gpu": 1, "memory": 10 * 2**30}),
        ({"mig": 3}, [_MIG | {"strategy": "Replace"}], {"gpu": 2, "memory": 15 * 2**30}),
        ({"mig": 1, "memory": 2**30}, [_MIG], {"mig": 1, "gpu": 1, "memory": 6 * 2**30}),
        # A unit of CPU is a whole one, begun ones count.
        ({"cpu": 1500}, [{"input": "cpu", "outputs": {"credits": "3"}}], {"cpu": 1500, "credits": 6}),
        ({"gpu": 2, "cpu": 500}, [{"input": "gpu", "outputs": {"cpu": "250m"}}], {"gpu": 2, "cpu": 1000}),
        ({"memory": 3, "gpu": 2}, [{"input": "memory", "multiplyBy": "gpu"}], {"memory": 6, "gpu": 2}),
        ({"memory": 3}, [{"input": "memory", "multiplyBy": "gpu"}], {"memory": 3}),
        ({"memory": 3, "gpu": 2}, [{"input": "memory", "strategy": "Replace"}], {"gpu": 2}),
        ({"mig": 0}, [_MIG], {"mig": 0, "gpu": 0, "memory": 0}),
        ({"mig": 2**63 - 1}, [_MIG], {"mig": 2**63 - 1, "gpu": 2**62, "memory": 2**63 - 1}),
    ],
)
def test_what_resources_count_as(
    requests: dict[str, int], transformations: list[dict[str, Any]], expected: dict[str, int]
) -> None:
    assert counted(requests, *transformations) == expected


def test_excluded_prefixes_go_before_transformations() -> None:
    requests = {"cpu": 1000, "networking.example/port": 1, "mig": 1}
    assert counted(requests, exclude=("networking.example/",)) == {"cpu": 1000, "mig": 1}
    assert counted(requests, _MIG, exclude=("mig", "networking")) == {"cpu": 1000}
    assert counted(requests) == requests


@pytest.mark.parametrize(
    ("transformation", "field"),
    [
        ({"outputs": {}}, "resources.transformations[0].input"),
        ({"input": "a", "strategy": "Keep"}, "resources.transformations[0].strategy"),
        ({"input": "a", "outputs": {"b": "many"}}, "resources.transformations[0].outputs.b"),
    ],
)
def test_what_cannot_be_read_is_said_by_field(transformation: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        counted({}, transformation)
    assert caught.value.field == field


def test_a_plan_counts_so(capsys: pytest.CaptureFixture[str]) -> None:
    from kueue_objects import cluster_queue, flavor, group, local_queue, quota

    from hub.cli.plan_input import Settings
    from hub.server.reading import Source

    requests = {"cpu": "1", "mig": "2", "other/thing": "1"}
    pod = {"containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}]}
    workload = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "Workload",
        "metadata": {"name": "w", "namespace": "default", "uid": "w"},
        "spec": {"queueName": "q", "podSets": [{"name": "main", "count": 2, "template": {"spec": pod}}]},
    }
    configuration = {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "resources": {
            "excludeResourcePrefixes": ["other/"],
            "transformations": [{"input": "mig", "strategy": "Replace", "outputs": {"gpu": "500m"}}],
            "deviceClassMappings": [{"name": "x", "deviceClassNames": ["y"]}],
        },
    }
    queue = cluster_queue("q", group(("default", [quota("cpu", 9), quota("gpu", 2)])))
    objects = [flavor("default"), queue, local_queue("q", "q"), workload, configuration]
    plan = Settings.read("2026-01-01T00:00:00Z", "1", None, "kueue").decide([Source(one) for one in objects])
    (part,) = plan["cycles"][0]["admitted"][0]["admission"]["podSetAssignments"]
    assert part["resourceUsage"] == {"cpu": "2", "gpu": "2"}
    said = capsys.readouterr().err
    assert "resources.deviceClassMappings has no effect in mode kueue yet" in said
    assert "transformations" not in said
