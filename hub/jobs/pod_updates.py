"""What admission checks want of the pods that they have let through: labels, annotations, node selector, tolerations.

They are added to what is delivered and change nothing that is there: two that contradict each other, or the job, are
an answer that cannot be followed. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.jobs.admission_checks import CheckState

Json = dict[str, Any]
_MAPS: Final = ("labels", "annotations", "nodeSelector")
_OURS: Final = f"{names.GROUP}/"


@dataclass(frozen=True, slots=True)
class PodUpdates:
    """Of one pod set, from all checks together."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.labels or self.annotations or self.node_selector or self.tolerations)


def updates_of(states: Iterable[CheckState], pod_set: str, template: Mapping[str, Any]) -> PodUpdates:
    """Raises `InvalidObjectError` where they contradict each other or the `template` (a PodTemplateSpec)."""
    meta, pod = template.get("metadata") or {}, template.get("spec") or {}
    own = (meta.get("labels") or {}, meta.get("annotations") or {}, pod.get("nodeSelector") or {})
    found: dict[str, dict[str, str]] = {name: {} for name in _MAPS}
    # Who said it first, for the sentence.
    whose: dict[tuple[str, str], str] = {}
    tolerations: list[Mapping[str, Any]] = []
    for one in states:
        for update in one.updates:
            if update.get("name") != pod_set:
                continue
            for name, before in zip(_MAPS, own, strict=True):
                for key, value in _texts(one, update, name).items():
                    if key.startswith(_OURS) and name != "nodeSelector":
                        raise _wrong(one, f"sets {name} {key}, which is the fleet's own")
                    known = found[name].get(key, before.get(key))
                    if known is not None and known != value:
                        other = whose.get((name, key), "")
                        said = f"{key}={known}, as {'check ' + other if other else 'the job'} says"
                        raise _wrong(one, f"sets {name} {key}={value}, and it is {said}")
                    found[name][key] = value
                    whose[name, key] = one.name
            for toleration in update.get("tolerations") or ():
                if isinstance(toleration, Mapping) and toleration not in tolerations:
                    tolerations.append(toleration)
    present = pod.get("tolerations") or ()
    return PodUpdates(
        found["labels"], found["annotations"], found["nodeSelector"], tuple(t for t in tolerations if t not in present)
    )


def updated(template: Mapping[str, Any], updates: PodUpdates) -> Json:
    """A new template with what they add."""
    meta, pod = dict(template.get("metadata") or {}), dict(template.get("spec") or {})
    for section, name, more in (
        (meta, "labels", updates.labels),
        (meta, "annotations", updates.annotations),
        (pod, "nodeSelector", updates.node_selector),
    ):
        if more:
            section[name] = {**(section.get(name) or {}), **more}
    if updates.tolerations:
        pod["tolerations"] = [*(pod.get("tolerations") or ()), *map(dict, updates.tolerations)]
    return {**template, **({"metadata": meta} if meta else {}), "spec": pod}


def _texts(one: CheckState, update: Mapping[str, Any], name: str) -> Mapping[str, str]:
    found = update.get(name) or {}
    if not isinstance(found, Mapping):
        raise _wrong(one, f"has podSetUpdates whose {name} are no map")
    return {str(key): str(value) for key, value in found.items()}


def _wrong(one: CheckState, what: str) -> InvalidObjectError:
    return InvalidObjectError(f"admission check {one.name} {what}", field="status.admissionChecks.podSetUpdates")
