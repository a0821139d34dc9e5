"""Writes the Go modules that the control planes are built from: `python -m e2e.pin`, or `make e2e-pin`.

One module a Kubernetes version, under e2e/binaries/vMINOR, committed with its go.sum. Kubernetes cannot be required
like another module: its own go.mod replaces its staging modules by folders, and what a dependency replaces does not
count. So the list of them is read from Kubernetes' go.mod and each is pinned to the version of the same number. The
etcd is the one that Kubernetes names.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from e2e import versions

MODULES: Final = Path(__file__).parent / "binaries"
KUBERNETES_TOOLS: Final = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")

_REPLACED = re.compile(r"^\s*(k8s\.io/\S+) => \./staging/src/", re.MULTILINE)
_ETCD = re.compile(r"^\s*go\.etcd\.io/etcd/server/v3 (v\S+)", re.MULTILINE)
_GO = re.compile(r"^go (\S+)$", re.MULTILINE)
_GODEBUG = re.compile(r"^godebug (default=\S+)$", re.MULTILINE)


def module_of(version: str) -> Path:
    """The folder of the Go module for Kubernetes `version`."""
    return MODULES / f"v{versions.minor(version)}"


def go_mod(version: str, kubernetes: str) -> str:
    """The go.mod that builds Kubernetes `version` (`1.37.2`), whose own go.mod is `kubernetes`.

    Raises ValueError where that file does not look as it always has.
    """
    staging = "v0." + version.split(".", 1)[1]
    replaced = sorted(set(_REPLACED.findall(kubernetes)))
    etcd, go, godebug = _ETCD.search(kubernetes), _GO.search(kubernetes), _GODEBUG.search(kubernetes)
    if not replaced or etcd is None or go is None:
        raise ValueError(f"the go.mod of Kubernetes {version} names no staging modules, no etcd or no Go version")
    tools = [
        "go.etcd.io/etcd/server/v3",
        *(f"k8s.io/kubernetes/cmd/{tool}" for tool in KUBERNETES_TOOLS),
        "sigs.k8s.io/kwok/cmd/kwok",
    ]
    lines = [
        "// Written by `make e2e-pin` from e2e/versions.py.",
        f"module quarterdeck.dev/e2e/binaries/v{versions.minor(version)}",
        "",
        f"go {go[1]}",
        "",
        # Of a main module these count, of a dependency they do not.
        *((f"godebug {godebug[1]}", "") if godebug else ()),
        "tool (",
        *(f"\t{tool}" for tool in tools),
        ")",
        "",
        "require (",
        f"\tgo.etcd.io/etcd/server/v3 {etcd[1]}",
        f"\tk8s.io/kubernetes v{version}",
        f"\tsigs.k8s.io/kwok v{versions.KWOK}",
        ")",
        "",
        "replace (",
        *(f"\t{module} => {module} {staging}" for module in replaced),
        ")",
        "",
    ]
    return "\n".join(lines)


def pin(version: str) -> Path:
    """Writes the module of `version` and has Go complete it. Needs Go and its module proxy."""
    folder = module_of(version)
    folder.mkdir(parents=True, exist_ok=True)
    found = _go(["mod", "download", "-json", f"k8s.io/kubernetes@v{version}"], folder.parent)
    (folder / "go.mod").write_text(go_mod(version, Path(json.loads(found)["GoMod"]).read_text()))
    (folder / "go.sum").unlink(missing_ok=True)
    _go(["mod", "tidy"], folder)
    return folder


def _go(arguments: list[str], folder: Path) -> str:
    return subprocess.run(["go", *arguments], cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> int:
    for version in versions.KUBERNETES:
        print(f"Kubernetes {version}: {pin(version)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
