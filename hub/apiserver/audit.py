"""The audit log: who did what to what, when, and what came of it, one line of JSON a request.

Lines are Events of audit.k8s.io/v1, and a policy is written as Kubernetes' Policy: the first rule that matches says the
level. Lines are written from memory a few times a second; files are rotated by size. A disk that takes no more lines
stops no request: it is said in the server's own log.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

from hub.api.errors import StorageError, UsageError
from hub.apiserver.auth import User
from hub.apiserver.http import Answer, Exchange
from hub.apiserver.requests import Attributes

_LEVELS: Final = ("None", "Metadata", "Request", "RequestResponse")
_STAGES: Final = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")
_FLUSH_BYTES: Final = 64 * 1024
_MEBIBYTE: Final = 2**20
# Bodies are in the log as objects; larger ones are left out.
_MAX_BODY: Final = _MEBIBYTE
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuditRule:
    """An empty part matches everything. `resources`: (group, resources, names)."""

    level: str
    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    verbs: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    resources: tuple[tuple[str, frozenset[str], frozenset[str]], ...] = ()
    urls: tuple[str, ...] = ()
    omit_stages: frozenset[str] = frozenset()

    def matches(self, user: User, asked: Attributes) -> bool:
        if self.users and user.name not in self.users:
            return False
        if self.groups and not self.groups.intersection(user.groups):
            return False
        if self.verbs and asked.verb not in self.verbs:
            return False
        if not asked.resource:
            return not (self.resources or self.namespaces) and (not self.urls or any(map(_fits(asked.path), self.urls)))
        if self.urls or (self.namespaces and asked.namespace not in self.namespaces):
            return False
        return not self.resources or any(
            group == asked.group
            and (not resources or asked.resource in resources or "*" in resources)
            and (not names or asked.name in names)
            for group, resources, names in self.resources
        )


def _fits(path: str) -> Any:
    return lambda url: url == path or (url.endswith("*") and path.startswith(url[:-1]))


DEFAULT_POLICY: Final = (AuditRule("Metadata"),)


def read_policy(path: Path) -> tuple[AuditRule, ...]:
    """A Policy of audit.k8s.io/v1 in a file. Raises `UsageError`."""
    try:
        document = yaml.safe_load(path.read_text())
        rules = document["rules"]
        left_out = document.get("omitStages") or []
        return tuple(_rule(rule, left_out) for rule in rules)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", field="--audit-policy") from error
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{path} is no audit policy: {error}", field="--audit-policy") from error


def _rule(rule: Mapping[str, Any], left_out: list[str]) -> AuditRule:
    if rule["level"] not in _LEVELS:
        raise ValueError(f"level: found {rule['level']!r}; allowed: {', '.join(_LEVELS)}")
    stages = {*left_out, *(rule.get("omitStages") or ())}
    if not stages <= set(_STAGES):
        raise ValueError(f"omitStages: allowed: {', '.join(_STAGES)}")
    return AuditRule(
        rule["level"],
        frozenset(rule.get("users") or ()),
        frozenset(rule.get("userGroups") or ()),
        frozenset(rule.get("verbs") or ()),
        frozenset(rule.get("namespaces") or ()),
        tuple(
            (
                str(entry.get("group") or ""),
                frozenset(entry.get("resources") or ()),
                frozenset(entry.get("resourceNames") or ()),
            )
            for entry in rule.get("resources") or ()
        ),
        tuple(rule.get("nonResourceURLs") or ()),
        frozenset(stages),
    )


class AuditLog:
    """Appends to `path`; at `max_mebibytes` it becomes ``PATH.1`` and so on, of which `keep` stay.

    Raises `StorageError` when the file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        policy: tuple[AuditRule, ...] = DEFAULT_POLICY,
        *,
        max_mebibytes: int = 100,
        keep: int = 5,
    ) -> None:
        self._path = path
        self._policy = policy
        self._max_bytes = max_mebibytes * _MEBIBYTE
        self._keep = keep
        self._lines: list[bytes] = []
        self._bytes = 0
        self._broken = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._open()
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}", hint="Name another --audit-log.") from error

    def begin(self, exchange: Exchange, user: User, acting: User, asked: Attributes, cluster: str) -> None:
        """Has the request's end, or its stream's beginning, written. Called before anything is decided."""
        rule = next((rule for rule in self._policy if rule.matches(acting, asked)), None)
        if rule is None or rule.level == "None":
            return
        received = time.time()
        uri = exchange.path + (f"?{exchange.query}" if exchange.query else "")
        event: dict[str, Any] = {
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": rule.level,
            "auditID": str(uuid.uuid4()),
            "stage": "ResponseComplete",
            "requestURI": uri,
            "verb": asked.verb,
            "user": user.written(),
        }
        if acting is not user:
            event["impersonatedUser"] = acting.written()
        event["sourceIPs"] = [exchange.connection.address]
        if agent := exchange.headers.get(b"user-agent"):
            event["userAgent"] = agent
        if asked.resource:
            event["objectRef"] = _reference(asked)
        if cluster:
            event["annotations"] = {"quarterdeck.dev/cluster": cluster}
        event["requestReceivedTimestamp"] = _micro(received)

        def observe(answer: Answer | None) -> None:
            self._end(event, rule, exchange, answer)

        exchange.observer = observe

    def _end(self, event: dict[str, Any], rule: AuditRule, exchange: Exchange, answer: Answer | None) -> None:
        stage = "ResponseStarted" if answer is None else "ResponseComplete"
        if stage in rule.omit_stages:
            return
        event["stage"] = stage
        event["stageTimestamp"] = _micro(time.time())
        event["responseStatus"] = {"metadata": {}, "code": 200 if answer is None else answer.status}
        if answer is not None and answer.status >= 400:
            event["responseStatus"] |= _failure(answer.body)
        if rule.level in ("Request", "RequestResponse") and (body := _body(exchange.body)) is not None:
            event["requestObject"] = body
        if rule.level == "RequestResponse" and answer is not None and (body := _body(answer.body)) is not None:
            event["responseObject"] = body
        self._lines.append(orjson.dumps(event))
        self._bytes += len(self._lines[-1])
        if self._bytes >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes what is in memory. Never raises."""
        if not self._lines:
            return
        data = b"\n".join(self._lines) + b"\n"
        self._lines, self._bytes = [], 0
        try:
            if self._size + len(data) > self._max_bytes and self._size:
                self._rotate()
            os.write(self._file, data)
            self._size += len(data)
            self._broken = False
        except OSError as error:
            if not self._broken:
                _log.error("the audit log %s takes no more lines: %s", self._path, error.strerror)
            self._broken = True

    def close(self) -> None:
        self.flush()
        os.close(self._file)

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(self._file).st_size

    def _rotate(self) -> None:
        os.close(self._file)
        for number in range(self._keep, 0, -1):
            source = self._path if number == 1 else Path(f"{self._path}.{number - 1}")
            if source.exists():
                os.replace(source, f"{self._path}.{number}")
        self._open()


def _reference(asked: Attributes) -> dict[str, str]:
    plural, _, below = asked.resource.partition("/")
    parts = {
        "resource": plural,
        "namespace": asked.namespace,
        "name": asked.name,
        "apiGroup": asked.group,
        "apiVersion": asked.version,
        "subresource": below,
    }
    return {name: value for name, value in parts.items() if value}


def _failure(body: bytes) -> dict[str, Any]:
    status = _body(body)
    if not isinstance(status, dict):
        return {}
    return {name: status[name] for name in ("status", "message", "reason") if name in status}


def _body(body: bytes) -> Any:
    if not body or len(body) > _MAX_BODY:
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _micro(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
