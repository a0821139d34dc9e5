"""What one task's containers find in their environment and on their command line.

Kubernetes' rules: `$(NAME)` is replaced by a variable defined before it, `$$` is one `$`, what is unknown stays as it
is written. ConfigMaps and Secrets come from the site's own API, fetched before by the caller. Pure.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from agent.edge.podplan import ContainerPlan, PodPlan, PodRefused
from hub.api.errors import InvalidObjectError
from hub.api.quantity import NANO, Quantity

Json = Mapping[str, Any]
# (kind, name) → data as text
Configs = Mapping[tuple[str, str], Mapping[str, str]]
_REFERENCE: Final = re.compile(r"\$(\$|\(([^()]*)\))")
_KEYED: Final = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_VARIABLE: Final = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


class Source(NamedTuple):
    """A ConfigMap or Secret that the pod reads: `kind` is ``ConfigMap`` or ``Secret``."""

    kind: str
    name: str
    optional: bool


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What the downward API tells of one task. `allocatable`: of its node, for limits that are not set."""

    name: str
    namespace: str
    uid: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    node: str
    host_ip: str
    allocatable: Mapping[str, Quantity]


class ConfigMissing(InvalidObjectError):
    """A ConfigMap, Secret or key that is not there yet; Kubernetes waits for it, and so does a site."""


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`text` with `$(NAME)` replaced."""
    if "$" not in text:
        return text

    def replaced(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        found = variables.get(match[2])
        return match[0] if found is None else found

    return _REFERENCE.sub(replaced, text)


def sources(plan: PodPlan) -> set[Source]:
    """Every ConfigMap and Secret that must be read before a task can start."""
    found: set[Source] = set()
    for container in (*plan.init, *plan.containers):
        for entry in container.env_from:
            for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if entry.get(key):
                    found.add(Source(kind, str(entry[key].get("name") or ""), entry[key].get("optional") is True))
        for variable in container.env:
            origin = variable.get("valueFrom") or {}
            for key, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                if origin.get(key):
                    found.add(Source(kind, str(origin[key].get("name") or ""), origin[key].get("optional") is True))
    return found


def check_environments(plan: PodPlan, namespace: str) -> None:
    """Whether they can be made at all, whatever task and node it will be. Raises `PodRefused`."""
    facts = TaskFacts("", namespace, "", {}, {}, "", "", {})
    for container in (*plan.init, *plan.containers):
        # What is missing is waited for.
        with contextlib.suppress(ConfigMissing):
            container_environment(container, plan, facts, {}, {})


def container_environment(
    container: ContainerPlan,
    plan: PodPlan,
    facts: TaskFacts,
    given: Mapping[str, str],
    configs: Configs,
) -> dict[str, str]:
    """The container's own variables. `given` (the task's index and such) can be referred to and not be overridden.

    `configs`: (kind, name) → its data as text. Raises `PodRefused` and `ConfigMissing`.
    """
    variables: dict[str, str] = dict(given)
    for entry in container.env_from:
        variables.update(_from_all(entry, configs, container.name))
    for variable in container.env:
        name = str(variable["name"])
        origin = variable.get("valueFrom")
        if origin:
            value = _value_from(origin, container, plan, facts, configs, f"env {name} of container {container.name}")
            if value is None:
                continue
        else:
            raw = variable.get("value")
            value = "" if raw is None else expand(str(raw), variables)
        if name not in given:
            variables[name] = value
    return variables


def command_line(container: ContainerPlan, variables: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(command, args) with references replaced."""
    return (
        tuple(expand(text, variables) for text in container.command),
        tuple(expand(text, variables) for text in container.args),
    )


def _from_all(entry: Json, configs: Configs, container: str) -> Iterable[tuple[str, str]]:
    prefix = str(entry.get("prefix") or "")
    for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
        reference = entry.get(key)
        if not reference:
            continue
        data = configs.get((kind, str(reference.get("name") or "")))
        if data is None:
            if reference.get("optional") is True:
                continue
            raise ConfigMissing(
                f"{kind} {reference.get('name')!r} is not there", field=f"envFrom of container {container}"
            )
        for name, value in sorted(data.items()):
            if _VARIABLE.fullmatch(prefix + name):
                yield prefix + name, value


def _value_from(
    origin: Json,
    container: ContainerPlan,
    plan: PodPlan,
    facts: TaskFacts,
    configs: Configs,
    where: str,
) -> str | None:
    if origin.get("fieldRef"):
        return _field(str(origin["fieldRef"].get("fieldPath") or ""), plan, facts, where)
    if origin.get("resourceFieldRef"):
        return _resource(origin["resourceFieldRef"], container, plan, facts, where)
    for key, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
        reference = origin.get(key)
        if not reference:
            continue
        name, wanted = str(reference.get("name") or ""), str(reference.get("key") or "")
        value = (configs.get((kind, name)) or {}).get(wanted)
        if value is None and reference.get("optional") is not True:
            raise ConfigMissing(f"{kind} {name!r} with key {wanted!r} is not there", field=where)
        return value
    raise PodRefused(
        f"{', '.join(origin) or 'an empty valueFrom'} cannot be honoured here:"
        " write fieldRef, resourceFieldRef, configMapKeyRef or secretKeyRef",
        field=where,
    )


def _field(path: str, plan: PodPlan, facts: TaskFacts, where: str) -> str:
    keyed = _KEYED.fullmatch(path)
    if keyed is not None:
        return (facts.labels if keyed[1] == "labels" else facts.annotations).get(keyed[2], "")
    simple = {
        "metadata.name": facts.name,
        "metadata.namespace": facts.namespace,
        "metadata.uid": facts.uid,
        "spec.nodeName": facts.node,
        "spec.serviceAccountName": plan.service_account,
        "status.hostIP": facts.host_ip,
        "status.hostIPs": facts.host_ip,
        # Processes of the host have the host's address.
        "status.podIP": facts.host_ip,
        "status.podIPs": facts.host_ip,
    }
    if path not in simple:
        raise PodRefused(
            f"{path!r} cannot be honoured here: write {', '.join(sorted(simple))}, metadata.labels['KEY']"
            " or metadata.annotations['KEY']",
            field=where,
        )
    return simple[path]


def _resource(reference: Json, container: ContainerPlan, plan: PodPlan, facts: TaskFacts, where: str) -> str:
    wanted = str(reference.get("containerName") or container.name)
    found = next((c for c in (*plan.containers, *plan.init) if c.name == wanted), None)
    if found is None:
        raise PodRefused(f"there is no container {wanted!r}", field=where)
    part, _, resource = str(reference.get("resource") or "").partition(".")
    if part not in ("limits", "requests") or not resource:
        raise PodRefused(f"{reference.get('resource')!r}: write limits.cpu, requests.memory or the like", field=where)
    amount = (found.limits if part == "limits" else found.requests).get(resource)
    if amount is None:
        amount = facts.allocatable.get(resource, Quantity(0)) if part == "limits" else Quantity(0)
    try:
        divisor = Quantity(reference.get("divisor") or 1)
    except InvalidObjectError as error:
        raise PodRefused(str(error), field=where) from error
    if divisor.nano <= 0:
        divisor = Quantity.from_nano(NANO)
    return str(-(-amount.nano // divisor.nano))
