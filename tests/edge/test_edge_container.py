"""Images that are not the host's, by podman or docker: the same supervision, and no container left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from edge_rig import Rig, alive, job, reason_of, until

from agent.edge import shim
from agent.edge.container import engine_command
from agent.edge.images import ContainerEngine, Images, find_engine
from agent.edge.podplan import PodRefused, plan_pod
from hub.api.resource import JOBS


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A podman on PATH; returns the directory of its state."""
    script = tmp_path / "tools" / "podman"
    source = Path(__file__).with_name("fake_engine.py").read_text()
    script.write_text(f"#!{sys.executable} -IS\n{source}")
    script.chmod(0o755)
    return script.parent / "engine-state"


def contained(name: str, script: str, completions: int = 1, **more: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "alpine:3", "command": ["/bin/sh", "-c"], "args": [script], **more}
    return job(name, completions=completions, pod={"containers": [container], "terminationGracePeriodSeconds": 1})


async def test_a_client_without_its_service_is_none(engine: Path) -> None:
    found = await find_engine()
    assert found == ContainerEngine("podman", str(engine.parent / "podman"))
    (engine / "down").touch()
    assert await find_engine() is None


async def test_an_image_runs_in_its_engine(rig: Rig, engine: Path) -> None:
    await rig.cut()
    site = await rig.start()
    assert site.capacity()["images"] == []
    env = [{"name": "SECRET", "value": "hidden"}]
    limits = {"resources": {"limits": {"memory": "64Mi", "cpu": "1500m", "nvidia.com/gpu": "1"}}}
    script = 'echo "$SECRET $QUARTERDECK_TASK_INDEX ${HOME-no home}"; exit $JOB_COMPLETION_INDEX'
    status = await rig.run(contained("a", script, 2, env=env, workingDir="/tmp", **limits))
    assert (status["completedIndexes"], status["exitCodes"]) == ("0", "1=1")
    assert await rig.log("a", 1) == "hidden 1 no home\n"
    call = next(line for line in (engine / "calls").read_text().splitlines() if line.startswith("run")).split("\t")
    assert "hidden" not in "".join(call)
    for option, value in (
        ("--memory", str(64 << 20)),
        ("--cpus", "1.5"),
        ("--workdir", "/tmp"),
        ("--entrypoint", "/bin/sh"),
    ):
        assert call[call.index(option) + 1] == value
    assert call[call.index("--device") + 1].startswith("nvidia.com/gpu=")
    assert call[call.index("alpine:3") + 1 :] == ["-c", script]


async def test_containers_are_stopped_with_grace_then_removed(rig: Rig, engine: Path, tmp_path: Path) -> None:
    await rig.cut()
    await rig.start()
    await rig.submit(
        contained("a", f"trap 'echo polite > {tmp_path}/said; exit 0' TERM; echo $$$$; while :; do sleep 0.05; done")
    )
    await rig.submit(contained("b", "trap '' TERM; echo $$$$; while :; do sleep 0.05; done"))
    pids = [int(await until(lambda n=n: _text(rig, n))) for n in "ab"]
    for name in "ab":
        await rig.site.api.delete(JOBS, name, "default")
        await rig.gone(name)
    # The Job's object may be gone before its last process is.
    await until(lambda: not any(map(alive, pids)))
    assert (tmp_path / "said").read_text() == "polite\n"
    await until(lambda: not list(engine.glob("*.pid")))


async def _text(rig: Rig, name: str) -> str:
    return (await rig.log(name)).strip()


async def test_a_killed_supervisor_leaves_no_container(rig: Rig, engine: Path) -> None:
    await rig.cut()
    await rig.start()
    await rig.submit(contained("a", "echo $$$$; sleep 60"))
    pid = int(await until(lambda: _text(rig, "a")))
    os.kill(next(p.pid for p in rig.processes() if p.session_leader and shim.is_shim(p.pid)), signal.SIGKILL)
    assert (await rig.ended("a"))["exitCodes"] == "137=0"
    await until(lambda: not alive(pid))


async def test_containers_outlive_the_site_and_strangers_are_removed(rig: Rig, engine: Path) -> None:
    await rig.cut()
    await rig.start()
    await rig.submit(contained("a", "echo $$$$; sleep 0.8"))
    pid = int(await until(lambda: _text(rig, "a")))
    stranger = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    (engine / "quarterdeck-stranger.pid").write_text(str(stranger.pid))
    await rig.cut()
    await rig.start()
    assert alive(pid)
    assert await asyncio.wait_for(stranger.wait(), 5) == -signal.SIGKILL
    assert (await rig.ended("a"))["succeeded"] == 1


async def test_an_engine_s_volumes(engine: Path) -> None:
    volumes = [
        {"name": "d", "hostPath": {"path": "/data"}},
        {"name": "e", "emptyDir": {}},
        {"name": "c", "configMap": {}},
    ]
    mounts = [{"name": "d", "mountPath": "/in", "readOnly": True}, {"name": "e", "mountPath": "/scratch"}]
    container = {"name": "main", "image": "alpine", "volumeMounts": mounts}
    found = ContainerEngine("docker", "/usr/bin/docker")
    spec = {"volumes": volumes, "containers": [container]}
    plan = plan_pod({}, spec, Images({}, found), simulated=False, default_restart="Never")
    line = engine_command(
        found, plan.containers[0], (), ("x",), {}, name="n", token="t", gpus=["0", "2"], scratch="/s", notices="/n/0"
    )
    assert line[-2:] == ("alpine", "x")
    assert [line[n + 1] for n, part in enumerate(line) if part == "--volume"] == [
        "/data:/in:ro",
        "/s/e:/scratch",
        "/n/0:/run/quarterdeck:ro",
    ]
    assert line[line.index("--gpus") + 1] == '"device=0,2"'
    container["volumeMounts"] = [{"name": "c", "mountPath": "/c"}]
    with pytest.raises(PodRefused, match="hostPath and emptyDir"):
        plan_pod({}, spec, Images({}, found), simulated=False, default_restart="Never")


async def test_without_an_engine_it_is_refused(rigs: Callable[..., Rig]) -> None:
    rig = rigs()
    await rig.start()
    assert reason_of(await rig.run(contained("a", "true"))) == "ImageNotAvailable"
