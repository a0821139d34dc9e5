"""What a hub's API must hold before anything can be submitted: our kinds, a namespace, the default queue, priorities.

Safe to run at every start and by several at once: what is there stays as a person left it. Only the definitions of
kinds are brought up to date, because they belong to the program: always our own group's, the others' when we made them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from hub.api import names
from hub.api.conditions import condition_is
from hub.api.errors import AlreadyExistsError, ConflictError, NotFoundError, QuarterdeckError
from hub.api.installed import installed_crds
from hub.api.mergepatch import create_merge_patch
from hub.api.resource import (
    CLUSTER_QUEUES,
    CLUSTER_ROLES,
    CUSTOM_RESOURCE_DEFINITIONS,
    LOCAL_QUEUES,
    MANAGED_CLUSTER_SETS,
    NAMESPACES,
    RESOURCE_FLAVORS,
    WORKLOAD_PRIORITY_CLASSES,
    Resource,
)
from hub.client.interface import KubeApi, Object
from hub.registration.rights import agent_role
from hub.registration.sets import MAINTAINED

_log = logging.getLogger(__name__)
_MADE_BY: Final = "app.kubernetes.io/managed-by"
_US: Final = "quarterdeck"
_ESTABLISH_SECONDS: Final = 30.0

# Generous rather than unlimited: a queue that never says no would hide a typo of a thousand GPUs too many.
_DEFAULT_QUOTA: Final[Mapping[str, str]] = {
    "cpu": "1M",
    "memory": "1Pi",
    "ephemeral-storage": "10Pi",
    names.GPU: "100k",
    names.GPU_MILLI: "100M",
    "amd.com/gpu": "100k",
    "gpu.intel.com/i915": "100k",
    "hugepages-2Mi": "1Pi",
    "hugepages-1Gi": "1Pi",
}
_PRIORITIES: Final[Mapping[str, tuple[int, str]]] = {
    "low": (-100, "Waits for everything else."),
    "normal": (0, "As without a class."),
    "high": (1000, "Before everything that has no class."),
}


async def bootstrap(api: KubeApi) -> None:
    """Raises what the API raises. Takes a few hundred milliseconds on an empty hub, less on one that is set up."""
    await asyncio.gather(*(_install(api, definition) for definition in installed_crds()))
    await asyncio.gather(*(_ensure(api, resource, obj) for resource, obj in default_objects()))
    await _give_agents_a_role(api)


def default_objects() -> list[tuple[Resource, Object]]:
    """What is made once, and belongs to the operator from then on."""
    quotas = [{"name": name, "nominalQuota": quota} for name, quota in _DEFAULT_QUOTA.items()]
    group = {"coveredResources": list(_DEFAULT_QUOTA), "flavors": [{"name": "default", "resources": quotas}]}
    objects: list[tuple[Resource, Object]] = [
        (NAMESPACES, _named(NAMESPACES, names.HUB_NAMESPACE)),
        (RESOURCE_FLAVORS, _named(RESOURCE_FLAVORS, "default", spec={})),
        (CLUSTER_QUEUES, _named(CLUSTER_QUEUES, "default", spec={"namespaceSelector": {}, "resourceGroups": [group]})),
        (LOCAL_QUEUES, _named(LOCAL_QUEUES, names.DEFAULT_QUEUE, "default", spec={"clusterQueue": "default"})),
    ]
    objects += [(MANAGED_CLUSTER_SETS, cluster_set(name)) for name in MAINTAINED]
    objects += [
        (WORKLOAD_PRIORITY_CLASSES, _named(WORKLOAD_PRIORITY_CLASSES, name, value=value, description=why))
        for name, (value, why) in _PRIORITIES.items()
    ]
    return objects


def cluster_set(name: str) -> Object:
    return _named(MANAGED_CLUSTER_SETS, name, spec={"clusterSelector": dict(MAINTAINED[name])})


async def _give_agents_a_role(api: KubeApi) -> None:
    """What agents may do belongs to the program, too. Where the API has no RBAC there is nothing to do."""
    role = agent_role()
    role["metadata"]["labels"] = {_MADE_BY: _US}
    try:
        await api.create(CLUSTER_ROLES, role)
    except AlreadyExistsError:
        live = await api.get(CLUSTER_ROLES, role["metadata"]["name"])
        if live.get("rules") != role["rules"]:
            await api.patch(CLUSTER_ROLES, role["metadata"]["name"], {"rules": role["rules"]})
    except NotFoundError:
        return


async def _install(api: KubeApi, definition: Object) -> None:
    definition["metadata"].setdefault("labels", {})[_MADE_BY] = _US
    name = definition["metadata"]["name"]
    try:
        live = await api.create(CUSTOM_RESOURCE_DEFINITIONS, definition)
    except AlreadyExistsError:
        live = await _update(api, definition)
    if condition_is((live.get("status") or {}).get("conditions"), "Established"):
        return
    async with asyncio.timeout(_ESTABLISH_SECONDS):
        pause = 0.01
        while True:
            live = await api.get(CUSTOM_RESOURCE_DEFINITIONS, name)
            conditions = (live.get("status") or {}).get("conditions")
            if condition_is(conditions, "Established"):
                return
            refused: Mapping[str, Any] = next((c for c in conditions or () if c.get("type") == "NamesAccepted"), {})
            if refused.get("status") == "False":
                raise QuarterdeckError(
                    f"the API server does not serve {name}: {refused.get('message')}",
                    hint="Another definition uses the same kind or short name; remove one of them.",
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.5)


async def _update(api: KubeApi, definition: Object) -> Object:
    name = definition["metadata"]["name"]
    while True:
        live = await api.get(CUSTOM_RESOURCE_DEFINITIONS, name)
        if covers(live["spec"], definition["spec"]):
            return live
        ours = definition["spec"]["group"] == names.GROUP
        if not ours and (live["metadata"].get("labels") or {}).get(_MADE_BY) != _US:
            _log.info("%s was installed by somebody else and is left as it is", name)
            return live
        patch = {
            "metadata": {
                "resourceVersion": live["metadata"]["resourceVersion"],
                "labels": {_MADE_BY: _US},
            },
            "spec": create_merge_patch({}, definition["spec"]),
        }
        try:
            return await api.patch(CUSTOM_RESOURCE_DEFINITIONS, name, patch)
        except ConflictError:
            continue


def covers(live: Any, wanted: Any) -> bool:
    """Whether `live` says all that `wanted` says; a server adds defaults of its own. Lists must have equal lengths."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(
            key in live and covers(live[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(live, list) and len(live) == len(wanted) and all(map(covers, live, wanted))
    return bool(live == wanted)


async def _ensure(api: KubeApi, resource: Resource, obj: Object) -> None:
    try:
        await api.create(resource, obj, obj["metadata"].get("namespace"))
    except AlreadyExistsError:
        return


def _named(resource: Resource, name: str, namespace: str = "", **content: Any) -> Object:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **content}
