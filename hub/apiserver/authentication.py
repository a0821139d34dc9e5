"""Who a request is from: a bearer token of the file, a service account's token, or a client's certificate.

What has been proven on a connection is kept with it, and asked again only for what may have changed: the file of
tokens, the time, whether a service account is still there. A header that proves nothing is refused even where the
certificate would do. What a user may do is not decided here.
"""

from __future__ import annotations

import math
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hub.apiserver.auth import AUTHENTICATED, Tokens, User
from hub.apiserver.certificate_signing import CLUSTER_UNIT
from hub.apiserver.http import Exchange
from hub.apiserver.logical import LogicalCluster
from hub.apiserver.service_tokens import ServiceToken, ServiceTokens, accepts
from hub.apiserver.status import unauthorized

ANYWHERE: Final = "*"


@dataclass(frozen=True, slots=True)
class Identity:
    """`cluster`: the logical cluster it is good for, or `ANYWHERE`. `token`: for service accounts."""

    user: User
    cluster: str = ANYWHERE
    expires: float = math.inf
    token: ServiceToken | None = None


class Authenticator:
    """`clusters`: the logical clusters that are open, for service accounts."""

    def __init__(
        self, tokens: Tokens, service_tokens: ServiceTokens, clusters: Callable[[str], LogicalCluster | None]
    ) -> None:
        self.tokens = tokens
        self.service_tokens = service_tokens
        self._clusters = clusters

    def user(self, exchange: Exchange, cluster: str) -> User:
        """Raises `UnauthorizedError`."""
        authorization = exchange.headers.get(b"authorization", "")
        connection, stamp = exchange.connection, self.tokens.stamp
        known = connection.user
        if known is not None and known[0] == authorization and known[1] == stamp:
            identity: Identity = known[2]
        else:
            found = self._identify(authorization, connection.certificate)
            if found is None:
                raise unauthorized()
            identity = found
            connection.user = (authorization, self.tokens.stamp, identity)
        if identity.cluster not in (ANYWHERE, cluster) or (
            identity.expires != math.inf and identity.expires <= time.time()
        ):
            raise unauthorized()
        if identity.token is not None and not self._is_there(identity.token):
            raise unauthorized()
        return identity.user

    def of_token(self, token: str, cluster: str, audiences: Sequence[str]) -> Identity | None:
        """Whose `token` is, as a TokenReview in `cluster` asks for one of `audiences`."""
        identity = self._of_token(token, audiences)
        if identity is None or identity.cluster not in (ANYWHERE, cluster):
            return None
        if identity.token is not None and not self._is_there(identity.token):
            return None
        return identity

    def _identify(self, authorization: str, certificate: Callable[[], Mapping[str, Any] | None]) -> Identity | None:
        if authorization:
            scheme, _, token = authorization.partition(" ")
            token = token.strip()
            return self._of_token(token) if scheme.lower() == "bearer" and token else None
        found = certificate()
        return _of_certificate(found) if found else None

    def _of_token(self, token: str, audiences: Sequence[str] = ()) -> Identity | None:
        entry = self.tokens.of_token(token)
        if entry is not None:
            return Identity(entry.user, expires=entry.expires)
        read = self.service_tokens.read(token)
        if read is None:
            return None
        # A token for somebody else is no token for us.
        if not accepts(read.audiences, audiences or (self.service_tokens.issuer(read.cluster),)):
            return None
        return Identity(read.user, read.cluster, read.expires, read)

    def _is_there(self, token: ServiceToken) -> bool:
        cluster = self._clusters(token.cluster)
        if cluster is None:
            return False
        bound = [("serviceaccounts", token.namespace, token.account, token.uid)]
        if token.bound is not None:
            plural, name, uid = token.bound
            bound.append((plural, "" if plural == "nodes" else token.namespace, name, uid))
        for plural, namespace, name, uid in bound:
            record = cluster.store.collection(cluster.name, "", plural).records.get((namespace, name))
            if record is None or record.uid != uid:
                return False
        return True


def _of_certificate(certificate: Mapping[str, Any]) -> Identity | None:
    """`certificate` as `ssl` shows one that it has verified: CN is the user, each O a group."""
    parts: dict[str, list[str]] = {}
    for relative in certificate.get("subject", ()):
        for name, value in relative:
            parts.setdefault(name, []).append(value)
    names = parts.get("commonName", [])
    if not names or not names[0]:
        return None
    groups = tuple(dict.fromkeys([*parts.get("organizationName", []), AUTHENTICATED]))
    units = [unit for unit in parts.get("organizationalUnitName", []) if unit.startswith(CLUSTER_UNIT)]
    cluster = units[0].removeprefix(CLUSTER_UNIT) if units else ""
    expires = float(ssl.cert_time_to_seconds(str(certificate["notAfter"])))
    # What was signed at the root is an administrator's doing, and good everywhere.
    return Identity(User(names[0], groups), cluster or ANYWHERE, expires)
