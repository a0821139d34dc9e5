"""Quarterdeck installed from manifests/ as an operator would, on a hub's control plane and a member's.

There is no kubelet: what the Deployments say is started as processes here, with their own arguments (addresses and
files exchanged) and as their ServiceAccounts, so that their roles are all that they have. Services reach them through
e2e/egress.py.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from e2e import audit, versions
from e2e.certificates import Authority
from e2e.cluster import Cluster
from e2e.egress import Egress
from e2e.finding import find
from e2e.nodes import NodeShape
from e2e.planes import control_plane
from e2e.ports import free

Json = dict[str, Any]
ROOT: Final = Path(__file__).resolve().parent.parent
MANIFESTS: Final = ROOT / "manifests"
HUB_USER: Final = "system:serviceaccount:quarterdeck-system:quarterdeck-hub"
AGENT_USER: Final = "system:serviceaccount:quarterdeck-agent:quarterdeck-agent"
MEMBER: Final = "ash"
_NODES: Final = (NodeShape("gpu", 1, cpu=32, memory="128Gi", gpu="NVIDIA-L4", gpus=4, gpu_mib=23034),)


@dataclass(slots=True)
class Installation:
    """`hub` and `member` are control planes; nothing is installed yet."""

    hub: Cluster
    member: Cluster
    egress: Egress
    directory: Path
    ports: dict[str, int] = field(default_factory=dict)

    def kubectl(self, cluster: Cluster, *arguments: str, stdin: str = "", check: bool = True) -> str:
        """What it prints. Raises AssertionError with its words when it fails."""
        done = subprocess.run(
            [find(versions.newest())[0]["kubectl"], "--kubeconfig", str(cluster.kubeconfig), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=120,
        )
        assert not check or done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout + (done.stderr if not check else "")

    def get(self, cluster: Cluster, *arguments: str) -> Json:
        found: Json = json.loads(self.kubectl(cluster, "get", *arguments, "-o", "json"))
        return found

    def install_hub(self, overlay: str = "hub/base") -> None:
        self.kubectl(self.hub, "apply", "--server-side", "-k", "manifests/crds")
        self.kubectl(self.hub, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        for part in (overlay, "admission", "visibility", "defaults"):
            self.kubectl(self.hub, "apply", "--server-side", "-k", f"manifests/{part}")

    def account(self, cluster: Cluster, namespace: str, name: str) -> Path:
        """A kubeconfig with a token of that ServiceAccount."""
        token = self.kubectl(cluster, "create", "token", name, "-n", namespace, "--duration=2h").strip()
        return cluster.bearer(f"{namespace}-{name}", token)

    def start_hub(self, name: str = "hub", config: str = "", path: Path | None = None) -> None:
        """With the arguments of the Deployment, as its ServiceAccount, for its first pod. `path`: of more packages."""
        deployment = self.get(self.hub, "deployment", "quarterdeck-hub", "-n", "quarterdeck-system")
        settings = self.directory / f"{name}.yaml"
        settings.write_text(config or "{}")
        metrics, api, webhooks = free(3)
        self.ports = {"metrics": metrics, "api": api, "webhooks": webhooks}
        said = {
            "--config": str(settings),
            "--metrics-listen": f"127.0.0.1:{metrics}",
            "--debug-url": f"http://127.0.0.1:{metrics}",
            "--api-listen": f"127.0.0.1:{api}",
            "--webhook-listen": f"127.0.0.1:{webhooks}",
            "--identity": name,
        }
        arguments = _with(deployment["spec"]["template"]["spec"]["containers"][0]["args"], said)
        kubeconfig = self.account(self.hub, "quarterdeck-system", "quarterdeck-hub")
        command = [sys.executable, "-m", "hub.controllers", "--kubeconfig", str(kubeconfig), *arguments]
        environment = {**_environment(), "POD_NAME": self.pod()}
        if path is not None:
            environment["PYTHONPATH"] += os.pathsep + str(path)
        self.hub.processes.start(name, command, environment=environment, cwd=self.directory)
        self._route()

    def pod(self) -> str:
        """The name of the hub's pod; it waits for a machine for ever."""
        query = ("-n", "quarterdeck-system", "-l", "app.kubernetes.io/name=quarterdeck-hub")

        def first() -> str:
            items = self.get(self.hub, "pods", *query)["items"]
            return str(items[0]["metadata"]["name"]) if items else ""

        return str(until(first, "the hub's pod is made"))

    def _route(self) -> None:
        for service in self.get(self.hub, "services", "-n", "quarterdeck-system")["items"]:
            for port in service["spec"]["ports"]:
                self.egress.routes[service["spec"]["clusterIP"], port["port"]] = self.ports[port["targetPort"]]

    def start_agent(self, on_hub: Path, name: str = MEMBER, *more: str) -> None:
        deployment = self.get(self.member, "deployment", "quarterdeck-agent", "-n", "quarterdeck-agent")
        (port,) = free(1)
        said = {
            "--cluster": name,
            "--data": str(self.directory / f"agent-{name}"),
            "--hub-kubeconfig": str(on_hub),
            "--metrics-listen": f"127.0.0.1:{port}",
        }
        arguments = _with(deployment["spec"]["template"]["spec"]["containers"][0]["args"], said)
        here = self.account(self.member, "quarterdeck-agent", "quarterdeck-agent")
        command = [sys.executable, "-m", "agent.main", "--kubeconfig", str(here), *arguments, *more]
        self.hub.processes.start(f"agent-{name}", command, environment=_environment(), cwd=self.directory)

    def logs(self) -> str:
        """The ends of our processes' logs, for when something is wrong."""
        found = sorted((self.hub.processes.directory / "logs").glob("*.log"))
        ours = [path for path in found if path.stem.startswith(("hub", "agent")) and "kube" not in path.stem]
        return "\n".join(f"== {path.stem}\n{path.read_text(errors='replace')[-6000:]}" for path in ours)


