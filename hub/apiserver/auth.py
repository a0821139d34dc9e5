"""Who a request is from: bearer tokens in a file, read again when it changes.

The file maps tokens to users: `{TOKEN: {"user": NAME, "groups": […]}}`. Tokens are kept and looked up as digests, so
that how long a refusal takes says nothing about them. What a user may do is not decided here.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hub.api.errors import StorageError

_CHECK_SECONDS: Final = 1.0
_ADMIN_GROUPS: Final = ("system:masters",)
_AUTHENTICATED: Final = "system:authenticated"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: tuple[str, ...]


ANONYMOUS: Final = User("system:anonymous", ("system:unauthenticated",))
Entry = tuple[bytes, User]


class Tokens:
    """`stamp` differs after each change of the file, for whoever keeps an answer."""

    def __init__(self, path: Path | None, extra: Mapping[str, User] | None = None) -> None:
        self.stamp = 0
        self._path = path
        self._extra = {_digest(token): (token.encode(), user) for token, user in (extra or {}).items()}
        self._entries: dict[bytes, Entry] = dict(self._extra)
        self._seen: object = None
        self._next_check = 0.0
        self.refresh(force=True)

    def user(self, authorization: str) -> User | None:
        """Of an Authorization header; None when it proves nothing."""
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            return None
        return self.of_token(token)

    def of_token(self, token: str) -> User | None:
        self.refresh()
        digest = _digest(token)
        entry = self._entries.get(digest)
        if entry is None:
            # It may have been added a moment ago.
            self.refresh(force=True)
            entry = self._entries.get(digest)
        if entry is None or not hmac.compare_digest(entry[0], token.encode("latin-1", "replace")):
            return None
        return entry[1]

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
    entries: dict[bytes, Entry] = {}
    for token, owner in document.items():
        user = owner.get("user") if isinstance(owner, dict) else None
        groups = owner.get("groups", []) if isinstance(owner, dict) else None
        if not token or not isinstance(user, str) or not user or not isinstance(groups, list):
            raise ValueError("expected each token to map to {user, groups}")
        named = tuple(dict.fromkeys([*map(str, groups), _AUTHENTICATED]))
        entries[_digest(token)] = (token.encode(), User(user, named))
    return entries
