"""Whom the hub, or an agent, may ask: hosts by pattern, programs by name, and which token goes to which host.

It is the operator's word, from a configuration file, and goes before whatever objects of the API say. Tokens are read
from their files at every request, so that rotating one needs no restart; they are sent to the hosts they are for, and
never shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import urlsplit

from hub.api.errors import QuarterdeckError


class SourceError(QuarterdeckError):
    """A source answered, but nothing that can be used, or it may not be asked."""


@dataclass(frozen=True, slots=True)
class Access:
    """`allow`: patterns of hosts that may be asked. `tokens`: pattern of a host → file with its bearer token.
    `programs`: name → the command that it stands for; no other program is run."""

    allow: tuple[str, ...] = ("*",)
    tokens: Mapping[str, Path] = field(default_factory=dict)
    programs: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def check(self, url: str) -> None:
        """Raises `SourceError` for a host that may not be asked."""
        host = urlsplit(url).hostname or ""
        if not any(fnmatchcase(host, pattern) for pattern in self.allow):
            allowed = ", ".join(self.allow) or "none"
            raise SourceError(f"may not ask {host}: sources.allow in the configuration has {allowed}")

    def token(self, url: str) -> str:
        """Empty: there is none for that host. Raises `SourceError`."""
        host = urlsplit(url).hostname or ""
        for pattern, path in sorted(self.tokens.items()):
            if fnmatchcase(host, pattern):
                try:
                    return path.read_text(encoding="utf-8").strip()
                except OSError as error:
                    raise SourceError(f"cannot read the token for {host}: {error.strerror}") from error
        return ""

    def command(self, program: str) -> Sequence[str]:
        """Raises `SourceError` for a program that is not in the configuration."""
        found = self.programs.get(program)
        if not found:
            known = ", ".join(sorted(self.programs)) or "none"
            raise SourceError(f"may not run {program}: sources.programs in the configuration has {known}")
        return found
