"""A DynamicScorer's spec, read once. What its scorer's own configuration adds is plan.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from hub.api.errors import InvalidObjectError
from hub.asking.question import SecretKey
from hub.fleet.amounts import mapping

PROMETHEUS: Final = "Prometheus"
NOTHING: Final = "None"
DEFAULT_FORMAT: Final = "${scoreName}"


@dataclass(frozen=True, slots=True)
class SourcePart:
    """Empty and 0: not said. `type` is Prometheus, None or empty; `range` and `step` in seconds."""

    type: str = ""
    host: str = ""
    path: str = ""
    query: str = ""
    range: int = 0
    step: int = 0


@dataclass(frozen=True, slots=True)
class ScoringPart:
    """Empty and 0: not said. `interval` in seconds."""

    host: str = ""
    path: str = ""
    name: str = ""
    interval: int = 0


@dataclass(frozen=True, slots=True)
class ScorerSpec:
    """`full`: the scorer's own configuration goes before this. `publishes`: not only metrics."""

    config_url: str
    full: bool
    publishes: bool
    location: str
    dimension_format: str
    source: SourcePart
    scoring: ScoringPart
    source_token: SecretKey | None = None
    scoring_token: SecretKey | None = None

    @property
    def origin(self) -> str:
        """Scheme and host of configURL: where /healthz is, and the scoring endpoint unless it says another."""
        parts = urlsplit(self.config_url)
        return f"{parts.scheme}://{parts.netloc}"


def parse_scorer(spec: Any) -> ScorerSpec:
    """Raises `InvalidObjectError` by field, for what the framework's own controller passes over in silence."""
    spec = mapping(spec, "spec")
    url = text(spec, "configURL", "spec")
    if not is_address(url):
        raise InvalidObjectError(f"{url!r} is no address: write http:// or https://", field="spec.configURL")
    mode = text(spec, "configSyncMode", "spec")
    if mode not in ("Full", "None"):
        raise InvalidObjectError(f"{mode!r} is no mode: write Full or None", field="spec.configSyncMode")
    location = text(spec, "location", "spec")
    if location not in ("Internal", "External"):
        raise InvalidObjectError(f"found {location!r}: write Internal or External", field="spec.location")
    destination = text(spec, "scoreDestination", "spec")
    # The second spelling is that of the framework's first releases.
    if destination not in ("AddOnPlacementScore", "AddonPlacementScore", "None"):
        raise InvalidObjectError(
            f"found {destination!r}: write AddOnPlacementScore or None", field="spec.scoreDestination"
        )
    source = mapping(spec.get("source"), "spec.source")
    scoring = mapping(spec.get("scoring"), "spec.scoring")
    return ScorerSpec(
        url,
        mode == "Full",
        destination != "None",
        location,
        text(spec, "scoreDimensionFormat", "spec") or DEFAULT_FORMAT,
        read_source(source, "spec.source"),
        read_scoring(scoring, "spec.scoring"),
        read_token(source.get("auth"), "spec.source.auth"),
        read_token(scoring.get("auth"), "spec.scoring.auth"),
    )


def read_source(source: Mapping[str, Any], field: str) -> SourcePart:
    """Of a DynamicScorer or a scorer's own configuration. Raises `InvalidObjectError` by field."""
    params = mapping(source.get("params"), f"{field}.params")
    kind = text(source, "type", field)
    known = {"prometheus": PROMETHEUS, "none": NOTHING, "": ""}.get(kind.lower())
    if known is None:
        raise InvalidObjectError(f"{kind!r} is no source: write Prometheus or None", field=f"{field}.type")
    return SourcePart(
        known,
        _host(source, field),
        read_path(source, field),
        text(params, "query", f"{field}.params"),
        whole(params, "range", f"{field}.params"),
        whole(params, "step", f"{field}.params"),
    )


def read_scoring(scoring: Mapping[str, Any], field: str) -> ScoringPart:
    """As `read_source`."""
    params = mapping(scoring.get("params"), f"{field}.params")
    return ScoringPart(
        _host(scoring, field),
        read_path(scoring, field),
        text(params, "name", f"{field}.params"),
        whole(params, "interval", f"{field}.params"),
    )


def read_token(auth: Any, field: str) -> SecretKey | None:
    """Raises `InvalidObjectError` by field."""
    if auth is None:
        return None
    return read_secret_key(mapping(auth, field).get("tokenSecretRef"), f"{field}.tokenSecretRef")


def read_secret_key(reference: Any, field: str) -> SecretKey | None:
    """Raises `InvalidObjectError` by field; None where nothing is named."""
    reference = mapping(reference, field)
    name, key = text(reference, "name", field), text(reference, "key", field)
    if not name and not key:
        return None
    if not name or not key:
        raise InvalidObjectError("needs a name and a key", field=field)
    return SecretKey(name, key)


def read_path(part: Mapping[str, Any], field: str) -> str:
    """A path as it goes into a request. Raises `InvalidObjectError` by field."""
    path = text(part, "path", field)
    if path and (not path.startswith(("/", "?")) or not path.isprintable() or " " in path):
        raise InvalidObjectError(f"{path!r} is no path: it starts with / and has no spaces", field=f"{field}.path")
    return path


def is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and bool(parts.netloc)
        and not any(c.isspace() or not c.isprintable() for c in url)
    )


def text(part: Mapping[str, Any], name: str, field: str) -> str:
    """Empty where nothing is said. Raises `InvalidObjectError` for anything that is no text."""
    value = part.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidObjectError(f"{value!r} is no text", field=f"{field}.{name}")
    return value


def whole(part: Mapping[str, Any], name: str, field: str) -> int:
    """0 where nothing is said. Scorers written in languages without integers say 30.0."""
    value = part.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
        raise InvalidObjectError(f"{value!r} is no whole number", field=f"{field}.{name}")
    if not 0 <= value <= 10**9:
        raise InvalidObjectError(f"{value!r} is not between 0 and 1e9", field=f"{field}.{name}")
    return int(value)


def _host(part: Mapping[str, Any], field: str) -> str:
    host = text(part, "host", field)
    if host and not is_address(host):
        raise InvalidObjectError(f"{host!r} is no address: write http:// or https://", field=f"{field}.host")
    return host.rstrip("/")
