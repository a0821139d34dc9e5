"""What a scorer is asked about one cluster, and where its data comes from: everything decided, nothing left to look up.

The hub makes it of a scorer's plan and its routes; an agent gets it as its ClusterScoring has it (`to_wire`,
`from_wire`). Two questions that are equal ask the same, so that `digest` tells an answer to this one from an answer to
one that nobody asks any more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson

from hub.api.errors import InvalidObjectError
from hub.asking.document import Fields

Kind = Literal["None", "Prometheus", "HttpJson", "Static", "Program", "Pushed"]
CLUSTER: Final = "${cluster}"
"""What a cluster's name stands for in queries and addresses."""


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A value in a Secret: of the scorer's namespace where the hub asks, of dynamic-scoring where an agent does."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Tls:
    """`client`: the Secret with tls.crt and tls.key; empty: no certificate is shown."""

    ca: SecretKey | None = None
    client: str = ""


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """`instant`: asked for now; otherwise over the source's range."""

    name: str
    promql: str
    instant: bool = False


def names_of(kind: Kind, queries: Sequence[NamedQuery], metrics: tuple[str, ...]) -> tuple[str, ...]:
    """By what a scorer of protocol 2 knows each list of series of such a source; there are as many lists."""
    if kind == "None":
        return ()
    if kind == "Prometheus":
        return tuple(query.name or str(position) for position, query in enumerate(queries))
    return metrics if kind == "Pushed" else (kind,)


@dataclass(frozen=True, slots=True)
class SourceQuestion:
    """Of a `Prometheus` the queries at `url` over `range` in steps of `step` seconds; of `HttpJson` the document at
    `url`; of a `Program` what it prints; `Static` is `value` (None: there is none); `Pushed` are `metrics`.

    `token` is for `url`. `single`: the document is about this cluster alone. `max_age`: seconds.
    """

    kind: Kind = "None"
    url: str = ""
    token: SecretKey | None = None
    queries: tuple[NamedQuery, ...] = ()
    range: int = 0
    step: int = 0
    fields: Fields = field(default_factory=Fields)
    single: bool = False
    max_age: float = 0.0
    value: float | None = None
    program: str = ""
    metrics: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of its lists of series, in their order."""
        return names_of(self.kind, self.queries, self.metrics)


@dataclass(frozen=True, slots=True)
class Question:
    """`url`: what is posted to. `timeout` in seconds, of one request. `protocol` 2: data is sent by name as well."""

    score: str
    url: str
    source: SourceQuestion = SourceQuestion()
    token: SecretKey | None = None
    tls: Tls | None = None
    timeout: float = 30.0
    protocol: int = 1

    @property
    def digest(self) -> str:
        return hashlib.sha256(orjson.dumps(to_wire(self), option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def to_wire(question: Question) -> dict[str, Any]:
    """As `hub.api.clusterscoring.OrderedScorer` has it; what is empty is left out."""
    source = question.source
    data: dict[str, Any] = {"type": source.kind}
    _put(data, url=source.url, tokenSecretRef=_key(source.token), range=source.range, step=source.step)
    if source.kind == "Prometheus":
        data["queries"] = [
            {
                **({"name": query.name} if query.name else {}),
                "promql": query.promql,
                "mode": "instant" if query.instant else "range",
            }
            for query in source.queries
        ]
    if source.kind == "HttpJson":
        fields = source.fields
        _put(data, items=fields.items, cluster=fields.cluster, value=fields.value, time=fields.time)
        _put(data, single=source.single, maxAgeSeconds=source.max_age)
    if source.value is not None:
        data["number"] = source.value
    _put(data, program=source.program)
    found: dict[str, Any] = {
        "score": question.score,
        "url": question.url,
        "timeoutSeconds": question.timeout,
        "protocol": question.protocol,
        "source": data,
    }
    _put(found, tokenSecretRef=_key(question.token))
    if question.tls is not None:
        tls: dict[str, Any] = {}
        _put(tls, caSecretRef=_key(question.tls.ca))
        if question.tls.client:
            tls["clientCertSecretRef"] = {"name": question.tls.client}
        found["tls"] = tls
    return found


def from_wire(entry: Mapping[str, Any]) -> Question:
    """Raises `InvalidObjectError` for what no hub of ours has written."""
    try:
        source = entry.get("source") or {}
        fields = Fields(
            source.get("items") or "",
            source.get("cluster") or "",
            source.get("value") or "",
            source.get("time") or "",
        )
        if source.get("type") not in ("None", "Prometheus", "HttpJson", "Static", "Program"):
            raise InvalidObjectError(f"{source.get('type')!r} is no source that an agent knows", field="source.type")
        data = SourceQuestion(
            source["type"],
            str(source.get("url") or ""),
            _read_key(source.get("tokenSecretRef")),
            tuple(
                NamedQuery(str(query.get("name") or ""), str(query["promql"]), query.get("mode") == "instant")
                for query in source.get("queries") or ()
            ),
            int(source.get("range") or 0),
            int(source.get("step") or 0),
            fields if source["type"] == "HttpJson" else Fields(),
            bool(source.get("single")),
            float(source.get("maxAgeSeconds") or 0.0),
            None if source.get("number") is None else float(source["number"]),
            str(source.get("program") or ""),
        )
        tls = entry.get("tls")
        return Question(
            str(entry["score"]),
            str(entry["url"]),
            data,
            _read_key(entry.get("tokenSecretRef")),
            None
            if tls is None
            else Tls(_read_key(tls.get("caSecretRef")), str((tls.get("clientCertSecretRef") or {}).get("name") or "")),
            float(entry.get("timeoutSeconds") or 30.0),
            int(entry.get("protocol") or 1),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidObjectError(f"cannot be read: {type(error).__name__}: {error}", field="spec.scorers") from error


def _key(key: SecretKey | None) -> dict[str, str] | None:
    return None if key is None else {"name": key.name, "key": key.key}


def _read_key(entry: Mapping[str, Any] | None) -> SecretKey | None:
    return None if not entry else SecretKey(str(entry["name"]), str(entry["key"]))


def _put(target: dict[str, Any], **members: Any) -> None:
    target.update({name: value for name, value in members.items() if value})
