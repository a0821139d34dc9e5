"""Where a scorer's data comes from, whatever the cluster: Prometheus, or what a ScorerPolicy says instead.

The framework knows Prometheus and nothing else; `source` of a ScorerPolicy may name a JSON document, values written
there, a program that the configuration allows, or metrics that are pushed. A scorer is sent the same series either way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from hub.api.errors import InvalidObjectError
from hub.asking.document import Fields
from hub.asking.question import CLUSTER, Kind, NamedQuery, SecretKey, names_of
from hub.fleet.amounts import mapping
from hub.scoring.dynamic.spec import is_address, text, whole
from hub.scoring.source import StaticValues, read_static

KINDS: Final[Mapping[str, Kind]] = {
    "httpJson": "HttpJson",
    "static": "Static",
    "exec": "Program",
    "otlp": "Pushed",
}
"""The fields of `spec.source` of a ScorerPolicy, and what each is called in questions."""
MOST_METRICS: Final = 32
PUSHED_RANGE: Final = 300
"""Seconds of pushed samples that a scorer is sent, unless the policy says more or less."""
LONGEST_RANGE: Final = 3600


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """`kind` None: the scorer needs no data. `range` and `step` in seconds. `host` and `path`: of Prometheus or of the
    document."""

    kind: Kind = "None"
    host: str = ""
    path: str = ""
    queries: tuple[NamedQuery, ...] = ()
    range: int = 0
    step: int = 0
    token: SecretKey | None = None
    fields: Fields = field(default_factory=Fields)
    values: StaticValues | None = None
    program: str = ""
    metrics: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of its lists of series, in their order."""
        return names_of(self.kind, self.queries, self.metrics)

    @property
    def described(self) -> str:
        """What is asked, for people who want to know where a score is from."""
        said: dict[str, str] = {
            "Prometheus": "; ".join(query.promql for query in self.queries),
            "HttpJson": self.host + self.path,
            "Static": "values of its ScorerPolicy",
            "Program": f"program {self.program}",
            "Pushed": f"pushed {', '.join(self.metrics)}",
        }
        return said.get(self.kind, "")


def read_data(source: Any) -> SourcePlan | None:
    """`spec.source` of a ScorerPolicy. Raises `InvalidObjectError` by field; None where nothing is said."""
    if source is None:
        return None
    source = mapping(source, "spec.source")
    present = [kind for kind in KINDS if source.get(kind) is not None]
    if len(present) != 1:
        said = f"found {' and '.join(present)}" if present else "found none"
        raise InvalidObjectError(f"write exactly one of {', '.join(KINDS)}; {said}", field="spec.source")
    kind = present[0]
    field = f"spec.source.{kind}"
    part = mapping(source[kind], field)
    if kind == "httpJson":
        return _document(part, field)
    if kind == "static":
        return SourcePlan("Static", values=read_static(part, field))
    if kind == "exec":
        program = text(part, "program", field)
        if not program:
            raise InvalidObjectError("say which program of the configuration", field=f"{field}.program")
        return SourcePlan("Program", program=program)
    return _pushed(part, field)


def _document(part: Mapping[str, Any], field: str) -> SourcePlan:
    url = text(part, "url", field)
    if not is_address(url.replace(CLUSTER, "cluster")):
        raise InvalidObjectError(f"{url!r} is no address: write http:// or https://", field=f"{field}.url")
    parts = urlsplit(url)
    host = f"{parts.scheme}://{parts.netloc}"
    fields = Fields(
        text(part, "items", field),
        text(part, "cluster", field) or "cluster",
        text(part, "value", field) or "value",
        text(part, "time", field),
    )
    return SourcePlan("HttpJson", host, url[len(host) :], fields=fields)


def _pushed(part: Mapping[str, Any], field: str) -> SourcePlan:
    metrics = part.get("metrics")
    if not isinstance(metrics, list) or not metrics or not all(isinstance(name, str) and name for name in metrics):
        raise InvalidObjectError("say which metrics, a list of names", field=f"{field}.metrics")
    if len(metrics) > MOST_METRICS:
        raise InvalidObjectError(f"{len(metrics)} are too many: {MOST_METRICS} at most", field=f"{field}.metrics")
    if len(set(metrics)) < len(metrics):
        raise InvalidObjectError("one is there twice", field=f"{field}.metrics")
    seconds = whole(part, "range", field) or PUSHED_RANGE
    if seconds > LONGEST_RANGE:
        raise InvalidObjectError(f"{seconds} s are too many: {LONGEST_RANGE} at most", field=f"{field}.range")
    return SourcePlan("Pushed", range=seconds, metrics=tuple(metrics))
