"""Pods that somebody wrote as they are."""

from __future__ import annotations

from typing import Any

import pytest
from edge_rig import Rig, shell, until

from hub.api.conditions import condition_is
from hub.api.errors import NotFoundError
from hub.api.resource import PODS


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    spec = {"restartPolicy": "Never", "containers": list(containers), **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


async def phase(rig: Rig, name: str, wanted: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        found = await rig.site.api.get(PODS, name, "default")
        return found["status"] if (found.get("status") or {}).get("phase") == wanted else None

    status: dict[str, Any] = await until(look, what=f"{name} {wanted}")
    return status


async def test_a_pod_runs_to_its_end(rig: Rig) -> None:
    await rig.site.api.create(PODS, pod("a", shell("echo hi; sleep 0.2; exit 0")), "default")
    running = await phase(rig, "a", "Running")
    assert condition_is(running["conditions"], "Ready")
    assert running["containerStatuses"][0]["state"].keys() == {"running"}
    assert running["hostIP"] == running["podIP"]
    done = await phase(rig, "a", "Succeeded")
    assert not condition_is(done["conditions"], "Ready")
    assert done["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    assert await rig.log("a") == "hi\n"


async def test_a_pod_fails_with_its_code(rig: Rig) -> None:
    await rig.site.api.create(
        PODS, pod("a", shell("exit 6"), initContainers=[{**shell("true"), "name": "i"}]), "default"
    )
    failed = await phase(rig, "a", "Failed")
    assert failed["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 6
    assert failed["initContainerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"
    assert (await rig.chunks("a"))[-1].exit_code == 6
    await rig.cut()
    await rig.start()
    assert (await rig.chunks("a"))[-1].exit_code == 6


async def test_a_pod_that_cannot_run_says_why(rig: Rig) -> None:
    await rig.site.api.create(PODS, pod("a", {**shell("true"), "image": "golang"}), "default")
    failed = await phase(rig, "a", "Failed")
    assert failed["reason"] == "ImageNotAvailable"
    assert "golang" in failed["message"]


async def test_a_pod_of_policy_always_is_started_again(rig: Rig) -> None:
    assert rig.site._host is not None
    object.__setattr__(rig.site._host.machinery, "restart_first", 0.02)
    await rig.site.api.create(PODS, pod("a", shell("echo x"), restartPolicy="Always"), "default")

    async def restarted() -> bool:
        return (await rig.log("a")).count("x") >= 3

    await until(restarted)

    async def counted() -> bool:
        status = await phase(rig, "a", "Running")
        return bool(status["containerStatuses"][0]["restartCount"] >= 1)

    await until(counted)
    await rig.site.api.delete(PODS, "a", "default")
    await until(lambda: _gone(rig, "a"))


async def test_a_pod_outlives_the_site_and_goes_with_its_object(rig: Rig) -> None:
    await rig.site.api.create(PODS, pod("a", shell("sleep 60")), "default")
    await phase(rig, "a", "Running")
    before = {p.pid for p in rig.processes()}
    await rig.cut()
    await rig.start()
    assert {p.pid for p in rig.processes()} == before
    # It did not come from the hub, so the hub is told what it takes.
    assert rig.site.capacity()["nodeGroups"][0].get("used") is None
    await rig.site.api.delete(PODS, "a", "default")
    await until(lambda: _gone(rig, "a"))
    assert rig.processes() == []


async def _gone(rig: Rig, name: str) -> bool:
    try:
        await rig.site.api.get(PODS, name, "default")
    except NotFoundError:
        return True
    return False


async def test_what_did_not_come_from_the_hub_is_told_to_it(rig: Rig) -> None:
    told: list[Any] = []
    rig.site.on_capacity_change(lambda: told.append(rig.site.capacity()["nodeGroups"][0].get("used")))
    container = shell("sleep 60", resources={"requests": {"cpu": "3"}, "limits": {"nvidia.com/gpu": "1"}})
    await rig.site.api.create(PODS, pod("a", container, terminationGracePeriodSeconds=0), "default")
    used = [{"nodes": 1, "resources": {"cpu": "3", "nvidia.com/gpu": "1"}}]
    await until(lambda: told and told[-1] == used)
    await rig.site.api.delete(PODS, "a", "default")
    await until(lambda: told[-1] is None)


@pytest.mark.parametrize(
    "spec", [{"containers": "x"}, {"containers": [{"name": "a", "image": "host", "command": [1]}]}]
)
async def test_a_poisoned_pod_stops_nothing_else(rig: Rig, spec: dict[str, Any]) -> None:
    bad = pod("bad")
    bad["spec"] |= spec
    try:
        await rig.site.api.create(PODS, bad, "default")
    except Exception as error:
        assert type(error).__name__ == "RefusedError"  # noqa: PT017
    await rig.site.api.create(PODS, pod("good", shell("true")), "default")
    await phase(rig, "good", "Succeeded")
