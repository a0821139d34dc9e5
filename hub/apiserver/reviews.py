"""Access reviews: who one is, and what one may do. Everybody who is known may do everything here, and is told so.

Authorization comes with a later release; these answers are what clients need to go on.
"""

from __future__ import annotations

from typing import Any

from hub.apiserver.admit import check_type
from hub.apiserver.auth import Tokens, User
from hub.apiserver.kinds import ServedKind
from hub.apiserver.status import bad_request
from hub.apiserver.written import Object

_EVERYTHING: Object = {
    "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    "incomplete": False,
}


def review(kind: ServedKind, body: Any, user: User, tokens: Tokens) -> Object:
    """The review with its answer in status. Raises `RefusedError` (400)."""
    obj = check_type(kind, body)
    obj["status"] = _status(kind, obj, user, tokens)
    return obj


def _status(kind: ServedKind, obj: Object, user: User, tokens: Tokens) -> Object:
    if kind.kind == "SelfSubjectReview":
        return {"userInfo": _info(user)}
    if kind.kind == "SelfSubjectRulesReview":
        return _EVERYTHING
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        raise bad_request("spec is required")
    if kind.kind == "TokenReview":
        found = tokens.of_token(str(spec.get("token") or ""))
        # The token itself is not repeated.
        obj["spec"] = {key: value for key, value in spec.items() if key != "token"}
        return {"authenticated": True, "user": _info(found)} if found is not None else {"authenticated": False}
    return {"allowed": True, "reason": "everybody who is known may do everything on this server"}


def _info(user: User) -> Object:
    return {"username": user.name, "groups": list(user.groups)}
