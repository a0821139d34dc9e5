"""The scale subresource: a kind's replicas as an autoscaling/v1 Scale, and back. Pure; storing is not done here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub.apiserver.invalid import FieldError, wrong, wrong_type
from hub.apiserver.kinds import ServedKind

Object = Mapping[str, Any]
_METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of(kind: ServedKind, obj: Object) -> dict[str, Any]:
    """The Scale of `obj`; the kind must have the subresource."""
    paths = kind.scale
    assert paths is not None, f"{kind.plural} cannot be scaled"
    metadata = {name: obj["metadata"][name] for name in _METADATA if name in obj["metadata"]}
    status: dict[str, Any] = {"replicas": _number(_at(obj, paths.status_path))}
    selector = _at(obj, paths.selector_path) if paths.selector_path else _at(obj, ".spec.selector.matchLabels")
    if isinstance(selector, Mapping):
        selector = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    if isinstance(selector, str) and selector:
        status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": _number(_at(obj, paths.spec_path))},
        "status": status,
    }


def scaled(kind: ServedKind, obj: Object, scale: Object) -> tuple[dict[str, Any], list[FieldError]]:
    """`obj` with the replicas that `scale` asks for, and what is wrong with them; preconditions are taken over."""
    paths = kind.scale
    assert paths is not None, f"{kind.plural} cannot be scaled"
    spec = scale.get("spec")
    replicas = spec.get("replicas", 0) if isinstance(spec, Mapping) else 0
    if isinstance(replicas, bool) or not isinstance(replicas, int):
        return dict(obj), [wrong_type("spec.replicas", replicas, "integer")]
    if replicas < 0:
        return dict(obj), [wrong("spec.replicas", replicas, "must be greater than or equal to 0")]
    metadata = {**obj["metadata"]}
    for name in ("uid", "resourceVersion"):
        if isinstance(written := (scale.get("metadata") or {}).get(name), str) and written:
            metadata[name] = written
    result = _with({**obj, "metadata": metadata}, paths.spec_path.strip(".").split("."), replicas)
    return result, []


def _at(obj: Any, path: str) -> Any:
    for name in path.strip(".").split("."):
        obj = obj.get(name) if isinstance(obj, Mapping) else None
    return obj


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _with(obj: Object, path: list[str], value: Any) -> dict[str, Any]:
    name, *rest = path
    below = obj.get(name)
    return {**obj, name: _with(below if isinstance(below, Mapping) else {}, rest, value) if rest else value}
