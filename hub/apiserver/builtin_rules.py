"""What built-in kinds get when they are written, and what of them cannot change: what their schemas cannot say.

Each rule takes the new object and the old one (None: it is created) and returns the object to store and what is wrong
with it. Objects are never changed in place. Nothing here knows what a runtime does with them.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from hub.apiserver.invalid import FieldError, forbidden, not_supported, required, show, wrong

Object = Mapping[str, Any]
Reviewed = tuple[dict[str, Any], Sequence[FieldError]]
Review = Callable[[Object, Object | None], Reviewed]

_DATA_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_MAX_DATA: Final = 1024 * 1024
_POD_MAY_CHANGE: Final = ("activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations", "schedulingGates")


def namespace(obj: Object, old: Object | None) -> Reviewed:
    """Active from the start, and findable by its name as a label."""
    metadata = dict(obj["metadata"])
    if metadata.get("name"):
        metadata["labels"] = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": metadata["name"]}
    result = {**obj, "metadata": metadata}
    if old is None:
        result.setdefault("spec", {"finalizers": ["kubernetes"]})
        result["status"] = {"phase": "Active"}
    return result, ()


def job(obj: Object, old: Object | None) -> Reviewed:
    spec = dict(obj["spec"])
    errors = list(_job_template(spec))
    indexed = spec.get("completionMode") == "Indexed"
    if spec.get("completions") is None and spec.get("parallelism") is None and not indexed:
        spec["completions"] = spec["parallelism"] = 1
    elif spec.get("parallelism") is None:
        spec["parallelism"] = 1
    if indexed and spec.get("completions") is None:
        errors.append(required("spec.completions", "when completion mode is Indexed"))
    errors += [
        wrong(f"spec.{name}", spec[name], "when provided, completionMode must be Indexed")
        for name in ("backoffLimitPerIndex", "maxFailedIndexes")
        if spec.get(name) is not None and not indexed
    ]
    spec.setdefault("backoffLimit", 6 if spec.get("backoffLimitPerIndex") is None else 2**31 - 1)
    if old is not None:
        errors += _job_changes(spec, old)
    return {**obj, "spec": spec}, errors


def _job_template(spec: Mapping[str, Any]) -> list[FieldError]:
    pod = spec["template"]["spec"]
    policy = pod.get("restartPolicy")
    field = "spec.template.spec.restartPolicy"
    allowed = ["Never", "OnFailure"]
    if policy is None:
        return [required(field, 'valid values: "OnFailure", "Never"')]
    if policy not in allowed:
        return [not_supported(field, policy, allowed)]
    if policy == "OnFailure" and spec.get("backoffLimitPerIndex") is not None:
        return [wrong(field, policy, "must be Never when backoffLimitPerIndex is set")]
    return []


def _job_changes(spec: Mapping[str, Any], old: Object) -> list[FieldError]:
    before = old["spec"]
    fixed = ["selector", "completionMode", "managedBy", "podFailurePolicy", "backoffLimitPerIndex"]
    elastic = spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get("parallelism")
    if not elastic:
        fixed.append("completions")
    # Queues give a suspended job that has not started its node selectors and counts.
    if not (before.get("suspend") and not (old.get("status") or {}).get("startTime")):
        fixed.append("template")
    return [
        wrong(f"spec.{name}", spec.get(name), "field is immutable")
        for name in fixed
        if spec.get(name) != before.get(name)
    ]


def pod(obj: Object, old: Object | None) -> Reviewed:
    spec = {"restartPolicy": "Always", "terminationGracePeriodSeconds": 30, **(obj.get("spec") or {})}
    result = {**obj, "spec": spec}
    if not spec.get("containers"):
        return result, [required("spec.containers")]
    if old is None:
        status = obj.get("status") or {}
        result["status"] = {"phase": "Pending", **status}
        return result, ()
    if _fixed_part(spec) != _fixed_part(old.get("spec") or {}):
        allowed = ", ".join(f"spec.{name}" for name in _POD_MAY_CHANGE)
        return result, [
            forbidden("spec", f"pod updates may not change fields other than spec.containers[*].image, {allowed}")
        ]
    return result, ()


def _fixed_part(spec: Mapping[str, Any]) -> dict[str, Any]:
    fixed = {name: value for name, value in spec.items() if name not in _POD_MAY_CHANGE and name != "nodeName"}
    for name in ("containers", "initContainers"):
        members = fixed.get(name)
        if isinstance(members, list):
            fixed[name] = [{**member, "image": None} for member in members if isinstance(member, Mapping)]
    return fixed


def config_map(obj: Object, old: Object | None) -> Reviewed:
    errors = [*_data_keys(obj, "data"), *_data_keys(obj, "binaryData"), *_frozen(obj, old, ("data", "binaryData"))]
    both = set(obj.get("data") or {}) & set(obj.get("binaryData") or {})
    errors += [wrong(f"binaryData[{key}]", key, "is in data too") for key in sorted(both)]
    return dict(obj), errors + _data_size(obj)


def secret(obj: Object, old: Object | None) -> Reviewed:
    result = dict(obj)
    written = result.pop("stringData", None)
    if written:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in written.items()}
        result["data"] = {**(result.get("data") or {}), **encoded}
    errors = [*_data_keys(result, "data"), *_frozen(result, old, ("data",))]
    if old is not None and result.get("type") != old.get("type"):
        errors.append(wrong("type", result.get("type"), "field is immutable"))
    return result, errors + _data_size(result)


def _data_keys(obj: Object, part: str) -> list[FieldError]:
    return [
        wrong(f"{part}[{key}]", key, "a valid key consists of letters, digits, '-', '_' and '.', at most 253 of them")
        for key in obj.get(part) or {}
        if not _DATA_KEY.fullmatch(key) or key in (".", "..")
    ]


def _data_size(obj: Object) -> list[FieldError]:
    size = sum(len(value) for part in ("data", "binaryData") for value in (obj.get(part) or {}).values())
    return [FieldError("", f"Too long: may not be more than {_MAX_DATA} bytes", "FieldValueTooLong")] * (
        size > _MAX_DATA * 4 // 3
    )


def _frozen(obj: Object, old: Object | None, parts: Sequence[str]) -> list[FieldError]:
    if old is None or not old.get("immutable"):
        return []
    changed = [part for part in parts if (obj.get(part) or {}) != (old.get(part) or {})]
    if not obj.get("immutable"):
        changed.append("immutable")
    return [forbidden(part, "field is immutable when `immutable` is set") for part in changed]


def priority_class(obj: Object, old: Object | None) -> Reviewed:
    errors = []
    name, value = str(obj["metadata"].get("name") or ""), obj.get("value")
    if isinstance(value, int) and value > 1_000_000_000 and not name.startswith("system-"):
        errors.append(forbidden("value", "maximum allowed value of a user defined priority is 1000000000"))
    if old is not None and old.get("value") != value:
        errors.append(forbidden("value", f"may not be changed in an update: it was {show(old.get('value'))}"))
    return dict(obj), errors


_EVENT_FIELDS: Final = (
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
)


def core_event(obj: Object) -> dict[str, Any]:
    """An events.k8s.io Event as core/v1 spells it, which is how Events are kept."""
    return _respelt(obj, "v1", {new: old for old, new in _EVENT_FIELDS})


def new_event(obj: Object) -> dict[str, Any]:
    """A kept Event as events.k8s.io/v1 spells it."""
    return _respelt(obj, "events.k8s.io/v1", dict(_EVENT_FIELDS))


def _respelt(obj: Object, api_version: str, names: Mapping[str, str]) -> dict[str, Any]:
    return {**{names.get(key, key): value for key, value in obj.items()}, "apiVersion": api_version}
