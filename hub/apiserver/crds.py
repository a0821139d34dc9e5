"""CustomResourceDefinitions: which are acceptable, their defaults, and the status a server gives them.

What is inside their schemas is hub/apiserver/schema.py's business. Conversion webhooks are never called: a kind of
several versions must be one whose rules are known here (hub/api/conversion.py) or declared (declared_conversion.py), or
differ in name only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from hub.api import jsonpath
from hub.api.conditions import with_condition
from hub.api.errors import InvalidObjectError
from hub.api.patterns import DNS_LABEL_PATTERN, DNS_SUBDOMAIN_PATTERN
from hub.apiserver.builtin_schemas import CUSTOM_RESOURCE_DEFINITION
from hub.apiserver.declared_conversion import ANNOTATION, declared
from hub.apiserver.schema import compile_schema

Object = Mapping[str, Any]

_COLUMN_TYPES: Final = ("integer", "number", "string", "boolean", "date")
_LABEL, _SUBDOMAIN = re.compile(DNS_LABEL_PATTERN), re.compile(DNS_SUBDOMAIN_PATTERN)
_CAMEL = re.compile(r"[A-Z][A-Za-z0-9]*")
_SCALE_PATHS: Final = (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status."))
_SHAPE: Final = compile_schema(CUSTOM_RESOURCE_DEFINITION, root=True)
# Groups whose versions are converted here, so that the webhook their CRDs name is not needed.
_CONVERTED: Final = frozenset({"kueue.x-k8s.io"})


def with_defaults(crd: Object) -> dict[str, Any]:
    """A new CRD with what may be left out filled in; parts that did not change are shared."""
    spec = dict(crd["spec"])
    names = dict(spec["names"])
    names.setdefault("singular", names["kind"].lower())
    names.setdefault("listKind", f"{names['kind']}List")
    spec["names"] = names
    spec.setdefault("conversion", {"strategy": "None"})
    return {**crd, "spec": spec}


def check(crd: Object) -> None:
    """Raises `InvalidObjectError` with the first field that keeps `crd` from being served."""
    for error in _SHAPE.conform(crd).errors:
        raise InvalidObjectError(error.message, field=error.field)
    spec = _object(crd, "spec", "spec")
    group = _text(spec, "group", "spec.group")
    if not _SUBDOMAIN.fullmatch(group) or "." not in group:
        raise InvalidObjectError(f"found {group!r}; expected a domain name such as example.com", field="spec.group")
    names = _object(spec, "names", "spec.names")
    plural = _text(names, "plural", "spec.names.plural")
    if not _LABEL.fullmatch(plural):
        raise InvalidObjectError(f"found {plural!r}; expected lower-case letters", field="spec.names.plural")
    for name in ("kind", "listKind"):
        if name == "kind" or names.get(name) is not None:
            kind = _text(names, name, f"spec.names.{name}")
            if not _CAMEL.fullmatch(kind):
                raise InvalidObjectError(f"found {kind!r}; expected CamelCase", field=f"spec.names.{name}")
    for name in ("shortNames", "categories"):
        _texts(names, name, f"spec.names.{name}")
    metadata = crd.get("metadata")
    own_name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if own_name != f"{plural}.{group}":
        raise InvalidObjectError(
            f"found {own_name!r}; expected {plural}.{group}, as spec.names.plural and spec.group say",
            field="metadata.name",
        )
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        raise InvalidObjectError(f"found {spec.get('scope')!r}; allowed: Cluster, Namespaced", field="spec.scope")
    _check_versions(spec)
    _check_conversion(crd, spec, group)


def _check_versions(spec: Object) -> None:
    versions = spec.get("versions")
    if not isinstance(versions, list) or not versions:
        raise InvalidObjectError("expected at least one version", field="spec.versions")
    seen: set[str] = set()
    for position, version in enumerate(versions):
        where = f"spec.versions[{position}]"
        if not isinstance(version, Mapping):
            raise InvalidObjectError("expected an object", field=where)
        name = _text(version, "name", f"{where}.name")
        if not _LABEL.fullmatch(name):
            raise InvalidObjectError(f"found {name!r}; expected a name such as v1 or v1beta1", field=f"{where}.name")
        if name in seen:
            raise InvalidObjectError(f"{name!r} is there twice", field=f"{where}.name")
        seen.add(name)
        for flag in ("served", "storage"):
            if not isinstance(version.get(flag), bool):
                raise InvalidObjectError("expected true or false", field=f"{where}.{flag}")
        schema = _object(version, "schema", f"{where}.schema")
        _object(schema, "openAPIV3Schema", f"{where}.schema.openAPIV3Schema")
        _check_columns(version, where)
        _check_subresources(version, where)
    if sum(version["storage"] for version in versions) != 1:
        raise InvalidObjectError("exactly one version must have storage: true", field="spec.versions")


def _check_conversion(crd: Object, spec: Object, group: str) -> None:
    converted = group in _CONVERTED or bool(declared(crd))
    strategy = (spec.get("conversion") or {}).get("strategy", "None")
    if strategy not in ("None", "Webhook"):
        raise InvalidObjectError(f"found {strategy!r}; allowed: None, Webhook", field="spec.conversion.strategy")
    if strategy == "Webhook" and len(spec["versions"]) > 1 and not converted:
        raise InvalidObjectError(
            "this server calls no conversion webhooks",
            field="spec.conversion.strategy",
            hint="Leave one version in the CRD, use the strategy None where versions differ in name only, or declare "
            f"what differs in the annotation {ANNOTATION}.",
        )


def _check_columns(version: Object, where: str) -> None:
    for position, column in enumerate(version.get("additionalPrinterColumns") or ()):
        at = f"{where}.additionalPrinterColumns[{position}]"
        if not isinstance(column, Mapping):
            raise InvalidObjectError("expected an object", field=at)
        _text(column, "name", f"{at}.name")
        _path(column, "jsonPath", f"{at}.jsonPath")
        if column.get("type") not in _COLUMN_TYPES:
            raise InvalidObjectError(
                f"found {column.get('type')!r}; allowed: {', '.join(_COLUMN_TYPES)}", field=f"{at}.type"
            )
    for position, entry in enumerate(version.get("selectableFields") or ()):
        _path(entry, "jsonPath", f"{where}.selectableFields[{position}].jsonPath")


def _check_subresources(version: Object, where: str) -> None:
    subresources = version.get("subresources")
    if subresources is None:
        return
    if not isinstance(subresources, Mapping):
        raise InvalidObjectError("expected an object", field=f"{where}.subresources")
    for name, value in subresources.items():
        if name not in ("status", "scale") or not isinstance(value, Mapping):
            raise InvalidObjectError("expected an object; allowed: status, scale", field=f"{where}.subresources.{name}")
    scale = subresources.get("scale")
    if scale is None:
        return
    for name, start in _SCALE_PATHS:
        path = _path(scale, name, f"{where}.subresources.scale.{name}")
        if not path.startswith(start):
            raise InvalidObjectError(
                f"found {path!r}; expected a path below {start[:-1]}", field=f"{where}.subresources.scale.{name}"
            )


def established(crd: Object, *, now: str, generation: int | None = None) -> dict[str, Any]:
    """The status of a CRD that is served: names accepted, Established, and every version that was ever stored."""
    spec = with_defaults(crd)["spec"]
    status: Mapping[str, Any] = crd.get("status") or {}
    conditions: list[Any] = status.get("conditions") or []
    for kind, reason, message in (
        ("NamesAccepted", "NoConflicts", "no conflicts found"),
        ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ):
        conditions = with_condition(conditions, kind, "True", reason, message, now=now, generation=generation)
    stored = next(version["name"] for version in spec["versions"] if version["storage"])
    versions = list(status.get("storedVersions") or ())
    if stored not in versions:
        versions.append(stored)
    return {"conditions": conditions, "acceptedNames": dict(spec["names"]), "storedVersions": versions}


def _object(parent: Object, name: str, field: str) -> Object:
    value = parent.get(name)
    if not isinstance(value, Mapping):
        raise InvalidObjectError("is required, as an object" if value is None else "expected an object", field=field)
    return value


def _text(parent: Object, name: str, field: str) -> str:
    value = parent.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidObjectError("is required" if not value else f"found {value!r}; expected text", field=field)
    return value


def _texts(parent: Object, name: str, field: str) -> None:
    value = parent.get(name)
    if value is not None and not (isinstance(value, list) and all(isinstance(member, str) for member in value)):
        raise InvalidObjectError("expected a list of names", field=field)


def _path(parent: Any, name: str, field: str) -> str:
    path = _text(parent if isinstance(parent, Mapping) else {}, name, field)
    try:
        jsonpath.compile(path)
    except InvalidObjectError as error:
        raise InvalidObjectError(str(error), field=field) from error
    return path
