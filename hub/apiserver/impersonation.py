"""Acting as somebody else: `Impersonate-User`, `-Group`, `-Uid` and `-Extra-KEY`, for whoever may."""

from __future__ import annotations

from urllib.parse import unquote

from hub.apiserver.auth import ANONYMOUS, AUTHENTICATED, User
from hub.apiserver.authorizer import Authorizer
from hub.apiserver.http import Exchange
from hub.apiserver.status import bad_request, failure

_EXTRA = b"impersonate-extra-"
_HEADS = (b"impersonate-user", b"impersonate-group", b"impersonate-uid")
_AUTHENTICATION = "authentication.k8s.io"


def impersonated(exchange: Exchange, user: User, authorizer: Authorizer) -> User:
    """Whom the request is to be taken for: `user`, unless it says otherwise.

    Raises `ForbiddenError` for who may not, `RefusedError` (400) for groups without a user.
    """
    headers = exchange.headers
    name = headers.get(_HEADS[0], "")
    extra = sorted(header for header in headers if header.startswith(_EXTRA))
    if not name:
        if extra or any(head in headers for head in _HEADS):
            raise bad_request("impersonation needs Impersonate-User")
        return user
    groups = [group for group in headers.get(_HEADS[1], "").split("\n") if group]
    uid = headers.get(_HEADS[2], "")
    _ask(authorizer, user, name)
    for group in groups:
        _must(authorizer, user, "", "groups", group)
    if uid:
        _must(authorizer, user, _AUTHENTICATION, "uids", uid)
    more: dict[str, tuple[str, ...]] = {}
    for header in extra:
        key = unquote(header.removeprefix(_EXTRA).decode("latin-1"))
        values = tuple(headers[header].split("\n"))
        for value in values:
            _must(authorizer, user, _AUTHENTICATION, f"userextras/{key}", value)
        more[key] = values
    if name.startswith("system:serviceaccount:") and not groups:
        namespace = name.split(":")[2]
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    if name == ANONYMOUS.name:
        groups = groups or list(ANONYMOUS.groups)
    elif AUTHENTICATED not in groups:
        groups.append(AUTHENTICATED)
    # A token's limits go with whoever carries it.
    return User(name, tuple(dict.fromkeys(groups)), uid, tuple(sorted(more.items())), user.scopes)


def _ask(authorizer: Authorizer, user: User, name: str) -> None:
    if name.startswith("system:serviceaccount:"):
        parts = name.split(":")
        if len(parts) != 4 or not all(parts):
            raise bad_request(f"{name!r} is no service account: expected system:serviceaccount:NAMESPACE:NAME")
        _must(authorizer, user, "", "serviceaccounts", parts[3], parts[2])
    else:
        _must(authorizer, user, "", "users", name)


def _must(authorizer: Authorizer, user: User, group: str, resource: str, name: str, namespace: str = "") -> None:
    if not authorizer.allows(user, "impersonate", group, resource, namespace=namespace, name=name):
        where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
        raise failure(
            403,
            "Forbidden",
            f'{resource} "{name}" is forbidden: User "{user.name}" cannot impersonate resource "{resource}" '
            f'in API group "{group}"{where}',
            {"name": name, "group": group, "kind": resource},
        )
