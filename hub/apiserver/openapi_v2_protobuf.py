"""An OpenAPI v2 document in the protobuf of gnostic's openapi.v2.Document, which is all that old kubectls take.

Field numbers are those of its OpenAPIv2.proto; only what our documents have is written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

_OPERATIONS: Final = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}
_SCHEMA_TEXTS: Final = (("$ref", 1), ("format", 2), ("description", 4))
_SCHEMA_COUNTS: Final = (
    *(("maxLength", 11), ("minLength", 12), ("maxItems", 14), ("minItems", 15), ("maxProperties", 17)),
    ("minProperties", 18),
)


def encode(document: Mapping[str, Any]) -> bytes:
    info = document["info"]
    return b"".join(
        (
            _text(1, document["swagger"]),
            _part(2, _text(1, info["title"]) + _text(2, info["version"])),
            _part(8, b"".join(_named(2, path, _path_item(item)) for path, item in document["paths"].items())),
            _part(9, b"".join(_named(1, name, _schema(one)) for name, one in document["definitions"].items())),
        )
    )


def _path_item(item: Mapping[str, Any]) -> bytes:
    operations = (_part(number, _operation(item[verb])) for verb, number in _OPERATIONS.items() if verb in item)
    return b"".join(operations) + b"".join(_part(9, _parameter(one)) for one in item.get("parameters") or ())


def _operation(operation: Mapping[str, Any]) -> bytes:
    responses = b"".join(
        _named(1, code, _part(1, _text(1, one["description"]) + _part(2, _part(1, _schema(one["schema"])))))
        for code, one in operation["responses"].items()
    )
    return b"".join(
        (
            _text(5, operation["operationId"]),
            *(_text(6, media) for media in operation["produces"]),
            *(_text(7, media) for media in operation.get("consumes") or ()),
            *(_part(8, _parameter(one)) for one in operation["parameters"]),
            _part(9, responses),
            *_extensions(13, operation),
        )
    )


def _parameter(parameter: Mapping[str, Any]) -> bytes:
    """A ParametersItem."""
    name, description = parameter["name"], parameter.get("description", "")
    required = bool(parameter.get("required"))
    if parameter["in"] == "body":
        body = _text(2, name) + _text(3, "body") + _flag(4, required) + _part(5, _schema(parameter["schema"]))
        return _part(1, _part(1, body))
    start = _flag(1, required) + _text(2, parameter["in"]) + _text(3, description) + _text(4, name)
    if parameter["in"] == "query":
        return _part(1, _part(2, _part(3, start + _text(6, parameter["type"]))))
    return _part(1, _part(2, _part(4, start + _text(5, parameter["type"]))))


def _schema(schema: Mapping[str, Any]) -> bytes:
    parts = [_text(number, schema[name]) for name, number in _SCHEMA_TEXTS if name in schema]
    if "default" in schema:
        parts.append(_part(5, _any(schema["default"])))
    for name, number in (("maximum", 7), ("minimum", 9)):
        if name in schema:
            parts.append(_key(number, 1) + struct.pack("<d", schema[name]))
    parts += [_key(number, 0) + _varint(schema[name]) for name, number in _SCHEMA_COUNTS if name in schema]
    if "pattern" in schema:
        parts.append(_text(13, schema["pattern"]))
    parts.append(_flag(16, bool(schema.get("uniqueItems"))))
    parts += [_text(19, name) for name in schema.get("required") or ()]
    parts += [_part(20, _any(value)) for value in schema.get("enum") or ()]
    if "additionalProperties" in schema:
        parts.append(_part(21, _part(1, _schema(schema["additionalProperties"]))))
    if "type" in schema:
        parts.append(_part(22, _text(1, schema["type"])))
    if "items" in schema:
        parts.append(_part(23, _part(1, _schema(schema["items"]))))
    if "properties" in schema:
        members = (_named(1, name, _schema(member)) for name, member in schema["properties"].items())
        parts.append(_part(25, b"".join(members)))
    return b"".join((*parts, *_extensions(31, schema)))


def _extensions(number: int, value: Mapping[str, Any]) -> Iterable[bytes]:
    return (_named(number, name, _any(member)) for name, member in value.items() if name.startswith("x-"))


def _any(value: Any) -> bytes:
    # Read as YAML, of which JSON is a part.
    return _text(2, orjson.dumps(value).decode())


def _named(number: int, name: str, value: bytes) -> bytes:
    return _part(number, _text(1, name) + _part(2, value))


def _part(number: int, data: bytes) -> bytes:
    return _key(number, 2) + _varint(len(data)) + data


def _text(number: int, text: str) -> bytes:
    return _part(number, text.encode()) if text else b""


def _flag(number: int, value: bool) -> bytes:
    return _key(number, 0) + b"\x01" if value else b""


def _key(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)
