"""docs/install.md as an operator follows it: every command of the page, in its order, and nothing left at its end."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from e2e import versions
from e2e.building import CannotBuildError
from e2e.cluster import Cluster
from e2e.finding import find
from e2e.installed import MEMBER, ROOT, Installation, installation, until

PAGE: Final = ROOT / "docs" / "install.md"
_BLOCK: Final = re.compile(r"^<!-- (?P<how>[^>]*?) -->\n```sh\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
# What comes and goes by itself on any control plane.
_RESTLESS: Final = ("events", "events.events.k8s.io", "componentstatuses", "leases.coordination.k8s.io")


@pytest.fixture(scope="module")
def inst() -> Iterator[Installation]:
    try:
        with installation() as found:
            yield found
    except CannotBuildError as error:
        pytest.skip(str(error))


def test_every_block_of_commands_says_where_it_runs() -> None:
    text = PAGE.read_text()
    assert len(_BLOCK.findall(text)) == text.count("```sh\n") > 10
    for how, _ in _BLOCK.findall(text):
        assert re.fullmatch(r"not run: .+|run on the (hub|member)(: (no )?(hub|agent))?", how), how


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_installs_the_hub_and_removes_it_without_a_trace(inst: Installation, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "manifests", tmp_path / "manifests")
    before = {cluster.name: everything(inst, cluster) for cluster in (inst.hub, inst.member)}
    try:
        for how, commands in _BLOCK.findall(PAGE.read_text()):
            if not how.startswith("not run"):
                follow(inst, tmp_path, how, commands)
        for cluster in (inst.hub, inst.member):

            def left(cluster: Cluster = cluster) -> set[str]:
                return everything(inst, cluster) ^ before[cluster.name]

            def clean(cluster: Cluster = cluster) -> bool:
                return not left(cluster)

            until(clean, f"{cluster.name} is as it was; differs: {sorted(left())[:20]}", 60)
    except BaseException:
        print(inst.logs())
        raise


def follow(inst: Installation, directory: Path, how: str, commands: str) -> None:
    where, _, event = how.removeprefix("run on the ").partition(": ")
    cluster = inst.hub if where == "hub" else inst.member
    processes = inst.hub.processes
    if event == "no agent":
        processes.kill([f"agent-{MEMBER}"])
    elif event == "no hub":
        processes.kill(["hub"])
    tools = Path(find(versions.newest())[0]["kubectl"]).parent
    environment = {
        **os.environ,
        "KUBECONFIG": str(cluster.kubeconfig),
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
    if event == "hub":
        inst.start_hub()
        leads = ("lease", "quarterdeck-hub", "-n", "quarterdeck-system")
        until(lambda: inst.kubectl(inst.hub, "get", *leads, check=False).startswith("NAME"), "a hub leads")
    elif event == "agent":
        secret = inst.get(inst.member, "secret", "quarterdeck-hub", "-n", "quarterdeck-agent")
        kubeconfig = inst.directory / "agent.kubeconfig"
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_bytes(base64.b64decode(secret["data"]["kubeconfig"]))
        settings = inst.get(inst.member, "configmap", "quarterdeck-agent", "-n", "quarterdeck-agent")
        assert settings["data"]["cluster"] == MEMBER
        inst.start_agent(kubeconfig)


def everything(inst: Installation, cluster: Cluster) -> set[str]:
    """Every object of every kind that is served, by kind, namespace and name."""
    kinds = inst.kubectl(cluster, "api-resources", "--verbs=list", "-o", "name").split()
    kinds = [kind for kind in kinds if kind not in _RESTLESS]
    columns = "KIND:.kind,NAMESPACE:.metadata.namespace,NAME:.metadata.name"
    said = inst.kubectl(cluster, "get", ",".join(kinds), "-A", "--no-headers", "-o", f"custom-columns={columns}")
    return {" ".join(line.split()) for line in said.splitlines()} | set(kinds)
