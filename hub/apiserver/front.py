"""From an HTTP request to its answer: health, who it is from, which logical cluster, which document or verb."""

from __future__ import annotations

import logging
from typing import Any, Final

import orjson

from hub.api.errors import ApiError, StorageError
from hub.apiserver.aggregation import Aggregation
from hub.apiserver.auth import Tokens, User
from hub.apiserver.discovery import discovery
from hub.apiserver.http import Answer, Exchange
from hub.apiserver.logical import LogicalCluster
from hub.apiserver.negotiation import parse_query
from hub.apiserver.openapi import openapi_v2, openapi_v3
from hub.apiserver.plane import ControlPlane
from hub.apiserver.routing import route, segments, split_cluster
from hub.apiserver.status import dump_status, failure, method_not_allowed, no_such_path, storage_refused, unauthorized
from hub.apiserver.verbs import Call

_log = logging.getLogger(__name__)
# What is shown to everybody.
_PUBLIC: Final = frozenset({"healthz", "livez", "readyz", "version"})
# The wire that we speak, not what this is built of.
VERSION: Final = {
    "major": "1",
    "minor": "33",
    "gitVersion": "v1.33.0+quarterdeck",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
_TEXT: Final = "text/plain; charset=utf-8"


class Front:
    def __init__(self, plane: ControlPlane, tokens: Tokens, aggregation: Aggregation) -> None:
        self._plane = plane
        self._tokens = tokens
        self._aggregation = aggregation
        self._version = orjson.dumps(VERSION)
        self.stopping = False

    def handle(self, exchange: Exchange) -> None:
        """Answers now, or when a write is durable, or with a stream."""
        try:
            self._handle(exchange)
        except ApiError as error:
            self._refuse(exchange, error)
        except StorageError as error:
            self._refuse(exchange, storage_refused(error))

    def _handle(self, exchange: Exchange) -> None:
        parts = segments(exchange.path)
        head = parts[0] if parts else ""
        if head in _PUBLIC and len(parts) == 1:
            self._public(exchange, head)
            return
        user = self._user(exchange)
        name, parts = split_cluster(parts)
        if not name and self._aggregation.serves(parts):
            self._aggregation.pass_on(exchange, parts[1])
            return
        cluster = self._plane.clusters.get(name)
        if cluster is not None:
            self._in_cluster(exchange, cluster, parts, user)
            return
        cluster = self._plane.open_cluster(name)
        # Its namespaces are on their way; whoever asks for it first finds them.
        self._plane.store.after_commit(lambda error: self._opened(exchange, cluster, parts, user, error))

    def _opened(
        self, exchange: Exchange, cluster: LogicalCluster, parts: list[str], user: User, error: StorageError | None
    ) -> None:
        try:
            if error is not None:
                self._plane.forget_cluster(cluster.name)
                raise error
            self._in_cluster(exchange, cluster, parts, user)
        except ApiError as refused:
            self._refuse(exchange, refused)
        except StorageError as refused:
            self._refuse(exchange, storage_refused(refused))

    def _in_cluster(self, exchange: Exchange, cluster: LogicalCluster, parts: list[str], user: User) -> None:
        head = parts[0] if parts else ""
        if head in ("api", "apis"):
            target = route(cluster.registry, parts)
            if target is not None:
                Call(self._plane, cluster, target, exchange, parse_query(exchange.query), user, self._tokens).run()
                return
        if head in _PUBLIC and len(parts) == 1:
            self._public(exchange, head)
            return
        answer = self._document(exchange, cluster, parts)
        if answer is None:
            raise no_such_path()
        if exchange.method not in ("GET", "HEAD"):
            raise method_not_allowed(exchange.method)
        self._answer(exchange, answer)

    def _document(self, exchange: Exchange, cluster: LogicalCluster, parts: list[str]) -> Answer | None:
        found = discovery(cluster.registry, parts, exchange.headers.get(b"accept", ""))
        if found is not None:
            return Answer(200, found[1], found[0])
        if parts[:2] == ["openapi", "v3"]:
            schemas = openapi_v3(cluster.registry, parts[2:])
            return Answer(200, schemas) if schemas is not None else None
        if parts == ["openapi", "v2"]:
            content_type, body = openapi_v2(exchange.headers.get(b"accept", ""))
            return Answer(200, body, content_type)
        if parts == ["metrics"]:
            return Answer(200, self._metrics(), "text/plain; version=0.0.4; charset=utf-8")
        return None

    def _metrics(self) -> bytes:
        plane, store = self._plane, self._plane.store
        gauges: dict[str, tuple[str, float]] = {
            "quarterdeck_apiserver_watches": ("Open watches.", plane.watcher_count),
            "quarterdeck_apiserver_resource_version": ("The last committed resourceVersion.", store.version),
            "quarterdeck_apiserver_recovery_seconds": ("How long reading the store took.", store.recovery_seconds),
        }
        objects = [
            (cluster, f"{plural}.{group}" if group else plural, len(collection))
            for (cluster, group, plural), collection in sorted(store.collections.items())
            if len(collection)
        ]
        return plane.metrics.text(gauges, objects).encode()

    def _public(self, exchange: Exchange, path: str) -> None:
        if exchange.method not in ("GET", "HEAD"):
            raise method_not_allowed(exchange.method)
        if path == "version":
            self._answer(exchange, Answer(200, self._version))
            return
        failed = self._plane.store.failed
        if path == "readyz" and self.stopping:
            self._answer(exchange, Answer(503, b"stopping", _TEXT))
        elif failed is not None:
            self._answer(exchange, Answer(500, f"store failed: {failed}".encode(), _TEXT))
        else:
            self._answer(exchange, Answer(200, b"ok", _TEXT))

    def _user(self, exchange: Exchange) -> User:
        """Raises `UnauthorizedError`; `RefusedError` for whoever wants to be somebody else."""
        if b"impersonate-user" in exchange.headers:
            raise failure(403, "Forbidden", "this server does not impersonate: use the token of that user")
        authorization = exchange.headers.get(b"authorization", "")
        connection, tokens = exchange.connection, self._tokens
        known = connection.user
        # Proven a moment ago on this very connection, with the same words and the same file.
        if known is not None and known[0] == authorization and known[1] == tokens.stamp:
            user: User = known[2]
            return user
        found = tokens.user(authorization)
        if found is None:
            raise unauthorized()
        connection.user = (authorization, tokens.stamp, found)
        return found

    def _refuse(self, exchange: Exchange, error: ApiError) -> None:
        headers: Any = (("Retry-After", "1"),) if error.code == 429 else ()
        self._answer(exchange, Answer(error.code, dump_status(error.status), headers=headers))

    def _answer(self, exchange: Exchange, answer: Answer) -> None:
        self._plane.metrics.requests[exchange.method, answer.status] += 1
        exchange.answer(answer)
