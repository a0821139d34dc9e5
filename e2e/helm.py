"""The helm that charts are rendered with: on the PATH, else built once from its Go module by `python -m e2e.helm`.

The binary is kept like those of control planes (e2e/building.py), keyed by its module and Go. Where there is neither
helm nor Go, whoever needs it says so and goes on without.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from e2e.building import SKIPPED, CannotBuildError
from e2e.finding import go_version

_MODULE: Final = Path(__file__).resolve().parent / "binaries" / "helm"


def cached() -> Path:
    """Where the built one is, or will be."""
    digest = hashlib.sha256(go_version().encode())
    for name in ("go.mod", "go.sum"):
        digest.update((_MODULE / name).read_bytes())
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute()
    return root / "quarterdeck" / "e2e" / f"helm-{digest.hexdigest()[:12]}" / "helm"


def found() -> Path | None:
    """One that needs no building."""
    on_path = shutil.which("helm")
    if on_path is not None:
        return Path(on_path)
    built = cached()
    return built if built.is_file() else None


def helm() -> Path:
    """Takes some three minutes the first time. Raises CannotBuildError."""
    there = found()
    if there is not None:
        return there
    if not go_version():
        raise CannotBuildError("no helm here, and no Go to build it: install either")
    target = cached()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as directory:
        made = Path(directory, "helm")
        command = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(made), "helm.sh/helm/v3/cmd/helm"]
        environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false"}
        done = subprocess.run(command, cwd=_MODULE, env=environment, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise CannotBuildError(f"helm cannot be built: {' '.join(done.stderr.split())[-300:]}")
        os.replace(made, target)
    return target


def main() -> int:
    try:
        print(f"helm: {helm()}")
    except CannotBuildError as error:
        print(f"helm: skipped: {error}")
        return SKIPPED if "--require" in sys.argv[1:] else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
