"""What a ManifestWork asks to hear about an object: status feedback values, typed as OCM types them.

Pure: rules and an object in, values and errors out. An integer, string or boolean is a value; anything else is an
error of that rule alone. A path that leads nowhere is no value and no error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from hub.api import jsonpath
from hub.api.errors import InvalidObjectError
from hub.api.resource import Resource

Json = dict[str, Any]

_WELL_KNOWN: Final[dict[tuple[str, str, str], dict[str, str]]] = {
    ("apps", "v1", "Deployment"): {
        "ReadyReplicas": ".status.readyReplicas",
        "Replicas": ".status.replicas",
        "AvailableReplicas": ".status.availableReplicas",
    },
    ("apps", "v1", "DaemonSet"): {
        "NumberReady": ".status.numberReady",
        "DesiredNumberScheduled": ".status.desiredNumberScheduled",
        "NumberAvailable": ".status.numberAvailable",
    },
    ("batch", "v1", "Job"): {
        "JobComplete": '.status.conditions[?(@.type=="Complete")].status',
        "JobSucceeded": ".status.succeeded",
    },
    ("", "v1", "Pod"): {
        "PodReady": '.status.conditions[?(@.type=="Ready")].status',
        "PodPhase": ".status.phase",
    },
}


@lru_cache(maxsize=1024)
def _compiled(path: str) -> jsonpath.JSONPath:
    return jsonpath.compile(path)


def feedback_values(
    rules: Iterable[Mapping[str, Any]], resource: Resource, obj: Mapping[str, Any]
) -> tuple[list[Json], list[str]]:
    """`statusFeedback.values` in the order of the rules (first of a name wins), and what went wrong, in words."""
    values: dict[str, Json] = {}
    errors: list[str] = []
    for name, path in _paths(rules, resource, errors):
        if name in values:
            continue
        try:
            found = _compiled(path).find(obj)
        except InvalidObjectError as error:
            errors.append(f"{name}: {error}")
            continue
        if not found or found[0] is None:
            continue
        value = _typed(found[0])
        if value is None:
            errors.append(f"{name}: {path} is a {_kind(found[0])}; only an integer, string or boolean can be reported")
        else:
            values[name] = {"name": name, "fieldValue": value}
    return list(values.values()), errors


def _paths(rules: Iterable[Mapping[str, Any]], resource: Resource, errors: list[str]) -> Iterable[tuple[str, str]]:
    for rule in rules:
        kind = rule.get("type")
        if kind == "WellKnownStatus":
            known = _WELL_KNOWN.get((resource.group, resource.version, resource.kind))
            if known is None:
                errors.append(f"WellKnownStatus: nothing is well known of {resource.api_version} {resource.kind}")
            else:
                yield from known.items()
        elif kind == "JSONPaths":
            for entry in rule.get("jsonPaths") or ():
                if not entry.get("version") or entry["version"] == resource.version:
                    yield str(entry.get("name", "")), str(entry.get("path", ""))
        else:
            errors.append(f"{kind!r} is not a feedback rule: write WellKnownStatus or JSONPaths")


def _typed(value: Any) -> Json | None:
    if isinstance(value, bool):
        return {"type": "Boolean", "boolean": value}
    if isinstance(value, int):
        return {"type": "Integer", "integer": value}
    if isinstance(value, str):
        return {"type": "String", "string": value}
    return None


def _kind(value: Any) -> str:
    return {float: "fraction", list: "list", dict: "map"}.get(type(value), type(value).__name__)
