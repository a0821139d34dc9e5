"""One kind, two spellings: objects between the version a client speaks and the version that is stored.

Only Kueue's v1beta1 differs from what we store. Pure, and free of the models, because API servers use it on their hot
path. Nothing that both versions can say is lost either way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

_KUEUE: Final = "kueue.x-k8s.io"
V1BETA1: Final = f"{_KUEUE}/v1beta1"
V1BETA2: Final = f"{_KUEUE}/v1beta2"
_WORKLOAD_PRIORITY_CLASS = "kueue.x-k8s.io/workloadpriorityclass"
_POD_PRIORITY_CLASS = "scheduling.k8s.io/priorityclass"
_NEW_WORDS = {"Borrow": "MayStopSearch", "Preempt": "MayStopSearch"}
_OLD_WORDS = {("whenCanBorrow", "MayStopSearch"): "Borrow", ("whenCanPreempt", "MayStopSearch"): "Preempt"}


def convert(obj: Mapping[str, Any], api_version: str) -> dict[str, Any]:
    """A new object (sharing what did not change) as `api_version` of the same group spells it."""
    if obj.get("apiVersion") == api_version:
        return dict(obj)
    if api_version == V1BETA2:
        return to_v1beta2(obj)
    if api_version == V1BETA1:
        return to_v1beta1(obj)
    return {**obj, "apiVersion": api_version}


def to_v1beta2(obj: Mapping[str, Any]) -> dict[str, Any]:
    """`obj` as it is stored."""
    result = {**obj, "apiVersion": V1BETA2}
    spec, status = _part(obj, "spec"), _part(obj, "status")
    if obj.get("kind") == "ClusterQueue":
        _rename(spec, "cohort", "cohortName")
        if (names := spec.pop("admissionChecks", None)) and "admissionChecksStrategy" not in spec:
            spec["admissionChecksStrategy"] = {"admissionChecks": [{"name": name} for name in names]}
        _fungibility(spec, lambda _, word: _NEW_WORDS.get(word, word))
    elif obj.get("kind") == "LocalQueue":
        _rename(status, "flavorUsage", "flavorsUsage")
    elif obj.get("kind") == "Workload":
        name, source = spec.pop("priorityClassName", None), spec.pop("priorityClassSource", "")
        if name and "priorityClassRef" not in spec:
            ours = source != _POD_PRIORITY_CLASS
            spec["priorityClassRef"] = {
                "group": _KUEUE if ours else "scheduling.k8s.io",
                "kind": "WorkloadPriorityClass" if ours else "PriorityClass",
                "name": name,
            }
    return _with(result, spec, status)


def to_v1beta1(obj: Mapping[str, Any]) -> dict[str, Any]:
    """A stored object as a client of v1beta1 expects it."""
    result = {**obj, "apiVersion": V1BETA1}
    spec, status = _part(obj, "spec"), _part(obj, "status")
    if obj.get("kind") == "ClusterQueue":
        _rename(spec, "cohortName", "cohort")
        checks = (spec.get("admissionChecksStrategy") or {}).get("admissionChecks") or ()
        # The short form cannot name flavors, so it is used only where nothing is lost.
        if checks and not any(check.get("onFlavors") for check in checks):
            del spec["admissionChecksStrategy"]
            spec["admissionChecks"] = [check["name"] for check in checks]
        _fungibility(spec, lambda field, word: _OLD_WORDS.get((field, word), word))
    elif obj.get("kind") == "LocalQueue":
        _rename(status, "flavorsUsage", "flavorUsage")
    elif obj.get("kind") == "Workload" and (reference := spec.pop("priorityClassRef", None)):
        spec["priorityClassName"] = reference.get("name")
        ours = reference.get("kind") == "WorkloadPriorityClass"
        spec["priorityClassSource"] = _WORKLOAD_PRIORITY_CLASS if ours else _POD_PRIORITY_CLASS
    return _with(result, spec, status)


def _part(obj: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = obj.get(name)
    return dict(value) if isinstance(value, Mapping) else {}


def _with(result: dict[str, Any], spec: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    for name, part in (("spec", spec), ("status", status)):
        if isinstance(result.get(name), Mapping):
            result[name] = part
    return result


def _rename(part: dict[str, Any], old: str, new: str) -> None:
    value = part.pop(old, None)
    if value is not None:
        part.setdefault(new, value)


def _fungibility(spec: dict[str, Any], spell: Callable[[str, Any], Any]) -> None:
    fungibility = spec.get("flavorFungibility")
    if isinstance(fungibility, Mapping):
        spec["flavorFungibility"] = {key: spell(key, value) for key, value in fungibility.items()}
