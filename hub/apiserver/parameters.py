"""Parameters of a write, and what a client is warned of: options from a query, warnings into headers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from hub.api.errors import ApiError
from hub.apiserver.auth import User
from hub.apiserver.http import Headers
from hub.apiserver.negotiation import flag
from hub.apiserver.status import bad_request, failure
from hub.apiserver.written import FieldValidation, Options

_VALIDATIONS: Final[Mapping[str, FieldValidation]] = {
    "": "Warn",
    "Strict": "Strict",
    "Warn": "Warn",
    "Ignore": "Ignore",
}
_MAX_MANAGER: Final = 128
_WARNING_BYTES: Final = 4096


def write_options(query: Mapping[str, str], user_agent: str, user: User | None = None) -> Options:
    """Raises `RefusedError` (400) for values that mean nothing."""
    dry_run = query.get("dryRun", "")
    if dry_run not in ("", "All"):
        raise bad_request(f"dryRun: found {dry_run!r}; allowed: All")
    validation = _VALIDATIONS.get(query.get("fieldValidation", ""))
    if validation is None:
        raise bad_request(f"fieldValidation: found {query['fieldValidation']!r}; allowed: Ignore, Warn, Strict")
    manager = query.get("fieldManager", "")
    if len(manager) > _MAX_MANAGER or not manager.isprintable():
        raise bad_request(f"fieldManager: at most {_MAX_MANAGER} printable characters")
    if not manager:
        # Whoever does not say who it is, is its program's name.
        manager = user_agent.partition("/")[0][:_MAX_MANAGER] or "unknown"
    return Options(
        dry_run=bool(dry_run),
        field_validation=validation,
        manager=manager,
        force=flag(query, "force"),
        user=user,
    )


def forbidden_parameter(name: str, detail: str) -> ApiError:
    return failure(422, "Invalid", f"{name}: Forbidden: {detail}")


def warning_headers(texts: Iterable[str]) -> Headers:
    """As Warning headers, once each; what is beyond what clients take in headers is counted only."""
    headers: list[tuple[str, str]] = []
    room = _WARNING_BYTES
    distinct = list(dict.fromkeys(texts))
    for position, text in enumerate(distinct):
        value = f"299 - {_quoted(text)}"
        room -= len(value)
        if room < 0:
            headers.append(("Warning", f'299 - "{len(distinct) - position} more warnings"'))
            break
        headers.append(("Warning", value))
    return tuple(headers)


def _quoted(text: str) -> str:
    plain = text if text.isprintable() else "".join(letter if letter.isprintable() else " " for letter in text)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
