"""What a request is about, for whoever asks whether it may be made: verb and resource, or a path that is none.

From the path alone, whether anything is served there or not: who may not look learns nothing by trying.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from hub.apiserver.auth import User
from hub.apiserver.authorizer import Authorizer
from hub.apiserver.negotiation import flag
from hub.apiserver.status import failure, qualified

_VERBS: Final = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_OF_COLLECTIONS: Final = {"get": "list", "delete": "deletecollection"}
_NAMESPACE_SUBRESOURCES: Final = ("status", "finalize")
_BY_NAME: Final = "metadata.name="


class Attributes(NamedTuple):
    """`resource` has its subresource after a slash, and is empty where `path` is no resource's."""

    verb: str
    path: str = ""
    group: str = ""
    version: str = ""
    resource: str = ""
    namespace: str = ""
    name: str = ""


def attributes(method: str, parts: Sequence[str], query: Mapping[str, str]) -> Attributes:
    """`parts` is the path below its logical cluster."""
    core = bool(parts) and parts[0] == "api"
    least = 3 if core else 4
    if not parts or parts[0] not in ("api", "apis") or len(parts) < least:
        return Attributes("get" if method == "HEAD" else method.lower(), f"/{'/'.join(parts)}")
    group, version, rest = ("", parts[1], parts[2:]) if core else (parts[1], parts[2], parts[3:])
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in _NAMESPACE_SUBRESOURCES:
            rest = rest[2:]
    resource = rest[0]
    name = rest[1] if len(rest) > 1 else ""
    verb = _VERBS.get(method) or method.lower()
    if not name:
        verb = _OF_COLLECTIONS.get(verb, verb)
    if query and verb in ("get", "list") and flag(query, "watch"):
        verb = "watch"
    if query and not name and verb in ("list", "watch", "deletecollection"):
        selector = query.get("fieldSelector", "")
        if selector.startswith(_BY_NAME) and "," not in selector:
            name = selector.removeprefix(_BY_NAME)
    if len(rest) > 2:
        resource = f"{resource}/{rest[2]}"
    return Attributes(verb, "", group, version, resource, namespace, name)


def authorize(authorizer: Authorizer, user: User, asked: Attributes) -> None:
    """Raises `ForbiddenError`."""
    if not asked.resource:
        if not authorizer.allows_path(user, asked.verb, asked.path):
            raise failure(
                403, "Forbidden", f'forbidden: User "{user.name}" cannot {asked.verb} path "{asked.path}"', {}
            )
        return
    if not may(authorizer, user, asked):
        raise refusal(user, asked)


def may(authorizer: Authorizer, user: User, asked: Attributes) -> bool:
    if not asked.resource:
        return authorizer.allows_path(user, asked.verb, asked.path)
    return authorizer.allows(user, asked.verb, asked.group, asked.resource, namespace=asked.namespace, name=asked.name)


def refusal(user: User, asked: Attributes) -> Exception:
    plural = asked.resource.partition("/")[0]
    named = f' "{asked.name}"' if asked.name else ""
    where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    details: dict[str, str] = {"name": asked.name} if asked.name else {}
    if asked.group:
        details["group"] = asked.group
    details["kind"] = plural
    return failure(
        403,
        "Forbidden",
        f'{qualified(asked.group, plural)}{named} is forbidden: User "{user.name}" cannot {asked.verb} resource '
        f'"{asked.resource}" in API group "{asked.group}" {where}',
        details,
    )
