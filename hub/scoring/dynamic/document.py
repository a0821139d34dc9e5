"""The configuration that a scorer serves itself (GET configURL), read and written back as the framework writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hub.api.errors import InvalidObjectError
from hub.fleet.amounts import mapping
from hub.scoring.dynamic.spec import ScoringPart, SourcePart, read_scoring, read_source, text, whole


@dataclass(frozen=True, slots=True)
class ScorerDocument:
    """`protocol`: 2 where the scorer says that it reads the longer request; else 1."""

    name: str
    description: str
    source: SourcePart
    scoring: ScoringPart
    protocol: int = 1


def read_document(document: object) -> ScorerDocument:
    """Keys that are not known are ignored. Raises `InvalidObjectError` naming the key, such as ``scoring.params``."""
    if not isinstance(document, Mapping):
        raise InvalidObjectError(f"is no object but {type(document).__name__}", field="the configuration")
    scoring = read_scoring(mapping(document.get("scoring"), "scoring"), "scoring")
    if not scoring.name:
        raise InvalidObjectError("is needed: it names the score", field="scoring.params.name")
    protocol = whole(document, "protocol", "the configuration") or 1
    return ScorerDocument(
        text(document, "name", "the configuration"),
        text(document, "description", "the configuration"),
        read_source(mapping(document.get("source"), "source"), "source"),
        scoring,
        2 if protocol >= 2 else 1,
    )


def synced_config(document: ScorerDocument) -> dict[str, Any]:
    """As status.lastSyncedConfig has it: what is empty is written, because the framework's schema requires it."""
    source: dict[str, Any] = {
        "path": document.source.path,
        "params": {
            "query": document.source.query,
            "range": document.source.range,
            "step": document.source.step,
        },
    }
    scoring: dict[str, Any] = {
        "path": document.scoring.path,
        "params": {"name": document.scoring.name, "interval": document.scoring.interval},
    }
    if document.source.type:
        source["type"] = document.source.type
    for part, host in ((source, document.source.host), (scoring, document.scoring.host)):
        if host:
            part["host"] = host
    return {"name": document.name, "description": document.description, "source": source, "scoring": scoring}
