"""Where a control plane's binaries are: as Kubernetes' own test tools look for them, then in our cache.

In this order, each binary by itself: `TEST_ASSET_KUBE_APISERVER` (and so on), the folder `KUBEBUILDER_ASSETS`, PATH,
the cache that e2e/building.py fills. What is found outside the cache counts only if its version fits the one asked for;
what does not fit is told, not used. Nothing is built here.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from e2e import versions
from e2e.pin import module_of

NAMES: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kwok")
_VERSION: Final[Mapping[str, tuple[str, ...]]] = {"kubectl": ("version", "--client")}
_NUMBER = re.compile(r"v?(\d+\.\d+\.\d+)")
# The first whose flags and storage are those that we use.
_OLDEST: Final[Mapping[str, tuple[int, int]]] = {"etcd": (3, 5), "kwok": (0, 7)}


@dataclass(frozen=True, slots=True)
class Binaries:
    """Absolute paths by name, for one Kubernetes `version` (`1.37.2`)."""

    version: str
    paths: Mapping[str, Path]

    def __getitem__(self, name: str) -> str:
        return str(self.paths[name])

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(name for name in NAMES if name not in self.paths)


def find(version: str, environment: Mapping[str, str] | None = None) -> tuple[Binaries, list[str]]:
    """What there is for `version`, complete or not, and in words what was found and does not fit."""
    env = os.environ if environment is None else environment
    built = cached(version, env)
    paths: dict[str, Path] = {}
    unfit: list[str] = []
    for name in NAMES:
        for path, source in _offered(name, env):
            found = version_of(name, path)
            if found and fits(name, found, version):
                paths[name] = path
                break
            unfit.append(f"{path} ({source}) is {found or 'of an unknown version'}")
        else:
            if (built / name).is_file():
                paths[name] = built / name
    return Binaries(version, paths), unfit


def cached(version: str, environment: Mapping[str, str] | None = None) -> Path:
    """The folder that holds the built binaries, or will: by version, and by all that goes into the build."""
    env = os.environ if environment is None else environment
    root = Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute()
    return root / "quarterdeck" / "e2e" / f"v{version}-{_digest(version)}"


def ldflags(version: str) -> str:
    """Unstamped, the server would call itself v0.0.0, and clients that read versions would stumble."""
    major, minor, _ = version.split(".")
    stamps = ["-s", "-w"]
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        for key, value in (("gitVersion", f"v{version}"), ("gitMajor", major), ("gitMinor", minor)):
            stamps += ["-X", f"{package}.{key}={value}"]
    stamps += ["-X", f"sigs.k8s.io/kwok/pkg/consts.Version=v{versions.KWOK}"]
    return " ".join(stamps)


def go_version() -> str:
    """`go1.26.8`, or nothing where there is no Go."""
    go = shutil.which("go")
    if go is None:
        return ""
    answer = subprocess.run(
        [go, "env", "GOVERSION"], capture_output=True, text=True, env={**os.environ, "GOTOOLCHAIN": "local"}
    )
    return answer.stdout.strip()


@cache
def _digest(version: str) -> str:
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum"):
        digest.update((module_of(version) / name).read_bytes())
    digest.update(f"{ldflags(version)}\0{go_version()}".encode())
    return digest.hexdigest()[:12]


def _offered(name: str, env: Mapping[str, str]) -> list[tuple[Path, str]]:
    """Candidates outside the cache, first choice first."""
    candidates: list[tuple[Path, str]] = []
    variable = "TEST_ASSET_" + name.upper().replace("-", "_")
    if env.get(variable):
        candidates.append((Path(env[variable]).absolute(), variable))
    if env.get("KUBEBUILDER_ASSETS"):
        candidates.append((Path(env["KUBEBUILDER_ASSETS"]).absolute() / name, "KUBEBUILDER_ASSETS"))
    if found := shutil.which(name, path=env.get("PATH", "")):
        candidates.append((Path(found).absolute(), "PATH"))
    return [(path, source) for path, source in candidates if path.is_file()]


def version_of(name: str, path: Path) -> str:
    """`1.37.2`, asked of the binary itself; nothing where it does not say."""
    try:
        answer = subprocess.run(
            [str(path), *_VERSION.get(name, ("--version",))], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = _NUMBER.search(answer.stdout)
    return found[1] if found else ""


def fits(name: str, found: str, version: str) -> bool:
    """Kubernetes' own: of the same minor. kubectl: one minor apart is supported. The others: not too old."""
    major, minor = (int(part) for part in found.split(".")[:2])
    if name in _OLDEST:
        return (major, minor) >= _OLDEST[name]
    wanted_major, wanted_minor = (int(part) for part in version.split(".")[:2])
    apart = 1 if name == "kubectl" else 0
    return major == wanted_major and abs(minor - wanted_minor) <= apart
