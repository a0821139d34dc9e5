"""Which jobs start all at once, and which nodes of a cluster they need or prefer together.

A FleetJob says so in `gang` and `topology`; on a plain Job, Kueue's annotations of the pod template mean the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.api.patterns import LABEL_KEY_PATTERN
from hub.fleet.shape import TaskShape

_PLACE: Final = "spec.template.metadata.annotations"


def pods_together(template: Mapping[str, Any], shape: TaskShape) -> tuple[bool, TaskShape, tuple[str, ...]]:
    """What Kueue's annotations of a pod template ask for, as `gang_of` says it; not a gang: there are none.

    A pod set is admitted whole and in one cluster, so each of them makes a gang. Raises `InvalidObjectError` by field
    for what a fleet cannot see to.
    """
    notes = (template.get("metadata") or {}).get("annotations") or {}
    for name in names.PODSET_SLICES:
        if name in notes:
            raise InvalidObjectError(
                "the hub places all pods of a job on one domain or none, not parts of them: leave it out",
                field=f"{_PLACE}[{name}]",
            )
    asked = [n for n in (names.PODSET_REQUIRED, names.PODSET_PREFERRED, names.PODSET_UNCONSTRAINED) if n in notes]
    if not asked:
        return False, shape, ()
    if len(asked) > 1:
        raise InvalidObjectError(f"write one of {', '.join(asked)}", field=f"{_PLACE}[{asked[1]}]")
    name, value = asked[0], str(notes[asked[0]])
    field = f"{_PLACE}[{name}]"
    if name == names.PODSET_UNCONSTRAINED:
        if value not in ("true", "false"):
            raise InvalidObjectError(f"found {value!r}; allowed: true, false", field=field)
        return value == "true", shape, ()
    if not re.fullmatch(LABEL_KEY_PATTERN, value):
        raise InvalidObjectError(f"{value!r} is not the name of a node label", field=field)
    return (True, replace(shape, domain=value), ()) if name == names.PODSET_REQUIRED else (True, shape, (value,))


def refuse_pod_sets(template: Mapping[str, Any]) -> None:
    """A FleetJob has fields of its own for it. Raises `InvalidObjectError` by field."""
    notes = (template.get("metadata") or {}).get("annotations") or {}
    for name in (names.PODSET_REQUIRED, names.PODSET_PREFERRED, names.PODSET_UNCONSTRAINED, *names.PODSET_SLICES):
        if name in notes:
            raise InvalidObjectError(
                "is for plain Jobs: write spec.gang and spec.topology instead", field=f"{_PLACE}[{name}]"
            )


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
