"""Access reviews and requests for tokens: who one is, what one may do, and a token for a service account."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from hub.api.timestamps import format_time, from_timestamp
from hub.apiserver.admit import check_type
from hub.apiserver.auth import User
from hub.apiserver.authentication import Authenticator, Identity
from hub.apiserver.authorizer import Authorizer
from hub.apiserver.invalid import FieldError, invalid, wrong
from hub.apiserver.kinds import ServedKind
from hub.apiserver.logical import LogicalCluster
from hub.apiserver.requests import Attributes, may
from hub.apiserver.service_tokens import ServiceToken, accepts, new_token_id
from hub.apiserver.status import bad_request, conflict
from hub.apiserver.written import Object

_LEAST_SECONDS: Final = 600
_MOST_SECONDS: Final = 365 * 86400
_DEFAULT_SECONDS: Final = 3600
_ONE_OF: Final = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
_BINDABLE: Final = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}


class Reviewer:
    """Answers for one logical cluster; `user` is who asks."""

    def __init__(self, cluster: LogicalCluster, user: User, authenticator: Authenticator) -> None:
        self._cluster = cluster
        self._user = user
        self._authenticator = authenticator

    def review(self, kind: ServedKind, body: Any, namespace: str | None) -> Object:
        """The review with its answer in status. Raises `RefusedError`."""
        obj = check_type(kind, body)
        if kind.kind == "SelfSubjectReview":
            obj["status"] = {"userInfo": self._user.written()}
            return obj
        spec = obj.get("spec")
        if not isinstance(spec, dict):
            raise bad_request("spec is required")
        if kind.kind == "TokenReview":
            obj["status"] = self._token(spec)
            # The token itself is not repeated.
            obj["spec"] = {key: value for key, value in spec.items() if key != "token"}
        elif kind.kind == "SelfSubjectRulesReview":
            obj["status"] = self._rules(str(spec.get("namespace") or ""))
            obj["spec"] = {}
        else:
            obj["status"] = self._access(kind, spec, namespace)
        return obj

    def request_token(self, namespace: str, name: str, body: Any, *, dry_run: bool) -> Object:
        """A TokenRequest for a service account, answered. Raises `NotFoundError`, `RefusedError`, `ConflictError`."""
        kind = self._cluster.registry.find("", "v1", "serviceaccounts")
        assert kind is not None
        account = self._cluster.get(kind, (namespace, name))
        if not isinstance(body, dict) or body.get("kind", "TokenRequest") != "TokenRequest":
            raise bad_request("the body must be a TokenRequest")
        spec = body.get("spec") or {}
        if not isinstance(spec, dict):
            raise bad_request("spec must be an object")
        tokens = self._authenticator.service_tokens
        seconds = spec.get("expirationSeconds") or _DEFAULT_SECONDS
        if not isinstance(seconds, int) or isinstance(seconds, bool):
            raise bad_request("spec.expirationSeconds must be a number")
        errors: list[FieldError] = []
        if seconds < _LEAST_SECONDS:
            errors.append(wrong("spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes"))
        if seconds > 2**32:
            errors.append(
                wrong("spec.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
            )
        if errors:
            raise invalid("authentication.k8s.io", "TokenRequest", "", errors)
        audiences = spec.get("audiences") or [tokens.issuer(self._cluster.name)]
        if not isinstance(audiences, list) or not all(isinstance(audience, str) for audience in audiences):
            raise bad_request("spec.audiences must be a list of texts")
        expires = int(time.time()) + min(seconds, _MOST_SECONDS)
        token = ServiceToken(
            self._cluster.name,
            namespace,
            name,
            account.uid,
            tuple(audiences),
            float(expires),
            new_token_id(),
            self._bound(spec.get("boundObjectRef"), namespace),
        )
        made = "" if dry_run else tokens.make(token)
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "creationTimestamp": format_time(from_timestamp(time.time())),
            },
            "spec": {**spec, "audiences": audiences, "expirationSeconds": min(seconds, _MOST_SECONDS)},
            "status": {"token": made, "expirationTimestamp": format_time(from_timestamp(expires))},
        }

    def _bound(self, reference: Any, namespace: str) -> tuple[str, str, str] | None:
        if not reference:
            return None
        if not isinstance(reference, Mapping) or reference.get("kind") not in _BINDABLE:
            found = reference if isinstance(reference, Mapping) else {}
            group, _, version = str(found.get("apiVersion") or "").rpartition("/")
            raise bad_request(f"cannot bind token to object of type {group}/{version}, Kind={found.get('kind')}")
        plural = _BINDABLE[str(reference["kind"])]
        kind = self._cluster.registry.find("", "v1", plural)
        assert kind is not None
        name = str(reference.get("name") or "")
        record = self._cluster.get(kind, (namespace if kind.namespaced else "", name))
        if reference.get("uid") not in (None, "", record.uid):
            why = f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record"
            raise conflict("", plural, name, why)
        return plural, name, record.uid

    def _token(self, spec: Mapping[str, Any]) -> Object:
        token, audiences = spec.get("token"), spec.get("audiences") or []
        if not isinstance(token, str) or not token:
            raise bad_request("spec.token is required")
        if not isinstance(audiences, list):
            raise bad_request("spec.audiences must be a list of texts")
        identity = self._for_audiences(token, [str(audience) for audience in audiences])
        if identity is None:
            return {"user": {}, "error": "invalid bearer token"}
        found, good_for = identity
        status: Object = {"authenticated": True, "user": found.user.written()}
        if good_for:
            status["audiences"] = list(good_for)
        return status

    def _for_audiences(self, token: str, audiences: list[str]) -> tuple[Identity, tuple[str, ...]] | None:
        name = self._cluster.name
        issuer = self._authenticator.service_tokens.issuer(name)
        wanted = audiences or [issuer]
        identity = self._authenticator.of_token(token, name, wanted)
        if identity is None:
            return None
        if identity.token is None:
            # Tokens of the file are for this server.
            good = accepts([issuer], wanted)
        else:
            good = accepts(identity.token.audiences, wanted)
        return (identity, good) if good else None

    def _rules(self, namespace: str) -> Object:
        if not namespace:
            raise bad_request("no namespace on request")
        held = self._authorizer.rules(self._user, namespace)
        return {
            "resourceRules": [rule.written() for rule in held if not rule.urls],
            "nonResourceRules": [rule.written() for rule in held if rule.urls],
            "incomplete": False,
        }

    @property
    def _authorizer(self) -> Authorizer:
        found = self._cluster.authorizer
        assert found is not None
        return found

    def _why(self, user: User, asked: Attributes) -> str:
        about = (asked.verb, asked.group, asked.resource, asked.namespace, asked.name, asked.path)
        return self._authorizer.why(user, *about)

    def _access(self, kind: ServedKind, spec: Mapping[str, Any], namespace: str | None) -> Object:
        user = self._user if kind.kind == "SelfSubjectAccessReview" else _user_of(spec)
        asked, errors = _asked(spec)
        if user is None:
            errors.append(wrong("spec.user", "", "at least one of user or group must be specified"))
        if kind.namespaced and asked is not None and asked.namespace != namespace:
            detail = "must match metadata.namespace"
            errors.append(wrong("spec.resourceAttributes.namespace", asked.namespace, detail))
        if errors or asked is None or user is None:
            raise invalid(kind.group, "", "", errors)
        if not may(self._authorizer, user, asked):
            return {"allowed": False}
        if self._authorizer.is_master(user):
            return {"allowed": True}
        return {"allowed": True, "reason": f"RBAC: allowed by {self._why(user, asked)}"}


def _user_of(spec: Mapping[str, Any]) -> User | None:
    name, groups, extra = str(spec.get("user") or ""), spec.get("groups") or [], spec.get("extra") or {}
    if not isinstance(groups, list) or not isinstance(extra, Mapping):
        raise bad_request("spec.groups must be a list, spec.extra an object")
    if not name and not groups:
        return None
    return User(name, tuple(map(str, groups)), str(spec.get("uid") or ""))


def _asked(spec: Mapping[str, Any]) -> tuple[Attributes | None, list[FieldError]]:
    resource, other = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and other is not None:
        shown = {"Path": str(other.get("path") or ""), "Verb": str(other.get("verb") or "")}
        return None, [wrong("spec", shown, _ONE_OF)]
    if isinstance(resource, Mapping):
        text = {name: str(resource.get(name) or "") for name in ("verb", "group", "version", "namespace", "name")}
        plural, below = str(resource.get("resource") or ""), str(resource.get("subresource") or "")
        asked = Attributes(
            text["verb"],
            group=text["group"],
            version=text["version"],
            resource=f"{plural}/{below}" if below else plural or "*",
            namespace=text["namespace"],
            name=text["name"],
        )
        return asked, []
    if isinstance(other, Mapping):
        return Attributes(str(other.get("verb") or ""), str(other.get("path") or "")), []
    return None, [wrong("spec", None, _ONE_OF)]
