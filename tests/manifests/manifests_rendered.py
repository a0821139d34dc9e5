"""What manifests/ and charts/ render, as objects by name, and the tools that render them."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.helm import found

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "manifests"
OVERLAYS = ("base", "overlays/ha", "overlays/edge", "overlays/dev")
Objects = dict[tuple[str, str, str], Json]


def _objects(text: str) -> Objects:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    result: Objects = {}
    for obj in yaml.load_all(text, Loader=loader):
        if obj:
            meta = obj["metadata"]
            key = (obj["kind"], str(meta.get("namespace") or ""), meta["name"])
            assert key not in result, f"{key} twice"
            result[key] = obj
    return result


@cache
def kustomized(folder: str) -> Objects:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl: it renders kustomizations")
    done = subprocess.run([kubectl, "kustomize", folder], cwd=MANIFESTS, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return _objects(done.stdout)


@cache
def templated(chart: str, *arguments: str) -> Objects:
    helm = found()
    if helm is None:
        pytest.skip("no helm: `python -m e2e.helm` builds it where there is Go")
    command = [str(helm), "template", "release", str(ROOT / "charts" / chart), "--kube-version", "1.37.0", *arguments]
    environment = {**os.environ, "HELM_CACHE_HOME": "/nonexistent", "KUBECONFIG": os.devnull}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return _objects(done.stdout)


def workloads(objects: Objects) -> list[Json]:
    return [obj for (kind, _, _), obj in objects.items() if kind == "Deployment"]
