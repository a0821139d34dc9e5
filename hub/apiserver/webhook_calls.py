"""Webhooks are asked over HTTPS: AdmissionReviews out, answers in, patches applied.

Mutating ones one after the other, each sees what the ones before have made; validating ones at once. One that does not
answer in time, or not in order, holds its `failurePolicy`. A Service is found by its externalName: no network of a
cluster is here.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import ssl
import uuid
from collections.abc import Mapping
from typing import Any, Final

import orjson

from hub.api import cel
from hub.api.errors import ApiError, InvalidObjectError
from hub.apiserver.auth import User
from hub.apiserver.consultation import Question
from hub.apiserver.jsonpatch import apply_json_patch
from hub.apiserver.kinds import ServedKind
from hub.apiserver.logical import LogicalCluster
from hub.apiserver.scale import scale_of
from hub.apiserver.status import failure
from hub.apiserver.webhook_index import MUTATING, Hook

Object = dict[str, Any]
_LARGEST: Final = 4 * 2**20


class _CallFailedError(Exception):
    """Why a webhook gave no answer."""


class Webhooks:
    """The calls of one server. `close` at the end."""

    def __init__(self) -> None:
        self._session: Any = None
        self._contexts: dict[str, ssl.SSLContext] = {}

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(
        self, cluster: LogicalCluster, user: User, question: Question, *, dry_run: bool, warnings: list[str]
    ) -> Object | None:
        """The object as it is after all of `question`'s webhooks. Adds to `warnings`.

        Raises `ApiError` where one refuses, or fails and must not.
        """
        if question.plural != MUTATING:
            calls = [
                self._one(cluster, user, question, hook, kind, question.obj, dry_run, warnings)
                for hook, kind in question.hooks
            ]
            for result in await asyncio.gather(*calls, return_exceptions=True):
                if isinstance(result, BaseException):
                    raise result
            return question.obj
        obj = question.obj
        touched: dict[Hook, Object | None] = {}
        for hook, kind in question.hooks:
            obj = await self._one(cluster, user, question, hook, kind, obj, dry_run, warnings)
            touched[hook] = obj
        for hook, kind in question.hooks:
            # Another one has changed the object since it was asked.
            if hook.again and touched[hook] != obj:
                obj = await self._one(cluster, user, question, hook, kind, obj, dry_run, warnings)
        return obj

    async def _one(
        self,
        cluster: LogicalCluster,
        user: User,
        question: Question,
        hook: Hook,
        kind: ServedKind,
        obj: Object | None,
        dry_run: bool,
        warnings: list[str],
    ) -> Object | None:
        request = _request(question, kind, user, obj, dry_run=dry_run)
        try:
            if hook.problem:
                raise _CallFailedError(hook.problem)
            if not _is_meant(hook, request):
                return obj
            response = await self._call(cluster, hook, request)
            warnings += [str(text) for text in response.get("warnings") or ()]
            if response.get("allowed") is not True:
                raise _refusal(hook, response)
            if question.plural == MUTATING and obj is not None and response.get("patch"):
                return _patched(question, kind, obj, response)
            return obj
        except _CallFailedError as error:
            if hook.fails:
                why = f'failed calling webhook "{hook.name}": {error}'
                details = {"causes": [{"message": why}]}
                raise failure(500, "InternalError", f"Internal error occurred: {why}", details) from error
            return obj

    async def _call(self, cluster: LogicalCluster, hook: Hook, request: Object) -> Mapping[str, Any]:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(trust_env=False)
        url, name = _address(cluster, hook)
        review = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}
        query = {"timeout": f"{hook.seconds:g}s"}
        try:
            async with asyncio.timeout(hook.seconds):
                async with self._session.post(
                    url,
                    params=query,
                    data=orjson.dumps(review),
                    headers={"Content-Type": "application/json", "Accept": "application/json"},
                    ssl=self._context(hook),
                    server_hostname=name or None,
                    allow_redirects=False,
                ) as answer:
                    body = await answer.content.read(_LARGEST)
                    if answer.status != 200:
                        raise _CallFailedError(f"the server answered {answer.status}")
        except TimeoutError as error:
            raise _CallFailedError(f"no answer within {hook.seconds:g} s") from error
        except aiohttp.ClientConnectorError as error:
            cause = error.os_error.strerror or str(error.os_error) or type(error).__name__
            raise _CallFailedError(f'failed to call webhook: Post "{url}": {cause}') from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _CallFailedError(f'failed to call webhook: Post "{url}": {error or type(error).__name__}') from error
        return _response(body, request["uid"])

    def _context(self, hook: Hook) -> ssl.SSLContext:
        bundle = str(hook.client.get("caBundle") or "")
        found = self._contexts.get(bundle)
        if found is None:
            try:
                text = base64.b64decode(bundle).decode() if bundle else None
                found = ssl.create_default_context(cadata=text)
            except (ssl.SSLError, binascii.Error, ValueError) as error:
                raise _CallFailedError(f"caBundle cannot be used: {error}") from error
            if len(self._contexts) > 256:
                self._contexts.clear()
            self._contexts[bundle] = found
        return found


def _is_meant(hook: Hook, request: Object) -> bool:
    """Raises `_CallFailedError` where a condition has no value."""
    values = {"object": request["object"], "oldObject": request["oldObject"], "request": request}
    for condition in hook.conditions:
        try:
            if condition.evaluate(values) is not True:
                return False
        except cel.CelError as error:
            raise _CallFailedError(f"matchConditions: {error}") from error
    return True


def _address(cluster: LogicalCluster, hook: Hook) -> tuple[str, str]:
    """Where to call, and which name its certificate must have (empty: the host's)."""
    url = hook.client.get("url")
    if url:
        return str(url), ""
    service = hook.client.get("service") or {}
    namespace, name = str(service.get("namespace") or ""), str(service.get("name") or "")
    record = cluster.store.collection(cluster.name, "", "services").records.get((namespace, name))
    spec = record.load().get("spec") or {} if record is not None else {}
    if spec.get("type") != "ExternalName" or not spec.get("externalName"):
        raise _CallFailedError(
            f"service {namespace}/{name} has no address here: only Services of type ExternalName have one"
        )
    path = "/" + str(service.get("path") or "").lstrip("/")
    return f"https://{spec['externalName']}:{service.get('port') or 443}{path}", f"{name}.{namespace}.svc"


def _request(question: Question, kind: ServedKind, user: User, obj: Object | None, *, dry_run: bool) -> Object:
    asked, shown = question.kind, obj or question.old or {}
    metadata = shown.get("metadata", {})
    request: Object = {
        "uid": str(uuid.uuid4()),
        "kind": _gvk(kind),
        "resource": _gvr(kind),
        "requestKind": _gvk(asked),
        "requestResource": _gvr(asked),
        "operation": question.operation,
        "userInfo": user.written(),
        "object": _seen(question, kind, obj),
        "oldObject": _seen(question, kind, question.old),
        "dryRun": dry_run,
        "options": {"kind": f"{question.operation.title()}Options", "apiVersion": "meta.k8s.io/v1"},
    }
    for key, value in (("name", metadata.get("name")), ("namespace", metadata.get("namespace"))):
        if value:
            request[key] = value
    if question.subresource:
        request["subResource"] = request["requestSubResource"] = question.subresource
        if question.subresource == "scale":
            request["kind"] = request["requestKind"] = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    return request


def _seen(question: Question, kind: ServedKind, obj: Object | None) -> Object | None:
    if obj is None:
        return None
    if question.subresource == "scale":
        return scale_of(question.kind, obj)
    return obj if kind is question.kind else kind.from_storage(question.kind.to_storage(obj))


def _gvk(kind: ServedKind) -> Object:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _gvr(kind: ServedKind) -> Object:
    return {"group": kind.group, "version": kind.version, "resource": kind.plural}


def _response(body: bytes, uid: str) -> Mapping[str, Any]:
    try:
        review = orjson.loads(body)
        response = review["response"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise _CallFailedError("the answer is no AdmissionReview with a response") from error
    if not isinstance(response, dict) or response.get("uid") != uid:
        raise _CallFailedError("the answer is about another request: its uid differs")
    return response


def _refusal(hook: Hook, response: Mapping[str, Any]) -> ApiError:
    status = response.get("status") if isinstance(response.get("status"), dict) else {}
    assert isinstance(status, dict)
    code = status.get("code")
    if not isinstance(code, int) or not 400 <= code < 600:
        code = 403
    said = status.get("message") or status.get("reason")
    message = f'admission webhook "{hook.name}" denied the request' + (f": {said}" if said else " without explanation")
    reason = str(status.get("reason") or {403: "Forbidden", 400: "BadRequest"}.get(code, ""))
    details = status.get("details")
    return failure(code, reason, message, details if isinstance(details, dict) else None)


def _patched(question: Question, kind: ServedKind, obj: Object, response: Mapping[str, Any]) -> Object:
    if response.get("patchType") != "JSONPatch" or question.subresource == "scale":
        raise _CallFailedError("only patches of type JSONPatch are read, and none of a Scale")
    before = _seen(question, kind, obj)
    try:
        operations = orjson.loads(base64.b64decode(str(response["patch"]), validate=True))
        made = apply_json_patch(before, operations)
    except (binascii.Error, orjson.JSONDecodeError, InvalidObjectError) as error:
        raise _CallFailedError(f"its patch does not apply: {error}") from error
    if not isinstance(made, dict) or not isinstance(made.get("metadata"), dict):
        raise _CallFailedError("its patch leaves no object")
    if kind is not question.kind:
        made = question.kind.from_storage(kind.to_storage(made))
    for name in ("name", "namespace", "uid"):
        if made["metadata"].get(name) != obj["metadata"].get(name):
            raise _CallFailedError(f"its patch changes metadata.{name}")
    with contextlib.suppress(ApiError):
        made = question.complete(made)
    result: Object = made
    return result
