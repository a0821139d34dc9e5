"""Which FleetJobs start all at once, and which nodes of a cluster they need or prefer together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.fleet.shape import TaskShape


def gang_of(spec: Mapping[str, Any], tasks: int, shape: TaskShape) -> tuple[bool, TaskShape, tuple[str, ...]]:
    """(whether it is a gang, the shape with the domain it needs, node labels of which it prefers one value).

    A gang that says nothing of topology prefers what makes its tasks near to each other: with GPUs one NVLink domain,
    else one rack. Raises `InvalidObjectError` by field.
    """
    gang = spec.get("gang") is True
    topology = spec.get("topology") or {}
    if topology and not gang:
        raise InvalidObjectError("tasks are placed together only in a gang: write gang: true", field="spec.topology")
    parallelism = spec.get("parallelism")
    if gang and isinstance(parallelism, int) and parallelism < tasks:
        raise InvalidObjectError(
            f"is {parallelism}, and all {tasks} tasks of a gang run at once: leave it out", field="spec.parallelism"
        )
    required, preferred = str(topology.get("required") or ""), str(topology.get("preferred") or "")
    if required and preferred:
        raise InvalidObjectError("write required or preferred, not both", field="spec.topology")
    if required:
        return gang, replace(shape, domain=required), ()
    if preferred:
        return gang, shape, (preferred,)
    if not gang or tasks < 2:
        return gang, shape, ()
    return gang, shape, (names.GPU_CLIQUE, names.RACK) if shape.gpu_milli else (names.RACK,)
