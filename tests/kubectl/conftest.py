"""The real kubectl against the embedded API in a process of its own, as people use it.

One server for all, a namespace a test. The namespaces are made at once: a kubectl each would take longer than a test.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMESPACES = 120
_names = itertools.count()
_spaces = itertools.count()


def find_kubectl() -> str | None:
    beside = Path(sys.executable).with_name("kubectl")
    return os.environ.get("KUBECTL") or (str(beside) if beside.exists() else shutil.which("kubectl"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    missing = pytest.mark.skip(reason="no kubectl in the environment or on PATH")
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.kubectl)
            if find_kubectl() is None:
                item.add_marker(missing)


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What was printed, without what differs from run to run: widths, ages, uids."""
        text = re.sub(r"(?m) \d+s(?= |$)", " AGE", self.out)
        return [re.sub(r" {2,}", "  ", line.rstrip()) for line in text.splitlines()]


class Kubectl:
    """`kubectl("get", "fj")` runs it in the test's namespace; a refusal fails the test unless `fails` is said."""

    def __init__(self, environment: dict[str, str], namespace: str, directory: Path) -> None:
        self._environment = environment
        self.namespace = namespace
        self._directory = directory

    def command(self, *arguments: str) -> list[str]:
        kubectl = find_kubectl()
        assert kubectl is not None
        # Before a `--` all is kubectl's own.
        return [kubectl, f"--namespace={self.namespace}", *arguments]

    def __call__(self, *arguments: str, fails: bool = False, editor: str = "") -> Answer:
        environment = {**self._environment, **({"KUBE_EDITOR": editor} if editor else {})}
        done = subprocess.run(
            self.command(*arguments), env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        answer = Answer(done.returncode, done.stdout, done.stderr)
        assert (answer.code != 0) is fails, f"kubectl {' '.join(arguments)}: {answer}"
        return answer

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """For what goes on until it is stopped, by its pid."""
        return subprocess.Popen(
            self.command(*arguments), env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def file(self, text: str) -> str:
        path = self._directory / f"{next(_names)}.yaml"
        path.write_text(text)
        return str(path)

    def script(self, text: str) -> str:
        path = self._directory / f"{next(_names)}.sh"
        path.write_text(f"#!/bin/sh\nset -e\n{text}\n")
        path.chmod(0o755)
        return str(path)


@pytest.fixture(scope="session")
def kubectl_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    directory = tmp_path_factory.mktemp("kubectl")
    data = directory / "data"
    server = subprocess.Popen(
        [sys.executable, "-m", "hub.apiserver", "--data", str(data), "--listen", "127.0.0.1:0", "--self-signed"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=(directory / "log").open("w"),
    )
    try:
        kubeconfig = data / "kubeconfig"
        deadline = time.monotonic() + 20
        while not kubeconfig.exists():
            assert server.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < deadline, "the API server does not come up"
            time.sleep(0.05)
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "HOME": str(directory), "TZ": "UTC"}
        first = Kubectl(environment, "default", directory)
        first("apply", "--server-side", "-f", str(ROOT / "manifests" / "crds"))
        spaces = "".join(
            f"---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: t{number}}}\n" for number in range(NAMESPACES)
        )
        first("create", "-f", first.file(spaces))
        yield environment
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture
def kubectl(kubectl_environment: dict[str, str], tmp_path: Path) -> Kubectl:
    return Kubectl(kubectl_environment, f"t{next(_spaces)}", tmp_path)
