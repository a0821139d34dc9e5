"""OpenAPI documents: one index, and one v3 document a group version, made of the schemas that are enforced.

For kubectl they are where `explain` reads, and where it learns that the server validates fields and runs dry. Version 2
is made of these in openapi_v2.py. Pure functions of a registry; a document is made once for the same kinds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final
from weakref import WeakKeyDictionary

import orjson

from hub.api.quantity import PATTERN
from hub.apiserver.kinds import Registry, ServedKind
from hub.apiserver.openapi_meta import COMPONENTS, REFERENCE, ref

JSON: Final = "application/json"
_NOT_PUBLISHED: Final = frozenset({"x-kubernetes-patch-strategy", "x-kubernetes-patch-merge-key"})
_PARAMETERS: Final[Mapping[str, tuple[str, str]]] = {
    "dryRun": ("string", "All: everything but storing is done."),
    "fieldManager": ("string", "Who changes the object, for the record of who owns which field."),
    "fieldValidation": ("string", "What unknown fields are worth: Ignore, Warn or Strict."),
    "force": ("boolean", "Whether apply takes fields from their owners."),
    "labelSelector": ("string", "Which objects, by label."),
    "fieldSelector": ("string", "Which objects, by field."),
    "limit": ("integer", "How many objects at most."),
    "continue": ("string", "Where a list goes on."),
    "resourceVersion": ("string", "From when on."),
    "watch": ("boolean", "Whether to follow what changes."),
    "timeoutSeconds": ("integer", "How long at most."),
    "gracePeriodSeconds": ("integer", "How long the object may take to end."),
    "propagationPolicy": ("string", "What becomes of what it owns: Orphan, Background or Foreground."),
}
_WRITE: Final = ("dryRun", "fieldManager", "fieldValidation")
_LIST: Final = (*("labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "watch", "timeoutSeconds"),)
_DELETE: Final = ("dryRun", "gracePeriodSeconds", "propagationPolicy")
_PATCHES: Final = ("application/merge-patch+json", "application/json-patch+json", "application/apply-patch+yaml")
_indexes: WeakKeyDictionary[Registry, bytes] = WeakKeyDictionary()


def documents(registry: Registry) -> list[bytes]:
    """The document of each group and version."""
    return [_document(tuple(kinds)) for versions in registry.groups().values() for kinds in versions.values()]


def openapi_v3(registry: Registry, parts: Sequence[str]) -> bytes | None:
    """JSON for ``/openapi/v3`` (no `parts`) or ``/openapi/v3/apis/GROUP/VERSION``; None where nothing is served."""
    if not parts:
        if registry not in _indexes:
            _indexes[registry] = _index(registry)
        return _indexes[registry]
    if len(parts) == 2 and parts[0] == "api":
        group, version = "", parts[1]
    elif len(parts) == 3 and parts[0] == "apis" and parts[1]:
        group, version = parts[1], parts[2]
    else:
        return None
    kinds = registry.groups().get(group, {}).get(version)
    return _document(tuple(kinds)) if kinds else None


def _index(registry: Registry) -> bytes:
    paths = {}
    for group, versions in registry.groups().items():
        for version, kinds in versions.items():
            path = f"apis/{group}/{version}" if group else f"api/{version}"
            digest = hashlib.sha256(_document(tuple(kinds))).hexdigest()[:32].upper()
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    return orjson.dumps({"paths": paths})


@lru_cache(maxsize=512)
def _document(kinds: tuple[ServedKind, ...]) -> bytes:
    paths: dict[str, Any] = {}
    components: dict[str, Any] = dict(COMPONENTS)
    for kind in kinds:
        components[_name(kind)] = _object_schema(kind)
        if not kind.virtual:
            components[f"{_name(kind)}List"] = _list_schema(kind)
        paths.update(_paths(kind))
    document = {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1"},
        "paths": paths,
        "components": {"schemas": components},
    }
    return orjson.dumps(document)


def _name(kind: ServedKind) -> str:
    """``dev.quarterdeck.fleet.v1alpha1.FleetJob``: the group backwards, as everybody names them."""
    group = ".".join(reversed((kind.group or "core.api.k8s.io").split(".")))
    return f"{group}.{kind.version}.{kind.kind}"


def _gvk(kind: ServedKind, name: str = "") -> dict[str, str]:
    return {"group": kind.group, "kind": name or kind.kind, "version": kind.version}


def _object_schema(kind: ServedKind) -> dict[str, Any]:
    schema = published(kind.openapi)
    properties = schema.get("properties") or {}
    for name, words in (("spec", "What is wanted of it."), ("status", "What has become of it; the system writes it.")):
        if name in properties:
            properties[name] = {"description": words, **properties[name]}
    schema["type"] = "object"
    schema["properties"] = {
        "apiVersion": {"type": "string", "description": f"Group and version: {kind.api_version}."},
        "kind": {"type": "string", "description": f"The kind: {kind.kind}."},
        "metadata": ref("ObjectMeta", "Name, namespace, labels and the like."),
        **{name: value for name, value in properties.items() if name not in ("apiVersion", "kind", "metadata")},
    }
    schema["x-kubernetes-group-version-kind"] = [_gvk(kind)]
    return schema


def _list_schema(kind: ServedKind) -> dict[str, Any]:
    return {
        "type": "object",
        "description": f"A list of {kind.kind} objects.",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": ref("ListMeta", "The list's own version, and where it goes on."),
            "items": {"type": "array", "items": {"$ref": REFERENCE + _name(kind)}},
        },
        "x-kubernetes-group-version-kind": [_gvk(kind, kind.list_kind)],
    }


def published(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A structural schema as clients read it: quantities and the like by the names they know."""
    if schema.get("x-kubernetes-int-or-string") is True:
        name = "Quantity" if schema.get("pattern") == PATTERN else "IntOrString"
        return ref(name, str(schema.get("description") or ""), schema.get("default"))
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _NOT_PUBLISHED:
            continue
        if key == "properties":
            result[key] = {name: published(member) for name, member in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, Mapping):
            result[key] = published(value)
        elif key == "x-kubernetes-preserve-unknown-fields" and "type" not in schema:
            result["type"] = "object"
            result[key] = value
        else:
            result[key] = value
    return result


