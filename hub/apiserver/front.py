"""From an HTTP request to its answer: health, who it is from, whose turn it is, which logical cluster, whether it may
be made, which document or verb."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from hub.api.errors import ApiError, StorageError
from hub.apiserver.aggregation import Aggregation
from hub.apiserver.audit import AuditLog
from hub.apiserver.auth import User
from hub.apiserver.authentication import Authenticator
from hub.apiserver.discovery import discovery
from hub.apiserver.fairness import Turns
from hub.apiserver.http import Answer, Exchange
from hub.apiserver.impersonation import impersonated
from hub.apiserver.logical import LogicalCluster
from hub.apiserver.negotiation import parse_query
from hub.apiserver.openapi import openapi_v3
from hub.apiserver.openapi_v2 import openapi_v2
from hub.apiserver.plane import ControlPlane
from hub.apiserver.requests import Attributes, attributes, authorize
from hub.apiserver.routing import route, segments, split_cluster
from hub.apiserver.status import dump_status, method_not_allowed, no_such_path, storage_refused, too_many_requests
from hub.apiserver.verbs import Call

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
    def __init__(
        self,
        plane: ControlPlane,
        authenticator: Authenticator,
        aggregation: Aggregation,
        audit: AuditLog | None = None,
    ) -> None:
        self._plane = plane
        self._authenticator = authenticator
        self._aggregation = aggregation
        self._audit = audit
        self._version = orjson.dumps(VERSION)
        self.turns = Turns()
        self.stopping = False

    def handle(self, exchange: Exchange) -> None:
        """Answers now, in its client's turn, when a write is durable, or with a stream."""
        self._guarded(exchange, lambda: self._handle(exchange))

    def _guarded(self, exchange: Exchange, step: Callable[[], None]) -> None:
        try:
            step()
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
        name, parts = split_cluster(parts)
        user = self._authenticator.user(exchange, name)
        # Leases are how everybody else knows that somebody is alive.
        who = f"{user.name} leases" if parts[1:2] == ["coordination.k8s.io"] else user.name
        if not self.turns.ask(who, lambda: self._in_turn(exchange, name, parts, user)):
            raise too_many_requests()

    def _in_turn(self, exchange: Exchange, name: str, parts: list[str], user: User) -> None:
        if exchange.connection.gone:
            return
        try:
            self._guarded(exchange, lambda: self._answer_for(exchange, name, parts, user))
        except Exception:
            exchange.connection.failed(exchange)

    def _answer_for(self, exchange: Exchange, name: str, parts: list[str], user: User) -> None:
        cluster = self._plane.clusters.get(name)
        if cluster is not None:
            self._in_cluster(exchange, cluster, parts, user)
            return
        root = self._plane.clusters[""]
        assert root.authorizer is not None
        authorize(root.authorizer, user, Attributes("create", f"/clusters/{name}"))
        cluster = self._plane.open_cluster(name)
        # Its namespaces are on their way; whoever asks for it first finds them.
        self._plane.store.after_commit(lambda error: self._opened(exchange, cluster, parts, user, error))

    def _opened(
        self, exchange: Exchange, cluster: LogicalCluster, parts: list[str], user: User, error: StorageError | None
    ) -> None:
        if error is not None:
            self._plane.forget_cluster(cluster.name)
            self._refuse(exchange, storage_refused(error))
            return
        self._guarded(exchange, lambda: self._in_cluster(exchange, cluster, parts, user))

    def _in_cluster(self, exchange: Exchange, cluster: LogicalCluster, parts: list[str], user: User) -> None:
        authorizer = cluster.authorizer
        assert authorizer is not None
        acting = impersonated(exchange, user, authorizer) if exchange.impersonates else user
        query = parse_query(exchange.query)
        asked = attributes(exchange.method, parts, query)
        if self._audit is not None:
            self._audit.begin(exchange, user, acting, asked, cluster.name)
        authorize(authorizer, acting, asked)
        head = parts[0] if parts else ""
        if head == "apis" and not cluster.name and self._aggregation.serves(parts):
            self._aggregation.pass_on(exchange, parts[1])
            return
        if head in ("api", "apis"):
            target = route(cluster.registry, parts)
            if target is not None:
                Call(self._plane, cluster, target, exchange, query, acting, self._authenticator).run()
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
            content_type, body = openapi_v2(cluster.registry, exchange.headers.get(b"accept", ""))
            return Answer(200, body, content_type)
        if parts == ["openid", "v1", "jwks"]:
            return Answer(200, orjson.dumps(self._authenticator.service_tokens.key_set()), "application/jwk-set+json")
        if parts == [".well-known", "openid-configuration"]:
            return Answer(200, orjson.dumps(self._issuer(cluster)))
        if parts == ["metrics"]:
            return Answer(200, self._metrics(), "text/plain; version=0.0.4; charset=utf-8")
        return None

    def _issuer(self, cluster: LogicalCluster) -> dict[str, Any]:
        issuer = self._authenticator.service_tokens.issuer(cluster.name)
        return {
            "issuer": issuer,
            "jwks_uri": f"{issuer}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }

    def _metrics(self) -> bytes:
        plane, store = self._plane, self._plane.store
        gauges: dict[str, tuple[str, float]] = {
            "quarterdeck_apiserver_watches": ("Open watches.", plane.watcher_count),
            "quarterdeck_apiserver_resource_version": ("The last committed resourceVersion.", store.version),
            "quarterdeck_apiserver_queued_requests": ("Requests that had to wait for their turn.", self.turns.queued),
            "quarterdeck_apiserver_refused_requests": ("Requests refused with 429.", self.turns.refused),
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

    def _refuse(self, exchange: Exchange, error: ApiError) -> None:
        headers: Any = (("Retry-After", "1"),) if error.code == 429 else ()
        self._answer(exchange, Answer(error.code, dump_status(error.status), headers=headers))

    def _answer(self, exchange: Exchange, answer: Answer) -> None:
        self._plane.metrics.requests[exchange.method, answer.status] += 1
        exchange.answer(answer)