@contextmanager
def installation(nodes: tuple[NodeShape, ...] = _NODES) -> Iterator[Installation]:
    """Two control planes with audit logs, the hub's with a front proxy; E2E_KUBERNETES names another version than the
    newest. Raises as `control_plane` does."""
    version = os.environ.get("E2E_KUBERNETES", "")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quarterdeck-installed-")))
        egress = stack.enter_context(Egress(directory))
        extra = [*audit.flags(directory / "hub"), *_front_proxy(directory / "proxy"), *egress.flags()]
        hub = stack.enter_context(control_plane("hub", version=version, apiserver=extra))
        here = audit.flags(directory / "member")
        member = stack.enter_context(control_plane(MEMBER, version=version, nodes=nodes, apiserver=here))
        yield Installation(hub, member, egress, directory)


def until(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """What `condition` answers once that is true. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.2)


def _front_proxy(directory: Path) -> list[str]:
    authority = Authority(directory, "front-proxy")
    certificate, key = authority.client("front-proxy-client", "front-proxy-client")
    return [
        f"--requestheader-client-ca-file={authority.ca}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={certificate}",
        f"--proxy-client-key-file={key}",
    ]


def _with(arguments: list[str], said: dict[str, str]) -> list[str]:
    """`arguments` as the manifest has them, with other values where this machine needs others."""
    known = [argument.partition("=")[0] for argument in arguments]
    missing = set(said) - set(known)
    assert not missing, f"the Deployment does not say {', '.join(sorted(missing))}"
    return [f"{name}={said[name]}" if name in said else word for name, word in zip(known, arguments, strict=True)]


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST")}
    return {**kept, "PYTHONPATH": str(ROOT)}


def secret_value(secret: Json, key: str) -> bytes:
    return base64.b64decode((secret.get("data") or {}).get(key) or "")
