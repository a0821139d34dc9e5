"""The verbs of the API over HTTP: a routed request in, an answer or a stream out.

What a verb does to the store is in create.py, update.py and remove.py; here its parameters are read, and the answer is
held back until the write is durable.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import replace as replaced
from typing import Any, Final

import orjson

from hub.api.errors import StorageError
from hub.apiserver.auth import User
from hub.apiserver.authentication import Authenticator
from hub.apiserver.consulting import Consulting
from hub.apiserver.create import create
from hub.apiserver.discovery import CREATED
from hub.apiserver.http import Answer, Exchange, Headers, chunk
from hub.apiserver.logical import LogicalCluster
from hub.apiserver.negotiation import decode, decode_yaml, flag, media_type, number, rendering_for
from hub.apiserver.parameters import forbidden_parameter, warning_headers, write_options
from hub.apiserver.patching import MEDIA_TYPES, Patch
from hub.apiserver.plane import ControlPlane
from hub.apiserver.record import Record
from hub.apiserver.remove import delete, delete_collection, delete_options
from hub.apiserver.rendering import Rendering
from hub.apiserver.reviews import Reviewer
from hub.apiserver.routing import Target
from hub.apiserver.scaling import read_scale, write_scale
from hub.apiserver.selection import Selection
from hub.apiserver.status import (
    bad_request,
    compacted,
    dump_status,
    expired,
    failure,
    internal_error,
    method_not_allowed,
    no_such_path,
    storage_refused,
    success,
    unsupported_media_type,
)
from hub.apiserver.update import patch, replace
from hub.apiserver.watching import Watcher, frame
from hub.apiserver.written import Options, Written

_log = logging.getLogger(__name__)
# As Kubernetes: a watch that asks for no end gets one between half an hour and an hour.
_WATCH_SECONDS: Final = 1800.0


class Call:
    """One routed, authenticated request."""

    __slots__ = ("authenticator", "cluster", "exchange", "plane", "query", "target", "user")

    def __init__(
        self,
        plane: ControlPlane,
        cluster: LogicalCluster,
        target: Target,
        exchange: Exchange,
        query: dict[str, str],
        user: User,
        authenticator: Authenticator,
    ) -> None:
        self.plane = plane
        self.authenticator = authenticator
        self.cluster = cluster
        self.target = target
        self.exchange = exchange
        self.query = query
        self.user = user

    # Dispatch

    def run(self) -> None:
        """Answers now, or once a write is durable. Raises `ApiError`, `StorageError`."""
        method, target = self.exchange.method, self.target
        if target.kind.virtual:
            if method != "POST" or target.name:
                raise method_not_allowed(method)
            self._review()
            return
        if target.subresource:
            self._check_subresource()
            if target.subresource == "token":
                self._request_token()
                return
        verb = (_OF_OBJECT if target.name else _OF_COLLECTION).get(method)
        if verb is None:
            raise method_not_allowed(method)
        verb(self)

    def _check_subresource(self) -> None:
        kind, subresource = self.target.kind, self.target.subresource
        known = subresource in kind.subresources and (subresource != "scale" or kind.scale is not None)
        if not known and not (subresource == "finalize" and kind.storage_key == ("", "namespaces")):
            raise no_such_path()
        if self.exchange.method not in (("POST",) if subresource in CREATED else ("GET", "HEAD", "PUT", "PATCH")):
            raise method_not_allowed(self.exchange.method)

    # Reading

    def _get(self) -> None:
        if flag(self.query, "watch") and self.exchange.method == "GET":
            self._watch(f"metadata.name={self.target.name}")
            return
        record = self.cluster.get(self.target.kind, self._key)
        if self.target.subresource == "scale":
            self._show_scale(record)
            return
        self._answer(200, self._rendering().one(record))

    def _show_scale(self, record: Record) -> None:
        self._answer(200, orjson.dumps(read_scale(self.target.kind, record)))

    def _list(self) -> None:
        if flag(self.query, "watch") and self.exchange.method == "GET":
            self._watch("")
            return
        cluster, query = self.cluster, self.query
        collection = cluster.collection(self.target.kind)
        selection = self._selection()
        rendering = self._rendering()
        limit = number(query, "limit")
        pages, version = self.plane.pages, cluster.store.version
        if token := query.get("continue", ""):
            page = pages.next(collection, selection, token, limit)
        else:
            version = self._list_version(collection.version, version)
            page = pages.first(collection, selection, version, limit)
        remaining = page.remaining if selection.everything else None
        self._answer(200, rendering.many(page.records, page.version, page.continue_, remaining))

    def _list_version(self, changed: int, current: int) -> int:
        asked = number(self.query, "resourceVersion")
        if asked > current:
            raise failure(504, "Timeout", f"Too large resource version: {asked}, current: {current}")
        if self.query.get("resourceVersionMatch") == "Exact" and asked:
            # Nothing here changed since, so what is there now is what was there then.
            if asked < changed:
                raise expired(f"The resourceVersion for the provided list is too old: {asked}")
            return asked
        return current

    def _watch(self, fields: str) -> None:
        if self.exchange.http10:
            raise bad_request("a watch needs HTTP/1.1")
        query, store = self.query, self.cluster.store
        selection = self._selection(fields)
        rendering = self._rendering()
        version = number(query, "resourceVersion")
        whole = self._wants_initial(version)
        seconds = float(number(query, "timeoutSeconds")) or _WATCH_SECONDS * (1 + random.random())
        collection = self.cluster.collection(self.target.kind)
        initial = iter(selection.of(collection)) if whole else None
        stream = self.exchange.stream()
        if not whole and (store.gap(version) or version < collection.history.compacted):
            status = compacted(version, collection.history.compacted).status
            stream.write(chunk(frame("ERROR", dump_status(status))))
            stream.end()
            return
        watches = self.plane.watches(collection)
        Watcher(
            watches,
            watches.group(selection, rendering),
            stream,
            version=store.version if whole else version,
            current=lambda: store.version,
            initial=initial,
            end_of_initial=flag(query, "sendInitialEvents"),
            bookmarks=flag(query, "allowWatchBookmarks"),
            seconds=seconds,
        )

    def _wants_initial(self, version: int) -> bool:
        query = self.query
        match = query.get("resourceVersionMatch", "")
        if "sendInitialEvents" not in query:
            if match:
                raise forbidden_parameter("resourceVersionMatch", "only together with sendInitialEvents in a watch")
            return version == 0
        if match != "NotOlderThan":
            raise forbidden_parameter("resourceVersionMatch", "must be NotOlderThan with sendInitialEvents")
        if version > self.cluster.store.version:
            current = self.cluster.store.version
            raise failure(504, "Timeout", f"Too large resource version: {version}, current: {current}")
        return flag(query, "sendInitialEvents") or version == 0

    # Writing

    def _create(self) -> None:
        target = self.target
        if target.kind.namespaced and target.namespace is None:
            raise method_not_allowed("POST")
        rendering, body = self._rendering(), self._body()
        self._write(
            lambda options: create(self.cluster, target.kind, body, target.namespace, options),
            lambda written: self._finish(201, written, rendering),
        )

    def _replace(self) -> None:
        if self.target.subresource == "scale":
            self._write_scale(self._body(), "update")
            return
        rendering, body, target = self._rendering(), self._body(), self.target
        self._write(
            lambda options: replace(
                self.cluster, target.kind, body, self._key, options, subresource=target.subresource
            ),
            lambda written: self._finish(200, written, rendering),
        )

    def _patch(self) -> None:
        content_type = media_type(self.exchange.headers.get(b"content-type", ""))
        format = MEDIA_TYPES.get(content_type)
        if format is None:
            raise unsupported_media_type(content_type, ", ".join(MEDIA_TYPES))
        body = decode_yaml(self.exchange.body) if format == "apply" else decode("application/json", self.exchange.body)
        if format == "apply" and not self.query.get("fieldManager"):
            raise bad_request("fieldManager is required for apply patch")
        if flag(self.query, "force") and format != "apply":
            raise bad_request("force may not be specified for non-apply patch")
        change = Patch(format, body)
        if self.target.subresource == "scale":
            self._write_scale(change, "patch")
            return
        rendering, target = self._rendering(), self.target
        self._write(
            lambda options: patch(
                self.cluster, target.kind, change, self._key, options, subresource=target.subresource
            ),
            lambda written: self._finish(201 if written.created else 200, written, rendering),
        )

    def _write_scale(self, body: Any, verb: str) -> None:
        kind = self.target.kind
        self._write(
            lambda options: write_scale(self.cluster, kind, body, self._key, options, verb=verb),
            lambda written: self._after_commit(
                lambda: self._answer(200, orjson.dumps(read_scale(kind, written.record)))
            ),
        )

    def _delete(self) -> None:
        body = self._body() if self.exchange.body else None
        rendering, how = self._rendering(), delete_options(body, self.query)
        kind = self.target.kind

        def answer(written: Written) -> None:
            if not written.deleted:
                self._finish(200, written, rendering)
                return
            record = written.record
            details: dict[str, Any] = {"name": record.name, "kind": kind.plural, "uid": record.uid}
            if kind.group:
                details["group"] = kind.group
            headers = warning_headers(written.warnings)
            self._after_commit(lambda: self._answer(200, orjson.dumps(success(details)), headers))

        self._write(
            lambda options: delete(self.cluster, kind, self._key, replaced(how, consultation=options.consultation)),
            answer,
            dry_run=how.dry_run,
        )

    def _delete_collection(self) -> None:
        target = self.target
        if target.kind.namespaced and target.namespace is None:
            raise method_not_allowed("DELETE")
        body = self._body() if self.exchange.body else None
        how = delete_options(body, self.query)
        rendering, version = self._rendering(), self.cluster.store.version
        records = self._selection().of(self.cluster.collection(target.kind))
        removed: list[Record] = []

        def remove_all() -> None:
            removed.extend(delete_collection(self.cluster, target.kind, records, how))
            self._after_commit(lambda: self._answer(200, rendering.many(removed, version)))

        self._consulting.remove(target.kind, records, remove_all, dry_run=how.dry_run)

    def _write(
        self, write: Callable[[Options], Written], answer: Callable[[Written], None], *, dry_run: bool = False
    ) -> None:
        self._consulting.write(write, answer, self._options(), dry_run=dry_run)

    @property
    def _consulting(self) -> Consulting:
        return Consulting(self.plane, self.cluster, self.user, self.exchange)

    def _review(self) -> None:
        kind = self.target.kind
        reviewer = Reviewer(self.cluster, self.user, self.authenticator)
        answer = reviewer.review(kind, self._body(), self.target.namespace)
        self._answer(201, orjson.dumps(answer))

    def _request_token(self) -> None:
        reviewer = Reviewer(self.cluster, self.user, self.authenticator)
        namespace, name = self._key
        answer = reviewer.request_token(namespace, name, self._body(), dry_run=self._options().dry_run)
        self._answer(201, orjson.dumps(answer))

    # What they share

    @property
    def _key(self) -> tuple[str, str]:
        return (self.target.namespace or "", self.target.name)

    def _selection(self, fields: str = "") -> Selection:
        query = self.query
        asked = query.get("fieldSelector", "")
        both = ",".join(part for part in (asked, fields) if part)
        return Selection(self.target.kind, self.target.namespace, query.get("labelSelector", ""), both)

    def _rendering(self) -> Rendering:
        accept = self.exchange.headers.get(b"accept", "")
        return rendering_for(accept, self.target.kind, self.query.get("includeObject", ""))

    def _options(self) -> Options:
        return write_options(self.query, self.exchange.headers.get(b"user-agent", ""), self.user)

    def _body(self) -> Any:
        return decode(self.exchange.headers.get(b"content-type", ""), self.exchange.body)

    # The rendering is chosen before anything is staged: what cannot be answered must not be done.
    def _finish(self, status: int, written: Written, rendering: Rendering) -> None:
        headers = warning_headers(written.warnings)
        self._after_commit(lambda: self._answer(status, rendering.one(written.record), headers))

    # What changes nothing may still be about an object that is on its way: it waits too.
    def _after_commit(self, answer: Callable[[], None]) -> None:
        def done(error: StorageError | None) -> None:
            if error is not None:
                refused = storage_refused(error)
                self._answer(refused.code, dump_status(refused.status))
                return
            try:
                answer()
            except Exception:
                _log.exception("answering %s %s", self.exchange.method, self.exchange.path)
                self._answer(500, dump_status(internal_error("it was stored, but could not be shown").status))

        self.cluster.store.after_commit(done)

    def _answer(self, status: int, body: bytes, headers: Headers = ()) -> None:
        self.plane.metrics.requests[self.exchange.method, status] += 1
        self.exchange.answer(Answer(status, body, headers=headers))


_OF_OBJECT: Final[Mapping[str, Callable[[Call], None]]] = {
    "GET": Call._get,
    "HEAD": Call._get,
    "PUT": Call._replace,
    "PATCH": Call._patch,
    "DELETE": Call._delete,
}
_OF_COLLECTION: Final[Mapping[str, Callable[[Call], None]]] = {
    "GET": Call._list,
    "HEAD": Call._list,
    "POST": Call._create,
    "DELETE": Call._delete_collection,
}
