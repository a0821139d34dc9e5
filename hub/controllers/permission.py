"""Who asks the hub itself something, and whether they may: both are for the API that the hub runs on to say.

A bearer token becomes a user by a TokenReview, and what the user may do is a SubjectAccessReview, as with every server
that delegates both. Nothing is decided here. Whose a token is is remembered for a few seconds; what somebody may do is
asked each time.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from hub.api.errors import ApiError, RefusedError, UnauthorizedError, UnreachableError
from hub.api.resource import Resource
from hub.client.interface import KubeApi

_TOKENS: Final = Resource("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", False)
_ACCESS: Final = Resource("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", False)
_REMEMBERED: Final = 10.0
_MOST: Final = 256


@dataclass(frozen=True, slots=True)
class Caller:
    """`extra` as the review gave it: some authorizers look at it."""

    user: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Permission:
    """Asks `api`, which the hub's own credential must let it: it needs `create` on both kinds of review."""

    def __init__(self, api: KubeApi, clock: Callable[[], float] = time.monotonic) -> None:
        self._api, self._clock = api, clock
        # By digest of the token, so that none lies about in memory longer than its request.
        self._known: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()

    async def caller(self, authorization: str) -> Caller:
        """Of an Authorization header. Raises `UnauthorizedError`; `UnreachableError` when the API says nothing."""
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise _unauthorized("no bearer token: send the one that the API takes, in the header Authorization")
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        known = self._known.get(digest)
        if known is not None and self._clock() < known[0]:
            return known[1]
        status = await self._ask(_TOKENS, {"token": token})
        if status.get("authenticated") is not True:
            raise _unauthorized("the API does not know the bearer token")
        user = status.get("user") or {}
        caller = Caller(
            str(user.get("username") or ""),
            str(user.get("uid") or ""),
            tuple(str(group) for group in user.get("groups") or ()),
            tuple((str(key), tuple(map(str, values))) for key, values in sorted((user.get("extra") or {}).items())),
        )
        self._known[digest] = (self._clock() + _REMEMBERED, caller)
        self._known.move_to_end(digest)
        while len(self._known) > _MOST:
            self._known.popitem(last=False)
        return caller

    async def check(
        self,
        caller: Caller,
        verb: str,
        resource: Resource,
        namespace: str = "",
        name: str = "",
        *,
        subresource: str = "",
    ) -> None:
        """Raises `RefusedError` (403) when the caller may not, whether or not the object exists; `UnreachableError`."""
        wanted = {
            "verb": verb,
            "group": resource.group,
            "version": resource.version,
            "resource": resource.plural,
            "subresource": subresource,
            "namespace": namespace,
            "name": name,
        }
        spec: dict[str, Any] = {
            "user": caller.user,
            "groups": list(caller.groups),
            "resourceAttributes": {key: value for key, value in wanted.items() if value},
        }
        if caller.uid:
            spec["uid"] = caller.uid
        if caller.extra:
            spec["extra"] = {key: list(values) for key, values in caller.extra}
        status = await self._ask(_ACCESS, spec)
        if status.get("allowed") is True and status.get("denied") is not True:
            return
        plural = f"{resource.plural}/{subresource}" if subresource else resource.plural
        what = f"{plural}.{resource.group}" if resource.group else plural
        where = f" in namespace {namespace}" if namespace else ""
        message = f"{caller.user or 'this user'} may not {verb} {what}{where}"
        why = str(status.get("reason") or "")
        raise RefusedError(403, {"reason": "Forbidden", "message": f"{message}: {why}" if why else message})

    async def _ask(self, kind: Resource, spec: dict[str, Any]) -> dict[str, Any]:
        review = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {}, "spec": spec}
        try:
            answer = await self._api.create(kind, review)
        except ApiError as error:
            # That the hub itself may not ask is not the caller's fault.
            raise UnreachableError(
                f"the API answers the hub's {kind.kind} with: {error}",
                hint=f"The hub's user needs `create` on {kind.plural}.{kind.group}.",
            ) from error
        return answer.get("status") or {}


def _unauthorized(message: str) -> UnauthorizedError:
    return UnauthorizedError(401, {"reason": "Unauthorized", "message": message})
