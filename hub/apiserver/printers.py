"""Cells of `kubectl get` for built-in kinds, where no path into the object says what people want to read.

Each printer takes an object and the time (seconds since the epoch) and returns its cells in the order of the kind's
columns, NAME included. Objects may hold anything: what cannot be read prints as ``<unknown>`` or ``<none>``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from hub.api.conditions import condition_is
from hub.apiserver.ages import UNKNOWN, between, human, seconds_of, since

Object = Mapping[str, Any]
NONE: Final = "<none>"


def part(obj: Any, *path: str) -> Mapping[str, Any]:
    for name in path:
        obj = obj.get(name) if isinstance(obj, Mapping) else None
    return obj if isinstance(obj, Mapping) else {}


def members(obj: Any, *path: str) -> list[Mapping[str, Any]]:
    members = part(obj, *path[:-1]).get(path[-1])
    return [member for member in members if isinstance(member, Mapping)] if isinstance(members, list) else []


def name_of(obj: Object) -> Any:
    return part(obj, "metadata").get("name", "")


def age(obj: Object, now: float) -> str:
    return since(part(obj, "metadata").get("creationTimestamp"), now)


def listed(values: Iterable[Any]) -> str:
    return ",".join(map(str, values)) or NONE


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0


def namespace(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), part(obj, "status").get("phase", UNKNOWN), age(obj, now)]


def config_map(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), len(part(obj, "data")) + len(part(obj, "binaryData")), age(obj, now)]


def secret(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), obj.get("type", ""), len(part(obj, "data")), age(obj, now)]


def service_account(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), len(members(obj, "secrets")), age(obj, now)]


def lease(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), part(obj, "spec").get("holderIdentity", ""), age(obj, now)]


def priority_class(obj: Object, now: float) -> list[Any]:
    policy = obj.get("preemptionPolicy", "")
    return [name_of(obj), obj.get("value", 0), bool(obj.get("globalDefault", False)), age(obj, now), policy]


def custom_resource_definition(obj: Object, now: float) -> list[Any]:
    return [name_of(obj), part(obj, "metadata").get("creationTimestamp") or UNKNOWN]


def node(obj: Object, now: float) -> list[Any]:
    status, info = part(obj, "status"), part(obj, "status", "nodeInfo")
    conditions = members(obj, "status", "conditions")
    ready = [condition for condition in conditions if condition.get("type") == "Ready"]
    words = ["Ready" if condition_is(ready, "Ready") else "NotReady"] if ready else ["Unknown"]
    if part(obj, "spec").get("unschedulable") is True:
        words.append("SchedulingDisabled")
    prefix = "node-role.kubernetes.io/"
    roles = sorted(label.removeprefix(prefix) for label in part(obj, "metadata", "labels") if label.startswith(prefix))
    addresses = {address.get("type"): address.get("address") for address in members(status, "addresses")}
    return [
        name_of(obj),
        ",".join(words),
        listed(roles),
        age(obj, now),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP", NONE),
        addresses.get("ExternalIP", NONE),
        info.get("osImage", UNKNOWN),
        info.get("kernelVersion", UNKNOWN),
        info.get("containerRuntimeVersion", UNKNOWN),
    ]


def pod(obj: Object, now: float) -> list[Any]:
    status, spec = part(obj, "status"), part(obj, "spec")
    statuses = members(status, "containerStatuses")
    ready = sum(member.get("ready") is True for member in statuses)
    restarts = sum(_count(member.get("restartCount")) for member in statuses)
    ended = [
        moment
        for member in statuses
        if (moment := seconds_of(part(member, "lastState", "terminated").get("finishedAt"))) is not None
    ]
    often = f"{restarts} ({human(now - max(ended))} ago)" if restarts and ended else str(restarts)
    return [
        name_of(obj),
        f"{ready}/{len(members(spec, 'containers'))}",
        _pod_status(obj, statuses),
        often,
        age(obj, now),
        status.get("podIP") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        NONE,
    ]


def _pod_status(obj: Object, statuses: list[Mapping[str, Any]]) -> str:
    status = part(obj, "status")
    words = str(status.get("reason") or status.get("phase") or UNKNOWN)
    running = False
    for member in reversed(statuses):
        waiting, ended = part(member, "state", "waiting"), part(member, "state", "terminated")
        if waiting.get("reason"):
            words = str(waiting["reason"])
        elif ended.get("reason"):
            words = str(ended["reason"])
        elif ended:
            signal = ended.get("signal")
            words = f"Signal:{signal}" if signal else f"ExitCode:{ended.get('exitCode')}"
        elif member.get("ready") is True and part(member, "state").get("running") is not None:
            running = True
    if words == "Completed" and running:
        words = "Running"
    if part(obj, "metadata").get("deletionTimestamp"):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return words


def job(obj: Object, now: float) -> list[Any]:
    spec, status = part(obj, "spec"), part(obj, "status")
    completions, parallelism = spec.get("completions"), _count(spec.get("parallelism"))
    succeeded = _count(status.get("succeeded"))
    if completions is not None:
        done = f"{succeeded}/{completions}"
    else:
        done = f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"
    start, end = status.get("startTime"), status.get("completionTime")
    duration = "" if start is None else between(start, end) if end is not None else since(start, now)
    return [name_of(obj), _job_status(obj), done, duration, age(obj, now), *_workload(obj)]


def _job_status(obj: Object) -> str:
    conditions = members(obj, "status", "conditions")
    for kind, word in (("Complete", "Complete"), ("Failed", "Failed")):
        if condition_is(conditions, kind):
            return word
    if part(obj, "metadata").get("deletionTimestamp"):
        return "Terminating"
    for kind, word in (("Suspended", "Suspended"), ("FailureTarget", "FailureTarget")):
        if condition_is(conditions, kind):
            return word
    return "SuccessCriteriaMet" if condition_is(conditions, "SuccessCriteriaMet") else "Running"


def deployment(obj: Object, now: float) -> list[Any]:
    status = part(obj, "status")
    return [
        name_of(obj),
        f"{_count(status.get('readyReplicas'))}/{_count(part(obj, 'spec').get('replicas'))}",
        _count(status.get("updatedReplicas")),
        _count(status.get("availableReplicas")),
        age(obj, now),
        *_workload(obj),
    ]


def _workload(obj: Object) -> list[str]:
    containers = members(obj, "spec", "template", "spec", "containers")
    names, images = (listed(container.get(key, "") for container in containers) for key in ("name", "image"))
    return [names, images, _selector(part(obj, "spec", "selector", "matchLabels"))]


def _selector(labels: Mapping[str, Any]) -> str:
    return listed(f"{key}={value}" for key, value in sorted(labels.items()))


def service(obj: Object, now: float) -> list[Any]:
    spec = part(obj, "spec")
    ports = [f"{port.get('port')}{_node_port(port)}/{port.get('protocol', 'TCP')}" for port in members(spec, "ports")]
    ingress = members(obj, "status", "loadBalancer", "ingress")
    outside = [entry.get("ip") or entry.get("hostname") for entry in ingress] or spec.get("externalIPs") or []
    return [
        name_of(obj),
        spec.get("type", ""),
        spec.get("clusterIP") or NONE,
        spec.get("externalName") or listed(outside if isinstance(outside, list) else ()),
        listed(ports),
        age(obj, now),
        _selector(part(spec, "selector")),
    ]


def _node_port(port: Mapping[str, Any]) -> str:
    return f":{port['nodePort']}" if port.get("nodePort") else ""


def event(obj: Object, now: float) -> list[Any]:
    """For core/v1 and events.k8s.io/v1 alike."""
    about = part(obj, "involvedObject") or part(obj, "regarding")
    source = part(obj, "source") or part(obj, "deprecatedSource")
    series = part(obj, "series")
    first = obj.get("firstTimestamp") or obj.get("deprecatedFirstTimestamp") or obj.get("eventTime")
    last = series.get("lastObservedTime") or obj.get("lastTimestamp") or obj.get("deprecatedLastTimestamp") or first
    count = series.get("count") or obj.get("count") or obj.get("deprecatedCount") or 1
    by = source.get("component") or obj.get("reportingComponent") or obj.get("reportingController") or ""
    host = source.get("host")
    kind, name = str(about.get("kind", "")).lower(), about.get("name", "")
    return [
        since(last, now),
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{kind}/{name}" if name else kind,
        about.get("fieldPath", ""),
        f"{by}, {host}" if host else by,
        str(obj.get("message") or obj.get("note") or "").strip(),
        since(first, now),
        count,
        name_of(obj),
    ]
