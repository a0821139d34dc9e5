"""The CRDs that come with this installation, from a checkout and from an installed wheel alike.

They are files, so that who serves a kind needs none of the models they were made from (hub/api/crd.py): those take
10 MiB and 200 ms.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from hub.api.resource import Resource


@cache
def _directory() -> Path:
    here = Path(__file__).resolve().parent
    packaged = here / "crds"
    return packaged if packaged.is_dir() else here.parents[1] / "manifests" / "crds"


def file_name(group: str, plural: str) -> str:
    return f"{group}_{plural}.yaml"


def installed_crds() -> list[dict[str, Any]]:
    """All of them, by file name; read anew at each call, so callers may change them."""
    files = sorted(_directory().glob("*.yaml"))
    if not files:
        raise FileNotFoundError(
            f"no CRDs in {_directory()}: this installation is incomplete; install quarterdeck again"
        )
    return [_read(file) for file in files]


def installed_crd(resource: Resource) -> dict[str, Any]:
    """That of one of our kinds; the caller's to change. Raises `FileNotFoundError` for any other."""
    return _read(_directory() / file_name(resource.group, resource.plural))


def _read(file: Path) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = yaml.load(file.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return found
