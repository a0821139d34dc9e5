"""Request bodies in Kubernetes' protobuf, as kubectl and other Go clients send them for built-in kinds; JSON out.

A table of messages and one decoder: ``k8s\\0``, then runtime.Unknown, then the message. Answers are never encoded this
way; clients accept JSON. Fields that newer clients may have are skipped, but for messages that we know to be described
in part: there a field that we cannot read is refused, so that nothing a user wrote gets lost.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

import orjson

from hub.api.errors import InvalidObjectError
from hub.api.timestamps import format_micro_time, format_time
from hub.apiserver.protobuf_messages import KINDS, MESSAGES, PARTIAL

MAGIC: Final = b"k8s\x00"
MEDIA_TYPE: Final = "application/vnd.kubernetes.protobuf"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_DEPTH: Final = 32


class ProtobufError(InvalidObjectError):
    """A body that is no Kubernetes protobuf, or of a kind that is not read here."""


def decode_envelope(body: bytes) -> dict[str, Any]:
    """The object in `body`, with apiVersion and kind. Raises `ProtobufError`."""
    if not body.startswith(MAGIC):
        raise ProtobufError("the body does not start as Kubernetes' protobuf does")
    type_meta: dict[str, Any] = {}
    raw = b""
    for number, wire, value in _fields(memoryview(body)[len(MAGIC) :]):
        if number == 1 and wire == 2:
            type_meta = _message("TypeMeta", value, 0)
        elif number == 2 and wire == 2:
            raw = bytes(value)
    api_version, kind = type_meta.get("apiVersion", ""), type_meta.get("kind", "")
    group = api_version.rpartition("/")[0]
    message = KINDS.get((group, kind)) or KINDS.get(("", kind) if kind == "DeleteOptions" else ("*", kind))
    if message is None:
        raise ProtobufError(
            f"{kind or 'an object'} of {api_version or 'no version'} is not read as protobuf: send JSON"
        )
    return {"apiVersion": api_version, "kind": kind, **_message(message, memoryview(raw), 0)}


def _message(name: str, data: memoryview, depth: int) -> dict[str, Any]:
    if depth > _MAX_DEPTH:
        raise ProtobufError(f"{name} is nested too deeply")
    fields = _table(name)
    result: dict[str, Any] = {}
    for number, wire, value in _fields(data):
        field = fields.get(number)
        if field is None:
            if name in PARTIAL:
                raise ProtobufError(f"field {number} of {name} is not read as protobuf: send JSON")
            continue
        key, kind, repeated, pointer = field
        if kind.startswith("map<"):
            entry_key, entry_value = _entry(kind[4:-1], value, wire, depth)
            result.setdefault(key, {})[entry_key] = entry_value
            continue
        decoded = _value(kind, value, wire, depth)
        if repeated:
            result.setdefault(key, []).append(decoded)
        # Go writes what is no pointer even where it is empty; JSON leaves it out.
        elif pointer or decoded not in ("", 0, False, None, {}):
            result[key] = decoded
    return result


@cache
def _table(name: str) -> Mapping[int, tuple[str, str, bool, bool]]:
    """number → (JSON name, type, repeated, pointer). Written as ``"NUMBER NAME TYPE[[]|?]"``, comma-separated."""
    table = {}
    for entry in MESSAGES[name].split(","):
        number, key, kind = entry.split()
        table[int(number)] = (key, kind.rstrip("?[]"), kind.endswith("[]"), kind.endswith("?"))
    return table


def _value(kind: str, value: Any, wire: int, depth: int) -> Any:
    wanted = 0 if kind in ("int", "bool") else 2
    if wire != wanted:
        raise ProtobufError(f"found wire type {wire} for a field of type {kind}")
    if kind == "str":
        return _text(value)
    if kind == "int":
        return value - (1 << 64) if value >= 1 << 63 else value
    if kind == "bool":
        return bool(value)
    if kind == "bytes":
        return base64.b64encode(value).decode()
    if kind in ("Time", "MicroTime"):
        return _time(kind, value)
    message = _message(kind, value, depth + 1)
    if kind == "Quantity":
        return message.get("string", "0")
    if kind == "IntOrString":
        return message.get("text", "") if message.get("type") else message.get("number", 0)
    if kind == "ExtraValue":
        return message.get("items", [])
    if kind == "RawFields":
        return _raw_json(message.get("raw", ""))
    return message


def _raw_json(encoded: str) -> Any:
    """JSON that stands in the message as bytes."""
    try:
        return orjson.loads(base64.b64decode(encoded)) if encoded else {}
    except orjson.JSONDecodeError as error:
        raise ProtobufError("fieldsV1 is not JSON") from error


def _time(kind: str, value: memoryview) -> str | None:
    parts = _message("Timestamp", value, 0)
    if not parts:
        return None
    try:
        moment = _EPOCH + timedelta(seconds=parts.get("seconds", 0), microseconds=parts.get("nanos", 0) // 1000)
    except OverflowError as error:
        raise ProtobufError("a time is out of range") from error
    return format_time(moment) if kind == "Time" else format_micro_time(moment)


def _entry(kind: str, value: Any, wire: int, depth: int) -> tuple[str, Any]:
    if wire != 2:
        raise ProtobufError(f"found wire type {wire} for a map")
    key, found = "", None
    for number, inner_wire, inner in _fields(value):
        if number == 1 and inner_wire == 2:
            key = _text(inner)
        elif number == 2:
            found = _value(kind, inner, inner_wire, depth + 1)
    return key, "" if found is None and kind in ("str", "bytes") else found


def _text(value: memoryview) -> str:
    try:
        return bytes(value).decode()
    except UnicodeDecodeError as error:
        raise ProtobufError("a text is not UTF-8") from error


def _fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """(field number, wire type, value) in order. Raises `ProtobufError` where `data` ends too early."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(data, position)
            yield number, wire, value
            continue
        if wire == 2:
            size, position = _varint(data, position)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ProtobufError(f"found wire type {wire}")
        if size > end - position:
            raise ProtobufError("the body ends in the middle of a field")
        yield number, wire, data[position : position + size]
        position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise ProtobufError("the body ends in the middle of a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
    raise ProtobufError("a number is too long")
