"""Fleets to try scorers on: any number of clusters of every kind that a scorer meets, the same ones every time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hub.fleet.changes import CapacitySeen, ClusterSeen, FleetChange
from hub.fleet.fleet import Fleet

_MODELS = ("A100", "H100", "T4", "L40S")


def sample_fleet(count: int) -> Fleet:
    """CPU and GPU clusters, small and large, busy and idle, priced and not; one in nine has reported nothing yet."""
    return Fleet.empty().apply(changes(count))


def changes(count: int) -> Iterator[FleetChange]:
    for number in range(count):
        name = f"cluster-{number:05d}"
        yield ClusterSeen(_cluster(name, number))
        if number % 9 != 8:
            yield CapacitySeen({"metadata": {"name": name, "namespace": name}, "status": _capacity(number)})


def _cluster(name: str, number: int) -> dict[str, Any]:
    available = {"type": "ManagedClusterConditionAvailable", "status": "False" if number % 17 == 16 else "True"}
    return {
        "metadata": {"name": name, "labels": {"region": ("eu", "us", "asia")[number % 3]}},
        "spec": {"hubAcceptsClient": True},
        "status": {
            "conditions": [available],
            "clusterClaims": [{"name": "gco2-per-kwh.example", "value": str(50 + number * 37 % 600)}],
            "capacity": {"cpu": "64", "memory": "256Gi"},
            "allocatable": {"cpu": "62", "memory": "250Gi"},
        },
    }


def _capacity(number: int) -> dict[str, Any]:
    group: dict[str, Any] = {
        "name": "nodes",
        "count": 1 + number % 5,
        "allocatable": {"cpu": str(4 << number % 4), "memory": f"{16 << number % 4}Gi", "pods": "110"},
    }
    status: dict[str, Any] = {"nodeGroups": [group]}
    if number % 2:
        model = _MODELS[number // 2 % len(_MODELS)]
        group["gpu"] = {"model": model, "count": 1 << number // 2 % 4, "memory": "40Gi"}
        if number % 4 == 1:
            status["prices"] = {"gpuHour": {model: f"{1 + number % 7 / 2}"}, "cpuHour": "0.04"}
    if number % 3 == 0:
        group["used"] = [{"nodes": 1, "resources": {"cpu": "2", **({"nvidia.com/gpu": "1"} if number % 2 else {})}}]
    return status
