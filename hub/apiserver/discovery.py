"""What is served, for clients that ask: aggregated discovery (v2, v2beta1), and the older documents a group at a time.

Pure functions of a registry; each document is made once a registry. Which of them a request means is the front's
business: `discovery(registry, parts, accept)` answers for all paths of ``/api`` and ``/apis``.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final
from weakref import WeakKeyDictionary

import orjson

from hub.apiserver.kinds import Registry, ServedKind

JSON: Final = "application/json"
_AGGREGATED: Final = "apidiscovery.k8s.io"
# Subresources that are asked for, not kept.
CREATED: Final = frozenset({"token"})
_OF_OTHER_KINDS: Final[Mapping[str, tuple[str, str, str]]] = {
    "scale": ("autoscaling", "v1", "Scale"),
    "token": ("authentication.k8s.io", "v1", "TokenRequest"),
}
_cache: WeakKeyDictionary[Registry, dict[tuple[str, ...], tuple[str, bytes]]] = WeakKeyDictionary()


def discovery(registry: Registry, parts: Sequence[str], accept: str = "") -> tuple[str, bytes] | None:
    """(content type, body) for ``/api``, ``/apis``, ``/api/v1``, ``/apis/GROUP``, ``/apis/GROUP/VERSION``.

    None where nothing is served. `accept` is the header: it decides between aggregated and older documents.
    """
    if not parts or parts[0] not in ("api", "apis") or len(parts) > 3:
        return None
    version = _aggregated_version(accept) if len(parts) == 1 else ""
    key = (*parts, "", version)
    documents = _cache.setdefault(registry, {})
    if key not in documents:
        document = _document(registry, parts, version)
        if document is None:
            return None
        content_type = f"{JSON};g={_AGGREGATED};v={version};as=APIGroupDiscoveryList" if version else JSON
        documents[key] = content_type, orjson.dumps(document)
    return documents[key]


@lru_cache(maxsize=128)
def _aggregated_version(accept: str) -> str:
    """The best version of aggregated discovery that the header asks for; empty: none."""
    for part in accept.split(","):
        kind, *pairs = (piece.strip() for piece in part.split(";"))
        parameters = dict(pair.partition("=")[::2] for pair in pairs)
        if kind == JSON and parameters.get("g") == _AGGREGATED and parameters.get("v") in ("v2", "v2beta1"):
            return parameters["v"]
        if kind in (JSON, "*/*") and "as" not in parameters:
            return ""
    return ""


def _document(registry: Registry, parts: Sequence[str], version: str) -> dict[str, Any] | None:
    core = parts[0] == "api"
    if len(parts) == 1:
        if version:
            return _group_discovery_list(registry, version, core=core)
        return _core_versions() if core else _group_list(registry)
    groups = registry.groups()
    if core:
        return _resource_list("v1", groups[""]["v1"]) if list(parts[1:]) == ["v1"] and "" in groups else None
    group = parts[1]
    if not group or group not in groups:
        return None
    if len(parts) == 2:
        return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, groups[group])}
    kinds = groups[group].get(parts[2])
    return _resource_list(f"{group}/{parts[2]}", kinds) if kinds else None


def _core_versions() -> dict[str, Any]:
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
    }


def _group_list(registry: Registry) -> dict[str, Any]:
    groups = [_group(group, versions) for group, versions in registry.groups().items() if group]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def _group(group: str, versions: Mapping[str, Sequence[ServedKind]]) -> dict[str, Any]:
    listed = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": listed, "preferredVersion": listed[0]}


def _resource_list(group_version: str, kinds: Sequence[ServedKind]) -> dict[str, Any]:
    resources: list[dict[str, Any]] = []
    for kind in kinds:
        entry: dict[str, Any] = {
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": list(kind.verbs),
        }
        if kind.short_names:
            entry["shortNames"] = list(kind.short_names)
        if kind.categories:
            entry["categories"] = list(kind.categories)
        if not kind.virtual:
            entry["storageVersionHash"] = _storage_hash(kind)
        resources.append(entry)
        for subresource in sorted(kind.subresources):
            group, version, name = _subresource_kind(kind, subresource)
            below: dict[str, Any] = {
                "name": f"{kind.plural}/{subresource}",
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": name,
                "verbs": subresource_verbs(subresource),
            }
            if (group, version) != (kind.group, kind.version):
                below["group"], below["version"] = group, version
            resources.append(below)
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}


def _group_discovery_list(registry: Registry, version: str, *, core: bool) -> dict[str, Any]:
    items = [
        {
            "metadata": {"name": group, "creationTimestamp": None} if group else {"creationTimestamp": None},
            "versions": [
                {"version": name, "resources": [_resource_discovery(kind) for kind in kinds], "freshness": "Current"}
                for name, kinds in versions.items()
            ],
        }
        for group, versions in registry.groups().items()
        if (not group) is core
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"{_AGGREGATED}/{version}",
        "metadata": {},
        "items": items,
    }


def _resource_discovery(kind: ServedKind) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    if kind.subresources:
        entry["subresources"] = [
            {
                "subresource": subresource,
                "responseKind": dict(
                    zip(("group", "version", "kind"), _subresource_kind(kind, subresource), strict=True)
                ),
                "verbs": subresource_verbs(subresource),
            }
            for subresource in sorted(kind.subresources)
        ]
    return entry


def _subresource_kind(kind: ServedKind, subresource: str) -> tuple[str, str, str]:
    return _OF_OTHER_KINDS.get(subresource) or (kind.group, kind.version, kind.kind)


def subresource_verbs(subresource: str) -> list[str]:
    return ["create"] if subresource in CREATED else ["get", "patch", "update"]


def _storage_hash(kind: ServedKind) -> str:
    text = f"{kind.storage.group}/{kind.storage.version}/{kind.storage.kind}"
    return base64.b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()
