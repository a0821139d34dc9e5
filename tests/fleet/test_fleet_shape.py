"""Shapes: Kubernetes' rules of what a pod requests, and a FleetJob's GPUs on top."""

from __future__ import annotations

from typing import Any

import pytest

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.fleet.shape import TaskShape, Toleration, task_shape


def template(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": list(containers), **spec}}


def container(image: str = "", limits: dict[str, Any] | None = None, **requests: Any) -> dict[str, Any]:
    resources = {"requests": requests} | ({"limits": limits} if limits else {})
    return {"name": "main", "resources": resources} | ({"image": image} if image else {})


def test_containers_add_up_and_an_init_container_counts_when_it_is_larger() -> None:
    shape = task_shape(
        template(
            container(cpu="500m", memory="1Gi"),
            container(cpu=1),
            initContainers=[container(cpu="4", memory="1Mi")],
        )
    )
    assert shape.requests == (("cpu", 4000), ("memory", 2**30))


def test_a_missing_request_is_the_limit() -> None:
    shape = task_shape(template(container(limits={"cpu": "2", "memory": "2Gi"}, cpu="1")))
    assert shape.requests == (("cpu", 1000), ("memory", 2**31))


@pytest.mark.parametrize(
    ("gpu", "count", "share"),
    [
        ({"count": 2}, 2, 0),
        ({"models": ["A100"]}, 1, 0),
        ({"share": "250m"}, 0, 250),
        ({"count": 0}, 0, 0),
        (None, 3, 0),
    ],
)
def test_gpus(gpu: dict[str, Any] | None, count: int, share: int) -> None:
    base = {names.GPU: 3} if gpu is None else {}
    shape = task_shape(template({"name": "main", "resources": {"limits": base}}), gpu)
    assert (shape.gpus, shape.gpu_share) == (count, share)
    assert shape.gpu_milli == (share or count * 1000)


def test_order_of_writing_makes_no_difference() -> None:
    one = task_shape(
        template(container("b", cpu=1, memory=1), container("a"), nodeSelector={"x": "1", "y": "2"}),
        {"models": ["H100", "A100"]},
    )
    two = task_shape(
        template(container("a"), container("b", memory=1, cpu=1), nodeSelector={"y": "2", "x": "1"}),
        {"models": ["A100", "H100"]},
    )
    assert one == two
    assert hash(one) == hash(two)


@pytest.mark.parametrize(
    ("toleration", "taint", "tolerated"),
    [
        (Toleration("k", "Equal", "v", ""), ("k", "v", "NoSchedule"), True),
        (Toleration("k", "Equal", "v", ""), ("k", "w", "NoSchedule"), False),
        (Toleration("k", "Exists", "", "NoExecute"), ("k", "v", "NoSchedule"), False),
        (Toleration("", "Exists", "", ""), ("any", "v", "NoExecute"), True),
        (Toleration("", "Equal", "", ""), ("any", "", "NoExecute"), False),
    ],
)
def test_tolerations(toleration: Toleration, taint: tuple[str, str, str], tolerated: bool) -> None:
    assert TaskShape(tolerations=(toleration,)).tolerates(*taint) is tolerated


def test_a_preference_keeps_nobody_away() -> None:
    assert TaskShape().tolerates("k", "v", "PreferNoSchedule")
    assert not TaskShape().tolerates("k", "v", "NoSchedule")


@pytest.mark.parametrize("value", ["-1", "many", None])
def test_a_request_that_cannot_be_read_names_its_field(value: Any) -> None:
    with pytest.raises(InvalidObjectError, match=r"template\.spec\.containers\[0\]\.resources\.requests\.cpu"):
        task_shape(template(container(cpu=value)))


def test_a_person_reads_what_a_task_needs() -> None:
    shape = task_shape(template(container(cpu="500m", memory="1536Mi")), {"models": ["A100"], "minMemory": "40Gi"})
    assert str(shape) == "500m CPU, 1.5Gi memory, 1 × A100, ≥ 40Gi of GPU memory"


@pytest.mark.parametrize(
    ("init", "cpu"),
    [
        # (cpu, is a sidecar) in order; the container asks for 2.
        ([("1", True)], 3000),
        ([("1", True), ("4", False)], 5000),
        ([("4", False), ("1", True)], 4000),
        ([("1", True), ("1", True), ("1", False)], 4000),
    ],
)
def test_sidecars_run_beside_what_starts_after_them(init: list[tuple[str, bool]], cpu: int) -> None:
    started = [container(cpu=each) | ({"restartPolicy": "Always"} if beside else {}) for each, beside in init]
    shape = task_shape({"spec": {"containers": [container(cpu="2")], "initContainers": started}})
    assert shape.request("cpu") == cpu
