"""Who a request is from: bearer tokens in a file, read again when it changes.

The file maps tokens to users: `{TOKEN: {"user": NAME, "groups": […], "uid": …, "expires": TIME, "scopes": […]}}`, the
last three if wanted: `expires` is RFC 3339, a scope `role:NAME` or `role:NAME@NAMESPACE` (no more than what that
ClusterRole allows). Tokens are kept and looked up as digests, so that how long a refusal takes says nothing about them.
What a user may do is not decided here.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import math
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hub.api.errors import StorageError
from hub.api.timestamps import parse_time

_CHECK_SECONDS: Final = 1.0
MASTERS: Final = "system:masters"
AUTHENTICATED: Final = "system:authenticated"
_ADMIN_GROUPS: Final = (MASTERS,)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class User:
    """`extra`: what else is known, by sorted key. `scopes`: what the token is limited to, see authorizer.py."""

    name: str
    groups: tuple[str, ...]
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()
    scopes: tuple[str, ...] = ()

    def written(self) -> dict[str, Any]:
        """As reviews, requests for certificates and webhooks have it."""
        result: dict[str, Any] = {"username": self.name}
        if self.uid:
            result["uid"] = self.uid
        if self.groups:
            result["groups"] = list(self.groups)
        if self.extra:
            result["extra"] = {key: list(values) for key, values in self.extra}
        return result


ANONYMOUS: Final = User("system:anonymous", ("system:unauthenticated",))


@dataclass(frozen=True, slots=True)
class Entry:
    """`expires` is in seconds since the epoch."""

    token: bytes
    user: User
    expires: float = math.inf


class Tokens:
    """`stamp` differs after each change of the file, for whoever keeps an answer."""

    def __init__(self, path: Path | None, extra: Mapping[str, User] | None = None) -> None:
        self.stamp = 0
        self._path = path
        self._extra = {_digest(token): Entry(token.encode(), user) for token, user in (extra or {}).items()}
        self._entries: dict[bytes, Entry] = dict(self._extra)
        self._seen: object = None
        self._next_check = 0.0
        self.refresh(force=True)

    def of_token(self, token: str) -> Entry | None:
        """None for a token that is not there, or has run out."""
        self.refresh()
        digest = _digest(token)
        entry = self._entries.get(digest)
        if entry is None:
            # It may have been added a moment ago.
            self.refresh(force=True)
            entry = self._entries.get(digest)
        if entry is None or not hmac.compare_digest(entry.token, token.encode("latin-1", "replace")):
            return None
        return entry if entry.expires > time.time() else None

    def refresh(self, *, force: bool = False) -> None:
        """Reads the file again if it is due and changed. A file that cannot be read leaves what was."""
        now = time.monotonic()
        if self._path is None or (not force and now < self._next_check):
            return
        self._next_check = now + _CHECK_SECONDS
        try:
            stat = self._path.stat()
            seen: object = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen == self._seen:
                return
            entries = _read(self._path)
        except FileNotFoundError:
            seen, entries = None, {}
            if self._seen is None:
                return
        except (OSError, ValueError) as error:
            _log.warning("the tokens in %s cannot be read (the last ones stay): %s", self._path, error)
            return
        self._seen = seen
        self._entries = {**entries, **self._extra}
        self.stamp += 1


def make_admin_token(path: Path) -> str:
    """Writes a token file, readable by its owner only, with one administrator. Returns the token."""
    token = secrets.token_urlsafe(32)
    text = json.dumps({token: {"user": "admin", "groups": list(_ADMIN_GROUPS)}}, indent=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}", hint="Name a token file with --tokens.") from error
    return token


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("latin-1", "replace")).digest()


def _read(path: Path) -> dict[bytes, Entry]:
    document = json.loads(path.read_bytes())
    if not isinstance(document, dict):
        raise ValueError("expected an object of tokens")
    return dict(_entry(token, owner) for token, owner in document.items())


def _entry(token: str, owner: Any) -> tuple[bytes, Entry]:
    owner = owner if isinstance(owner, dict) else {}
    user, groups, scopes = owner.get("user"), owner.get("groups", []), owner.get("scopes", [])
    if (
        not token
        or not isinstance(user, str)
        or not user
        or not isinstance(groups, list)
        or not isinstance(scopes, list)
    ):
        raise ValueError("expected each token to map to {user, groups}")
    if any(not str(scope).startswith("role:") for scope in scopes):
        # A limit that is not understood is no reason to give more.
        raise ValueError(f"scopes of {user}: expected role:NAME or role:NAME@NAMESPACE")
    expires = math.inf
    if (text := owner.get("expires")) is not None:
        expires = parse_time(str(text)).timestamp()
    named = tuple(dict.fromkeys([*map(str, groups), AUTHENTICATED]))
    scoped = tuple(map(str, scopes))
    return _digest(token), Entry(token.encode(), User(user, named, str(owner.get("uid") or ""), scopes=scoped), expires)
