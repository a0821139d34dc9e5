"""`quarterdeck export`: the objects of an API as YAML that another one takes (`kubectl apply --server-side -f -`)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from hub.api.errors import ApiError

Json = dict[str, Any]
_SERVERS: Final = (
    *("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "managedFields", "selfLink"),
    "deletionGracePeriodSeconds",
)
# What a server makes anew, or what is of no use elsewhere.
_LEFT_OUT: Final = frozenset(
    {("", "events"), ("events.k8s.io", "events"), ("coordination.k8s.io", "leases"), ("", "nodes"), ("", "pods")}
    | {("", "endpoints"), ("discovery.k8s.io", "endpointslices"), ("certificates.k8s.io", "certificatesigningrequests")}
)
# What others need to be there; the rest by name.
_FIRST: Final = (
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("", "namespaces"),
    ("scheduling.k8s.io", "priorityclasses"),
    ("", "serviceaccounts"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("", "secrets"),
    ("", "configmaps"),
)
# Whoever is asked about objects has to be there last.
_LAST: Final = "admissionregistration.k8s.io"
_SYSTEM: Final = frozenset({"default", "kube-system", "kube-public", "kube-node-lease"})


@click.command(name="export")
@click.option("--all-namespaces/--namespaced", "everything", default=True, help="Or only those of the namespace (-n).")
@click.pass_context
def command(ctx: click.Context, everything: bool) -> None:
    """Print every object as YAML, in the order in which another API can take them.

    \b
      quarterdeck export | kubectl --context production apply --server-side -f -

    Status, events, leases and what a server makes itself are left out; kinds come before their objects. kubectl may
    have to be asked twice where it applies objects of a kind before the server has taken up the kind.
    """
    asyncio.run(_export(ctx, everything))


async def _export(ctx: click.Context, everything: bool) -> None:
    import yaml

    from hub.cli.connection import connect, namespace

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    async with connect(ctx) as api:
        for group_version, resource in await _kinds(api):
            if not everything and not resource["namespaced"]:
                continue
            inside = f"/namespaces/{namespace(ctx)}" if not everything else ""
            async for obj in _objects(api, f"{_root(group_version)}{inside}/{resource['name']}"):
                obj = {"apiVersion": group_version, "kind": resource["kind"], **obj}
                if (portable := portable_object(obj)) is not None:
                    click.echo(
                        "---\n" + yaml.dump(portable, Dumper=dumper, sort_keys=False, allow_unicode=True), nl=False
                    )


def portable_object(obj: Mapping[str, Any]) -> Json | None:
    """`obj` as another API takes it; None for what that has itself."""
    metadata = {name: value for name, value in obj["metadata"].items() if name not in _SERVERS}
    if "deletionTimestamp" in obj["metadata"] or _is_the_servers(obj, metadata):
        return None
    owners = metadata.pop("ownerReferences", None) or ()
    if any(owner.get("controller") for owner in owners):
        # Made of another object, and made again of it there.
        return None
    result = {**obj, "metadata": metadata}
    result.pop("status", None)
    if obj["kind"] == "Namespace":
        result.pop("spec", None)
        labels = {k: v for k, v in (metadata.get("labels") or {}).items() if k != "kubernetes.io/metadata.name"}
        metadata.pop("labels", None)
        if labels:
            metadata["labels"] = labels
    if obj["kind"] == "ClusterRole" and obj.get("aggregationRule"):
        result.pop("rules", None)
    return result


def _is_the_servers(obj: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    labels = metadata.get("labels") or {}
    if "kubernetes.io/bootstrapping" in labels:
        return True
    name = metadata.get("name")
    if obj["kind"] == "Namespace":
        return name in _SYSTEM
    if obj["kind"] == "Secret":
        return obj.get("type") == "kubernetes.io/service-account-token"
    return obj["kind"] == "ConfigMap" and name == "kube-root-ca.crt"


def in_order(found: Sequence[tuple[str, Json]]) -> list[tuple[str, Json]]:
    """(group/version, resource) of one version a kind, in the order in which a server can take their objects."""

    def place(entry: tuple[str, Json]) -> tuple[int, str, str]:
        group, name = _group(entry[0]), entry[1]["name"]
        if (group, name) in _FIRST:
            return _FIRST.index((group, name)), "", ""
        return len(_FIRST) + (group == _LAST), group, name

    return sorted(found, key=place)


async def _kinds(api: Any) -> list[tuple[str, Json]]:
    groups = (await api.request("GET", "/apis"))["groups"]
    versions = ["v1", *(group["preferredVersion"]["groupVersion"] for group in groups)]
    found = []
    for version in versions:
        for resource in (await api.request("GET", _root(version)))["resources"]:
            known = (_group(version), resource["name"]) in _LEFT_OUT
            if "/" not in resource["name"] and {"list", "create"} <= set(resource["verbs"]) and not known:
                found.append((version, resource))
    return in_order(found)


async def _objects(api: Any, path: str) -> Any:
    token = ""
    while True:
        query = {"limit": "500", **({"continue": token} if token else {})}
        try:
            page = await api.request("GET", path, query=query)
        except ApiError as error:
            if error.code != 403:
                raise
            click.echo(f"left out: {error}", err=True)
            return
        for obj in page["items"]:
            yield obj
        token = page["metadata"].get("continue") or ""
        if not token:
            return


def _root(group_version: str) -> str:
    return f"/apis/{group_version}" if "/" in group_version else f"/api/{group_version}"


def _group(group_version: str) -> str:
    return group_version.rpartition("/")[0]
