"""Tokens of service accounts, as Kubernetes makes them: signed JWTs that name the account, the audience and an end.

ES256 with a key of the server's own. A token is good for the logical cluster that it was made in, until it runs out or
its account (or the object that it is bound to) is gone. What has been verified once is remembered by digest.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from hub.api.errors import InvalidObjectError
from hub.apiserver.auth import AUTHENTICATED, User

ISSUER: Final = "https://kubernetes.default.svc"
_ES256_HALF: Final = 32
_REMEMBERED: Final = 4096
_MAX_TOKEN: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class ServiceToken:
    """What a token says. `bound`: (plural, name, uid) of what it goes with besides its account."""

    cluster: str
    namespace: str
    account: str
    uid: str
    audiences: tuple[str, ...]
    expires: float
    id: str
    bound: tuple[str, str, str] | None = None

    @property
    def user(self) -> User:
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{self.namespace}", AUTHENTICATED)
        extra: list[tuple[str, tuple[str, ...]]] = [("authentication.kubernetes.io/credential-id", (f"JTI={self.id}",))]
        if self.bound is not None and self.bound[0] in ("pods", "nodes"):
            one = self.bound[0][:-1]
            extra.append((f"authentication.kubernetes.io/{one}-name", (self.bound[1],)))
            extra.append((f"authentication.kubernetes.io/{one}-uid", (self.bound[2],)))
        return User(f"system:serviceaccount:{self.namespace}:{self.account}", groups, self.uid, tuple(sorted(extra)))


class ServiceTokens:
    """`directory` has the key, which is made when it is first needed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key: Any = None
        self._id = ""
        self._known: OrderedDict[bytes, ServiceToken] = OrderedDict()

    def issuer(self, cluster: str) -> str:
        return f"{ISSUER}/clusters/{cluster}" if cluster else ISSUER

    def make(self, token: ServiceToken) -> str:
        """Raises `StorageError`, `UsageError` where there is no key."""
        key, now = self._load(), int(time.time())
        about: dict[str, Any] = {
            "namespace": token.namespace,
            "serviceaccount": {"name": token.account, "uid": token.uid},
        }
        if token.bound is not None:
            plural, name, uid = token.bound
            about[plural[:-1]] = {"name": name, "uid": uid}
        claims = {
            "aud": list(token.audiences),
            "exp": int(token.expires),
            "iat": now,
            "iss": self.issuer(token.cluster),
            "jti": token.id,
            "kubernetes.io": about,
            "nbf": now,
            "sub": f"system:serviceaccount:{token.namespace}:{token.account}",
        }
        head = {"alg": "ES256", "kid": self._id}
        signed = f"{_encode(orjson.dumps(head))}.{_encode(orjson.dumps(claims))}"
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
        from cryptography.hazmat.primitives.hashes import SHA256

        r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(SHA256())))
        return f"{signed}.{_encode(r.to_bytes(_ES256_HALF, 'big') + s.to_bytes(_ES256_HALF, 'big'))}"

    def read(self, text: str) -> ServiceToken | None:
        """None for what is no token of ours, or has run out. Whether its account is still there is not looked at."""
        if len(text) > _MAX_TOKEN or text.count(".") != 2:
            return None
        digest = hashlib.sha256(text.encode("latin-1", "replace")).digest()
        found = self._known.get(digest)
        if found is None:
            found = self._verify(text)
            if found is None:
                return None
            self._known[digest] = found
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        if found.expires <= time.time():
            self._known.pop(digest, None)
            return None
        return found

    def key_set(self) -> dict[str, Any]:
        """The public key, as /openid/v1/jwks shows it."""
        numbers = self._load().public_key().public_numbers()
        x, y = (_encode(number.to_bytes(_ES256_HALF, "big")) for number in (numbers.x, numbers.y))
        key = {"use": "sig", "kty": "EC", "kid": self._id, "crv": "P-256", "alg": "ES256", "x": x, "y": y}
        return {"keys": [key]}

    def _load(self) -> Any:
        if self._key is None:
            from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

            from hub.apiserver.certificates import signing_key

            self._key = signing_key(self._directory)
            public = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            self._id = _encode(hashlib.sha256(public).digest())
        return self._key

    def _verify(self, text: str) -> ServiceToken | None:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
        from cryptography.hazmat.primitives.hashes import SHA256

        signed, _, signature = text.rpartition(".")
        try:
            head, claims = (orjson.loads(_decode(part)) for part in signed.split("."))
            raw = _decode(signature)
            if head.get("alg") != "ES256" or len(raw) != 2 * _ES256_HALF:
                return None
            r, s = (int.from_bytes(half, "big") for half in (raw[:_ES256_HALF], raw[_ES256_HALF:]))
            self._load().public_key().verify(encode_dss_signature(r, s), signed.encode(), ec.ECDSA(SHA256()))
            return self._parse(claims)
        except (InvalidSignature, ValueError, TypeError, AttributeError, KeyError, binascii.Error, InvalidObjectError):
            return None

    def _parse(self, claims: Any) -> ServiceToken | None:
        about = claims["kubernetes.io"]
        account = about["serviceaccount"]
        cluster = str(claims["iss"]).removeprefix(ISSUER).removeprefix("/clusters/")
        if claims["iss"] != self.issuer(cluster) or claims["nbf"] > time.time() + 60:
            return None
        bound = None
        for plural in ("pods", "secrets", "nodes"):
            if (reference := about.get(plural[:-1])) is not None:
                bound = (plural, str(reference["name"]), str(reference["uid"]))
        return ServiceToken(
            cluster,
            str(about["namespace"]),
            str(account["name"]),
            str(account["uid"]),
            tuple(map(str, claims["aud"])),
            float(claims["exp"]),
            str(claims["jti"]),
            bound,
        )


def new_token_id() -> str:
    return secrets.token_hex(16)


def accepts(audiences: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Which of `wanted` a token for `audiences` is good for."""
    return tuple(audience for audience in wanted if audience in audiences)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
