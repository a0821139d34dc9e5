"""The OpenAPI v2 document, for clients older than v3 (kubectl up to 1.26): `explain`, validation before sending, and
whether the server runs dry.

Made of the v3 documents. Version 2 says less: what may be null, or is kept as it comes, is any value there, and a
number or a text is a text, as Kubernetes has it; so an old client refuses nothing that the server would take.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

import orjson

from hub.apiserver.kinds import Registry
from hub.apiserver.openapi import documents
from hub.apiserver.openapi_meta import REFERENCE
from hub.apiserver.openapi_v2_protobuf import encode

JSON: Final = "application/json"
PROTOBUF: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_DEFINITIONS: Final = "#/definitions/"
_KEPT: Final = frozenset(
    (
        *("type", "format", "description", "default", "required", "enum", "pattern", "maximum", "minimum"),
        *("maxLength", "minLength", "maxItems", "minItems", "uniqueItems", "maxProperties", "minProperties"),
    )
)
_VERBS: Final = ("get", "put", "post", "delete", "patch")
_made: WeakKeyDictionary[Registry, dict[str, bytes]] = WeakKeyDictionary()


def openapi_v2(registry: Registry, accept: str = "") -> tuple[str, bytes]:
    """(content type, body) for ``/openapi/v2``."""
    content_type = PROTOBUF if "proto-openapi.spec.v2" in accept else JSON
    known = _made.setdefault(registry, {})
    if content_type not in known:
        document = _document(registry)
        known[content_type] = encode(document) if content_type == PROTOBUF else orjson.dumps(document)
    return content_type, known[content_type]


def _document(registry: Registry) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    for text in documents(registry):
        document = orjson.loads(text)
        paths.update({path: _path(item) for path, item in document["paths"].items()})
        definitions.update({name: _schema(schema) for name, schema in document["components"]["schemas"].items()})
    info = {"title": "Kubernetes", "version": "v1"}
    return {"swagger": "2.0", "info": info, "paths": paths, "definitions": definitions}


def _path(item: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {verb: _operation(item[verb]) for verb in _VERBS if verb in item}
    if "parameters" in item:
        result["parameters"] = [_parameter(parameter) for parameter in item["parameters"]]
    return result


def _operation(operation: Mapping[str, Any]) -> dict[str, Any]:
    parameters = [_parameter(parameter) for parameter in operation.get("parameters") or ()]
    result: dict[str, Any] = {"operationId": operation["operationId"], "produces": [JSON]}
    body = operation.get("requestBody")
    if body is not None:
        content = body["content"]
        result["consumes"] = list(content)
        schema = _schema(next(iter(content.values()))["schema"])
        parameters.append({"name": "body", "in": "body", "required": True, "schema": schema})
    result["parameters"] = parameters
    result["responses"] = {
        code: {
            "description": response["description"],
            "schema": _schema(response["content"][JSON]["schema"]),
        }
        for code, response in operation["responses"].items()
    }
    result.update({name: value for name, value in operation.items() if name.startswith("x-")})
    return result


def _parameter(parameter: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in parameter.items() if name != "schema"}
    return {**kept, "type": parameter["schema"]["type"]}


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    parts = schema.get("allOf")
    if reference is None and isinstance(parts, list) and len(parts) == 1 and "$ref" in parts[0]:
        reference = parts[0]["$ref"]
    described = {"description": schema["description"]} if "description" in schema else {}
    extensions = {name: value for name, value in schema.items() if name.startswith("x-kubernetes-")}
    if reference is not None:
        return {"$ref": _DEFINITIONS + reference.removeprefix(REFERENCE), **described}
    if "oneOf" in schema or schema.get("x-kubernetes-int-or-string"):
        return {"type": "string", **{name: schema[name] for name in ("format",) if name in schema}, **described}
    if schema.get("nullable") or schema.get("x-kubernetes-preserve-unknown-fields"):
        return {**described, **extensions}
    result = {name: value for name, value in schema.items() if name in _KEPT}
    if "properties" in schema:
        result["properties"] = {name: _schema(member) for name, member in schema["properties"].items()}
    if "items" in schema:
        result["items"] = _schema(schema["items"])
    more = schema.get("additionalProperties")
    if isinstance(more, Mapping):
        result["additionalProperties"] = _schema(more)
    return {**result, **extensions}