def _paths(kind: ServedKind) -> dict[str, Any]:
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    base = f"{root}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"{root}/{kind.plural}"
    outer = [_path_parameter("namespace")] if kind.namespaced else []
    inner = [*outer, _path_parameter("name")]
    if kind.virtual:
        return {base: {"post": _operation(kind, "post", _WRITE[:2]), **_shared(outer)}}
    collection = {
        "get": _operation(kind, "list", _LIST),
        "post": _operation(kind, "post", _WRITE),
        "delete": _operation(kind, "deletecollection", (*_DELETE, "labelSelector", "fieldSelector")),
        **_shared(outer),
    }
    item = {
        "get": _operation(kind, "get", ("resourceVersion",)),
        "put": _operation(kind, "put", _WRITE),
        "patch": _operation(kind, "patch", (*_WRITE, "force")),
        "delete": _operation(kind, "delete", _DELETE),
        **_shared(inner),
    }
    paths = {base: collection, f"{base}/{{name}}": item}
    if kind.namespaced:
        paths[f"{root}/{kind.plural}"] = {"get": _operation(kind, "list", _LIST, "ForAllNamespaces")}
    if kind.has_status:
        paths[f"{base}/{{name}}/status"] = {
            "get": _operation(kind, "get", ("resourceVersion",), "Status"),
            "put": _operation(kind, "put", _WRITE, "Status"),
            "patch": _operation(kind, "patch", (*_WRITE, "force"), "Status"),
            **_shared(inner),
        }
    return paths


def _shared(parameters: list[dict[str, Any]]) -> dict[str, Any]:
    return {"parameters": parameters} if parameters else {}


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _operation(kind: ServedKind, action: str, parameters: Sequence[str], suffix: str = "") -> dict[str, Any]:
    reference = {"$ref": REFERENCE + _name(kind) + ("List" if action == "list" else "")}
    operation: dict[str, Any] = {
        "operationId": f"{action}{kind.group.title().replace('.', '')}{kind.version.title()}{kind.kind}{suffix}",
        "parameters": [
            {"name": name, "in": "query", "schema": {"type": _PARAMETERS[name][0]}, "description": _PARAMETERS[name][1]}
            for name in parameters
        ],
        "responses": {"200": {"description": "OK", "content": {JSON: {"schema": reference}}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _gvk(kind),
    }
    if action in ("post", "put"):
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": reference}}}
    elif action == "patch":
        # Without strategic merge patches kubectl makes those of built-in kinds from its own types, which are complete.
        content = {media: {"schema": {"type": "object"}} for media in _PATCHES}
        operation["requestBody"] = {"required": True, "content": content}
    return operation
