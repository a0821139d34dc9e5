"""The fleet file: which sites `up` starts, and what hardware each declares. Only the list is read here; a site's own
entry is the agent's to judge.

apiVersion: fleet.quarterdeck.dev/v1alpha1
kind: Fleet
sites:
- name: edge-1
  runtime: process          # or simulated: durations and exit codes by annotation
  prices: {gpuHour: {A100: "1.10"}, cpuHour: "0.03"}
  nodes:
  - {count: 2, cpu: 4, memory: 16Gi, gpu: {model: A100, count: 2, memory: 40Gi}}
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

from hub.api.errors import UsageError

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def read_fleet(path: Path) -> list[dict[str, Any]]:
    """The site entries, in file order. Raises `UsageError` naming file and field."""
    document = _read(path)
    if not isinstance(document, dict) or document.get("kind") != "Fleet":
        raise UsageError(f"{path} is not a fleet file: it must say `kind: Fleet`", field="--fleet")
    if unknown := sorted(document.keys() - {"apiVersion", "kind", "metadata", "sites"}):
        raise UsageError(f"{path}: there is no such field; known are apiVersion, kind, sites", field=str(unknown[0]))
    sites = document.get("sites")
    if not isinstance(sites, list) or not sites:
        raise UsageError(f"{path}: `sites` must be a list with at least one site", field="sites")
    seen: set[str] = set()
    for number, site in enumerate(sites):
        name = site.get("name") if isinstance(site, dict) else None
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} is not a cluster name: lower-case letters, digits and '-', at most 63",
                field=f"sites[{number}].name",
            )
        if name in seen:
            raise UsageError(f"{name} is there twice", field=f"sites[{number}].name")
        seen.add(name)
    return sites


def remembered_sites(path: Path) -> list[dict[str, Any]] | None:
    """The sites of the last start on the same data; None when there was none, or the file says nothing readable."""
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    named = isinstance(found, list) and all(
        isinstance(site, dict) and isinstance(site.get("name"), str) for site in found
    )
    return found if named and found else None


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text in UTF-8", field="--fleet") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", field="--fleet") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}", field="--fleet") from error


def default_sites(count: int) -> list[dict[str, Any]]:
    """One site: this machine as it is. Several: its cores shared out, which makes them declared ones."""
    if count == 1:
        return [{"name": "local", "runtime": "process"}]
    cores = max(1, (os.cpu_count() or 1) // count)
    return [
        {"name": f"site-{number}", "runtime": "process", "nodes": [{"count": 1, "cpu": cores, "memory": "2Gi"}]}
        for number in range(1, count + 1)
    ]
