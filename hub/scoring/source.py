"""A ScoreSource's spec, read once: what is asked, how the answer becomes values, and how values become scores.

Which clusters it is about is a label selector, which hub/placement/score_sources.py adds. Asking is
hub/controllers/asking.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.api.quantity import Quantity
from hub.api.timestamps import parse_duration
from hub.asking.document import Fields
from hub.asking.question import CLUSTER
from hub.fleet.amounts import mapping
from hub.scoring.answer import AGGREGATIONS
from hub.scoring.forecast import METHODS, MOST_POINTS, ForecastSpec
from hub.scoring.normalise import KINDS, Normaliser

SHORTEST: Final = 1.0
"""Seconds: nobody is asked more often."""
_KINDS = ("promQL", "httpJson", "static", "report")
_REPORTS = ("free", "allocatable", "freeShare", "gpus", "claim", "label", "price")


@dataclass(frozen=True, slots=True)
class SourceQuery:
    """What is asked outside: `promql` of the Prometheus at `url` (empty: the hub's), or else the document at `url`.

    Durations in seconds; `interval` 0: as the hub is set. `aggregation` empty: several values make none.
    """

    promql: str = ""
    url: str = ""
    fields: Fields | None = None
    cluster_label: str = "cluster"
    aggregation: str = ""
    interval: float = 0.0
    valid_for: float = 300.0
    timeout: float = 5.0
    forecast: ForecastSpec | None = None

    @property
    def per_cluster(self) -> bool:
        return CLUSTER in self.promql or CLUSTER in self.url


@dataclass(frozen=True, slots=True)
class StaticValues:
    values: Mapping[str, float]
    default: float | None = None


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """Exactly one of `query`, `static` and `report` (such as ``free/cpu``) is there."""

    query: SourceQuery | None
    static: StaticValues | None
    report: str
    normaliser: Normaliser
    lower: bool
    weight: float


def parse_source(spec: Mapping[str, Any]) -> SourceSpec:
    """Raises `InvalidObjectError` by field."""
    present = [kind for kind in _KINDS if spec.get(kind) is not None]
    if len(present) != 1:
        said = f"found {' and '.join(present)}" if present else "found none"
        raise InvalidObjectError(f"write exactly one of {', '.join(_KINDS)}; {said}", field="spec")
    if spec.get("forecast") is not None and present[0] != "promQL":
        raise InvalidObjectError("needs promQL: only what a Prometheus has recorded has a past", field="spec.forecast")
    asked = present[0] in ("promQL", "httpJson")
    if spec.get("aggregation") and (not asked or spec.get("forecast") is not None):
        said = "is for answers with several values of a cluster: promQL without forecast, or httpJson"
        raise InvalidObjectError(said, field="spec.aggregation")
    if spec.get("interval") is not None and not asked:
        raise InvalidObjectError(f"nobody is asked: the source is {present[0]}", field="spec.interval")
    query = static = None
    report = ""
    if present[0] == "static":
        static = read_static(mapping(spec["static"], "spec.static"), "spec.static")
    elif present[0] == "report":
        report = _report(spec["report"])
    else:
        query = _query(spec)
    direction = spec.get("direction") or "higher"
    if direction not in ("higher", "lower"):
        raise InvalidObjectError(f"{direction!r} is no direction: write higher or lower", field="spec.direction")
    weight = spec.get("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, int) or not -10 <= weight <= 10:
        raise InvalidObjectError(f"{weight!r} is not a weight: write −10 to 10", field="spec.weight")
    return SourceSpec(
        query,
        static,
        report,
        read_normaliser(mapping(spec.get("normaliser"), "spec.normaliser")),
        direction == "lower",
        float(weight),
    )


def _query(spec: Mapping[str, Any]) -> SourceQuery:
    promql, url, fields = str(spec.get("promQL") or ""), str(spec.get("prometheusURL") or ""), None
    if spec.get("promQL") is not None and not promql.strip():
        raise InvalidObjectError("a query is needed, such as avg by (cluster) (x)", field="spec.promQL")
    document = mapping(spec.get("httpJson"), "spec.httpJson")
    if not promql:
        if url:
            raise InvalidObjectError("needs promQL", field="spec.prometheusURL")
        url = str(document.get("url") or "")
        fields = Fields(
            str(document.get("items") or ""),
            str(document.get("cluster") or "cluster"),
            str(document.get("value") or "value"),
            str(document.get("time") or ""),
        )
    if (url and not url.startswith(("http://", "https://"))) or (not promql and not url):
        where = "spec.prometheusURL" if promql else "spec.httpJson.url"
        raise InvalidObjectError(f"{url!r} is no address: write http:// or https://", field=where)
    aggregation = str(spec.get("aggregation") or "")
    if aggregation and aggregation not in AGGREGATIONS:
        raise InvalidObjectError(
            f"{aggregation!r} is no aggregation: write {', '.join(AGGREGATIONS)}", field="spec.aggregation"
        )
    interval = _seconds(spec, "interval", 0.0)
    return SourceQuery(
        promql,
        url,
        fields,
        str(spec.get("clusterLabel") or "cluster"),
        aggregation,
        max(interval, SHORTEST) if interval else 0.0,
        _seconds(spec, "validFor", 300.0),
        # A query without a limit would hold its place for ever.
        max(_seconds(spec, "timeout", 5.0), 0.05),
        _forecast(spec) if spec.get("forecast") is not None else None,
    )


def _forecast(spec: Mapping[str, Any]) -> ForecastSpec:
    field = "spec.forecast"
    entry = mapping(spec["forecast"], field)
    horizon, history, step, season = (
        _seconds(entry, name, default, where=field)
        for name, default in (("horizon", 0.0), ("history", 7 * 86_400.0), ("step", 3_600.0), ("season", 86_400.0))
    )
    method = next((known for known in METHODS if known == (entry.get("method") or "auto")), None)
    if method is None:
        raise InvalidObjectError(
            f"{entry['method']!r} is no method: write {', '.join(METHODS)}", field=f"{field}.method"
        )
    if step < SHORTEST:
        raise InvalidObjectError("must be 1s or more", field=f"{field}.step")
    if not 0 < horizon <= history:
        raise InvalidObjectError("must be above 0, and no longer than history", field=f"{field}.horizon")
    if history / step > MOST_POINTS:
        raise InvalidObjectError(f"is more than {MOST_POINTS:,} steps: write a longer step", field=f"{field}.history")
    if season < step:
        raise InvalidObjectError("must be a step or more", field=f"{field}.season")
    return ForecastSpec(horizon, history, step, season, method)


def _seconds(spec: Mapping[str, Any], name: str, default: float, *, where: str = "spec") -> float:
    if spec.get(name) is None:
        return default
    try:
        return parse_duration(str(spec[name])).total_seconds()
    except InvalidObjectError as error:
        raise InvalidObjectError(str(error), field=f"{where}.{name}") from error


def read_static(static: Mapping[str, Any], field: str) -> StaticValues:
    """Values that are written in an object, at `field`. Raises `InvalidObjectError` by field."""
    values = {
        str(cluster): read_quantity(value, f"{field}.values.{cluster}")
        for cluster, value in sorted(mapping(static.get("values"), f"{field}.values").items())
    }
    default = static.get("default")
    return StaticValues(values, None if default is None else read_quantity(default, f"{field}.default"))


def _report(report: Any) -> str:
    kind, _, what = str(report).partition("/")
    if kind not in _REPORTS or not what:
        raise InvalidObjectError(
            f"{report!r} is nothing that clusters report: write one of {', '.join(_REPORTS)}, a slash, and what",
            field="spec.report",
        )
    if kind == "price" and what not in ("cpu", "memory") and not (what.startswith("gpu/") and what[4:]):
        raise InvalidObjectError(f"{report!r}: prices are cpu, memory and gpu/MODEL", field="spec.report")
    return str(report)


def read_normaliser(entry: Mapping[str, Any]) -> Normaliser:
    """A spec.normaliser; empty is minMax. Raises `InvalidObjectError` by field."""
    kind = str(entry.get("type") or "minMax")
    if kind not in KINDS:
        raise InvalidObjectError(f"{kind!r} is no normaliser: write {', '.join(KINDS)}", field="spec.normaliser.type")
    low, high, midpoint, scale = (
        None if entry.get(name) is None else read_quantity(entry[name], f"spec.normaliser.{name}")
        for name in ("min", "max", "midpoint", "scale")
    )
    if low is not None and high is not None and not low < high:
        raise InvalidObjectError(f"{low:g} is not below max, {high:g}", field="spec.normaliser.min")
    for name, given in (("midpoint", midpoint), ("scale", scale)):
        if given is not None and kind != "sigmoid":
            raise InvalidObjectError(f"only sigmoid has one, and this is {kind}", field=f"spec.normaliser.{name}")
    for name, given in (("min", low), ("max", high)):
        if given is not None and kind == "rank":
            raise InvalidObjectError(
                "rank has no bounds: how far values are apart does not count", field=f"spec.normaliser.{name}"
            )
    if scale is not None and not scale > 0:
        raise InvalidObjectError(f"{scale:g} is not above 0", field="spec.normaliser.scale")
    return Normaliser(kind, low, high, midpoint, scale)


def read_quantity(value: Any, field: str) -> float:
    """Raises `InvalidObjectError` by field."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Quantity):
        raise InvalidObjectError(f"{value!r} is not a number", field=field)
    try:
        return Quantity(value).nano / 1e9
    except (InvalidObjectError, OverflowError) as error:
        raise InvalidObjectError(str(error), field=field) from error


def resource_of(what: str) -> str:
    """``gpu`` for short is the resource's whole name."""
    return names.GPU if what == "gpu" else what
