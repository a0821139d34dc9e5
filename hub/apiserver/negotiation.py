"""What a client sends and wants: bodies by Content-Type, renderings by Accept, parameters by query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote_plus

import orjson

from hub.api.errors import InvalidObjectError
from hub.apiserver.kinds import ServedKind
from hub.apiserver.rendering import AsTable, MetadataOnly, Plain, Rendering
from hub.apiserver.status import bad_request, not_acceptable, unsupported_media_type
from hub.apiserver.tables import Include

JSON: Final = "application/json"
PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
# Deeper than any object is, and what JSON encoders and recursive walks manage with room to spare.
MAX_DEPTH: Final = 150
_YAML: Final = frozenset({"application/yaml", "application/x-yaml", "text/yaml"})
_ANY: Final = frozenset({JSON, "*/*", "application/*"})
_INCLUDES: Final[dict[str, Include]] = {"": "Metadata", "None": "None", "Metadata": "Metadata", "Object": "Object"}
_META: Final = "meta.k8s.io"


@dataclass(frozen=True, slots=True)
class MediaRange:
    type: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@lru_cache(maxsize=256)
def accepted(header: str) -> tuple[MediaRange, ...]:
    """What an Accept header asks for, best first."""
    found: list[tuple[float, int, MediaRange]] = []
    for position, part in enumerate((header or "*/*").split(",")):
        kind, *pairs = (piece.strip() for piece in part.split(";"))
        parameters = {key.strip(): value.strip() for key, _, value in (pair.partition("=") for pair in pairs)}
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            quality = 1.0
        if kind and quality > 0:
            found.append((-quality, position, MediaRange(kind.lower(), parameters)))
    return tuple(media for _, _, media in sorted(found, key=lambda entry: entry[:2]))


@lru_cache(maxsize=1024)
def _rendering(header: str, kind: ServedKind, include: str) -> Rendering | None:
    for media in accepted(header):
        if media.type not in _ANY:
            continue
        wanted = media.parameters.get("as")
        version = media.parameters.get("v", "v1")
        if wanted is None:
            return Plain(kind)
        if media.parameters.get("g") != _META or version not in ("v1", "v1beta1"):
            continue
        if wanted == "Table":
            return AsTable(kind, version, _INCLUDES[include])
        if wanted in ("PartialObjectMetadata", "PartialObjectMetadataList"):
            return MetadataOnly(kind, version)
    return None


def rendering_for(header: str, kind: ServedKind, include: str = "") -> Rendering:
    """Raises `RefusedError`: 406 when nothing that is acceptable can be made, 400 for an unknown `includeObject`."""
    if include not in _INCLUDES:
        raise bad_request(f"includeObject: found {include!r}; allowed: None, Metadata, Object")
    found = _rendering(header, kind, include)
    if found is None:
        raise not_acceptable(JSON)
    return found


def media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


def decode(content_type: str, body: bytes) -> Any:
    """The body of a request. Raises `RefusedError`: 415 for unknown formats, 400 for what is not what it says."""
    kind = media_type(content_type)
    if kind == PROTOBUF:
        from hub.apiserver.protobuf import decode_envelope

        try:
            return decode_envelope(body)
        except InvalidObjectError as error:
            raise unsupported_media_type(f"{PROTOBUF}: {error}", f"{JSON}, application/yaml") from error
    if kind in _YAML:
        return decode_yaml(body)
    if kind not in ("", JSON) and not kind.endswith("+json"):
        raise unsupported_media_type(content_type, f"{JSON}, application/yaml, {PROTOBUF}")
    return decode_json(body)


def decode_json(body: bytes) -> Any:
    try:
        return _shallow(orjson.loads(body), body)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the body of the request is not JSON: {error}") from error


def decode_yaml(body: bytes) -> Any:
    """JSON is YAML, and mostly what comes; the parser for the rest is a hundred times slower."""
    try:
        return _shallow(orjson.loads(body), body)
    except orjson.JSONDecodeError:
        import yaml

        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            # A few aliases of aliases are gigabytes once they are written out.
            if b"&" in body and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(body, Loader=loader)):
                raise bad_request("YAML aliases are not read here: write the values out, or send JSON")
            text = orjson.dumps(yaml.load(body, Loader=loader), default=str)
            return _shallow(orjson.loads(text), text)
        except (yaml.YAMLError, TypeError, UnicodeDecodeError, RecursionError) as error:
            raise bad_request(f"the body of the request is neither JSON nor YAML: {error}") from error


def _shallow(value: Any, body: bytes) -> Any:
    """`value`, if whatever walks through it can. Raises `RefusedError` (400)."""
    if body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        return value
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            member
            for parent in level
            for member in (parent.values() if parent.__class__ is dict else parent)
            if member.__class__ is dict or member.__class__ is list
        ]
        if not level:
            return value
    raise bad_request(f"the body of the request is nested more than {MAX_DEPTH} levels deep")


def parse_query(query: str) -> dict[str, str]:
    """The parameters; of one that is given twice, the last."""
    if not query:
        return {}
    result: dict[str, str] = {}
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        if "%" in pair or "+" in pair:
            key, value = unquote_plus(key), unquote_plus(value)
        result[key] = value
    return result


def flag(query: Mapping[str, str], name: str) -> bool:
    """Clients write true in many ways, and false in two."""
    return query.get(name, "false").lower() not in ("false", "0", "")


def number(query: Mapping[str, str], name: str, default: int = 0) -> int:
    """Raises `RefusedError` (400)."""
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise bad_request(f"{name}: found {text!r}; expected a whole number that is not negative")
    return int(text)
