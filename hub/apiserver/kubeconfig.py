"""A kubeconfig for one server and one user: the only place where a token is written for people."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Final

from hub.api.errors import StorageError

# What YAML takes for text without quotes, whatever its version: it has a letter and is no word for true, false or null.
_PLAIN: Final = re.compile(r"(?=.*[A-Za-z])(?!(?i:y|n|yes|no|on|off|true|false|null)$)[A-Za-z0-9_./:-]+")


def write_kubeconfig(
    path: Path, url: str, token: str, *, user: str, ca: bytes = b"", namespace: str = "default"
) -> None:
    """Writes `path`, readable by its owner only and never seen half written. Raises `StorageError`.

    `ca` is the PEM of the authority to trust, for HTTPS; over plain HTTP kubectl sends no token.
    """
    cluster = {"server": url}
    if ca:
        cluster["certificate-authority-data"] = base64.b64encode(ca).decode()
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "quarterdeck",
        "clusters": [{"name": "quarterdeck", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [
            {"name": "quarterdeck", "context": {"cluster": "quarterdeck", "user": user, "namespace": namespace}}
        ],
    }
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(_yaml(document))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError(
            f"cannot write {path}: {error.strerror}", hint="Give a place that this user may write to."
        ) from error


def _yaml(value: object, indent: int = 0) -> str:
    """Block YAML of mappings, lists and texts; importing a YAML library takes longer than everything else here."""
    pad = "  " * indent
    if isinstance(value, dict):
        lines = []
        for key, member in value.items():
            if isinstance(member, dict | list):
                lines.append(f"{pad}{key}:\n{_yaml(member, indent + isinstance(member, dict))}")
            else:
                lines.append(f"{pad}{key}: {_scalar(member)}\n")
        return "".join(lines)
    if isinstance(value, list):
        return "".join(f"{pad}- {_yaml(member, indent + 1).lstrip(' ')}" for member in value)
    return f"{pad}{_scalar(value)}\n"


def _scalar(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
