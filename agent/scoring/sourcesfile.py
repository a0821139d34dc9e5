"""The file that says whom scorers may have asked in this cluster: hosts, tokens for them, programs.

    allow: ["*.example"]                     # patterns of hosts; absent: every host
    tokens: {prometheus.example: /etc/token} # pattern of a host → file with its bearer token, read at each request
    programs: {gpu-power: [/opt/gpu-power]}  # name → command line; absent: no program is run

It is this cluster's own word: what the hub asks for beyond it is refused, and said.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from hub.api.errors import UsageError
from hub.asking.access import Access

_KNOWN: Final = ("allow", "tokens", "programs")


def read_sources(path: Path | None) -> Access:
    """Raises `UsageError` naming what in the file is wrong; without one every host and no program."""
    if path is None:
        return Access()
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", field="--sources") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}", field="--sources") from error
    if not isinstance(document, dict):
        raise _wrong(path, f"found {type(document).__name__}, expected a map")
    for key in document:
        if key not in _KNOWN:
            raise _wrong(path, f"there is no {key}; known here: {', '.join(_KNOWN)}")
    allow = document.get("allow", ["*"])
    if not isinstance(allow, list) or not all(isinstance(pattern, str) for pattern in allow):
        raise _wrong(path, "allow must be a list of patterns of hosts")
    tokens = _map(path, document, "tokens")
    if not all(isinstance(file, str) for file in tokens.values()):
        raise _wrong(path, "tokens must be a map from a host to a file")
    programs = _map(path, document, "programs")
    for name, command in programs.items():
        words = isinstance(command, list) and all(isinstance(word, str) for word in command)
        if not words or not command or not command[0].startswith("/"):
            raise _wrong(path, f"programs.{name} must be a list of words, the first an absolute path")
    return Access(tuple(allow), {host: Path(file) for host, file in tokens.items()}, programs)


def _map(path: Path, document: dict[str, Any], name: str) -> dict[str, Any]:
    found = document.get(name) or {}
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise _wrong(path, f"{name} must be a map")
    return found


def _wrong(path: Path, what: str) -> UsageError:
    return UsageError(f"{path}: {what}", field="--sources")
