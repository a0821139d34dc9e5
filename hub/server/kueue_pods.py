"""Pods as Kueue counts them: with their RuntimeClass's overhead, their namespace's defaults, and limits where requests
are missing. And which pods their namespace's LimitRanges never allow.

Reads objects; what the pods then ask for is hub/fleet/shape.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from hub.api.errors import InvalidObjectError
from hub.api.quantity import Quantity
from hub.fleet.shape import task_shape

Json = Mapping[str, Any]
Amounts = dict[str, Any]
_CONTAINERS: Final = ("initContainers", "containers")


class PodDefaults:
    """What a namespace and a RuntimeClass add to pods."""

    def __init__(self, limit_ranges: Iterable[Json] = (), runtime_classes: Iterable[Json] = ()) -> None:
        """LimitRanges in the order in which the first counts where several set a default."""
        self._ranges: dict[str, dict[str, dict[str, Amounts]]] = {}
        for obj in limit_ranges:
            namespace = str(obj["metadata"].get("namespace") or "default")
            for item in (obj.get("spec") or {}).get("limits") or ():
                into = self._ranges.setdefault(namespace, {}).setdefault(str(item.get("type")), {})
                for name, choose in (("max", min), ("min", max), ("default", _first), ("defaultRequest", _first)):
                    into[name] = _merged(into.get(name) or {}, item.get(name) or {}, choose)
        self._overhead = {
            str(o["metadata"]["name"]): (o.get("overhead") or {}).get("podFixed") for o in runtime_classes
        }

    def adjusted(self, workload: Json) -> Json:
        """The Workload with its pods as they would be created."""
        namespace = str(workload["metadata"].get("namespace") or "default")
        spec = workload.get("spec") or {}
        pod_sets = [self._pod_set(namespace, entry) for entry in spec.get("podSets") or ()]
        return {**workload, "spec": {**spec, "podSets": pod_sets}}

    def problem(self, workload: Json) -> str:
        """Why the namespace never allows the pods of an adjusted Workload; empty when it does."""
        ranges = self._ranges.get(str(workload["metadata"].get("namespace") or "default"))
        if not ranges:
            return ""
        for number, entry in enumerate((workload.get("spec") or {}).get("podSets") or ()):
            template = entry.get("template") or {}
            place = f"spec.podSets[{number}].template.spec"
            for found in self._outside(ranges, template, place):
                return found
        return ""

    def _pod_set(self, namespace: str, entry: Json) -> Json:
        template = entry.get("template") or {}
        pod = dict(template.get("spec") or {})
        overhead = self._overhead.get(str(pod.get("runtimeClassName") or ""))
        if overhead and not pod.get("overhead"):
            pod["overhead"] = overhead
        defaults = self._ranges.get(namespace, {}).get("Container", {})
        for kind in _CONTAINERS:
            if pod.get(kind):
                pod[kind] = [_container(one, defaults) for one in pod[kind]]
        return {**entry, "template": {**template, "spec": pod}}

    def _outside(self, ranges: Mapping[str, Mapping[str, Amounts]], template: Json, place: str) -> Iterator[str]:
        pod, own = template.get("spec") or {}, ranges.get("Container")
        if own is not None:
            for kind in _CONTAINERS:
                for index, container in enumerate(pod.get(kind) or ()):
                    resources = container.get("resources") or {}
                    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
                    low, high = _merged(requests, limits, min), _merged(requests, limits, max)
                    yield from _beyond(low, high, own, f"{place}.{kind}[{index}]", "container")
        whole = ranges.get("Pod")
        if whole is not None:
            try:
                total = {n: f"{v}m" if n == "cpu" else v for n, v in task_shape(template).requests}
            except InvalidObjectError:
                # Who reads the pod set says what is wrong with it.
                return
            yield from _beyond(total, total, whole, place, "pod")


def _container(container: Json, defaults: Mapping[str, Amounts]) -> Json:
    resources = container.get("resources") or {}
    limits = {**(defaults.get("default") or {}), **(resources.get("limits") or {})}
    requests = {**limits, **(defaults.get("defaultRequest") or {}), **(resources.get("requests") or {})}
    return {**container, "resources": {**resources, "limits": limits, "requests": requests}}


def _beyond(low: Amounts, high: Amounts, item: Mapping[str, Amounts], place: str, what: str) -> Iterator[str]:
    for name, most in sorted((item.get("max") or {}).items()):
        if name in high and Quantity(high[name]) > Quantity(most):
            yield f"{place}: {high[name]} of {name} is more than the {most} that a LimitRange allows a {what}"
    for name, least in sorted((item.get("min") or {}).items()):
        if name in low and Quantity(low[name]) < Quantity(least):
            yield f"{place}: {low[name]} of {name} is less than the {least} that a LimitRange asks of a {what}"


def _merged(one: Mapping[str, Any], other: Mapping[str, Any], choose: Callable[..., Any]) -> Amounts:
    both = {name: choose(one[name], other[name], key=Quantity) for name in one.keys() & other.keys()}
    return {**one, **other, **both}


def _first(one: Any, other: Any, *, key: object) -> Any:
    return one
