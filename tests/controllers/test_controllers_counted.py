"""What resources of jobs count as, by `resources` of the configuration: the same in both modes, for all who hold."""

from __future__ import annotations

from typing import Any

import pytest
from controllers_agent import Told
from controllers_quota import cluster_queue, flavor, foreign, is_true, used, waits
from controllers_scene import Scene, until

_MODES = pytest.mark.parametrize("mode", ["fleet", "kueue"])


@_MODES
async def test_resources_that_do_not_count_and_that_count_as_others(scene: Scene, mode: str) -> None:
    transformation = {"input": "cpu", "strategy": "Replace", "outputs": {"example.com/credits": "3"}}
    resources = {"excludeResourcePrefixes": ["memory"], "transformations": [transformation]}
    await scene.hub(queue={"mode": mode, "resources": resources})
    await scene.agent("c1", plan=lambda work, tasks: Told(seconds=30, running_after=0.0))
    await scene.available("c1")
    await flavor(scene, "any")
    await cluster_queue(scene, "team", {"example.com/credits": 7}, uses="any")
    await scene.submit("job", queueName="team")
    await scene.phase("job", "Running")
    given = (await is_true(scene, "job"))["status"]["admission"]["podSetAssignments"][0]
    assert given["resourceUsage"] == {"example.com/credits": "3"}
    await foreign(scene, "other", "team", {"cpu": 1, "memory": "1Gi"})
    given = (await is_true(scene, "other"))["status"]["admission"]["podSetAssignments"][0]
    assert given["resourceUsage"] == {"example.com/credits": "3"}

    async def counted() -> Any:
        return (await used(scene, "team", "example.com/credits"))[0] == "6"

    await until(counted)
    await foreign(scene, "third", "team", {"cpu": 1})
    said = await waits(scene, "third", "WaitingForQuota")
    assert "needs 3 example.com/credits" in said["message"]
    assert "1 free" in said["message"]


@_MODES
async def test_what_no_group_covers_keeps_nobody_out_where_that_is_said(scene: Scene, mode: str) -> None:
    await scene.hub(queue={"mode": mode, "resources": {"quotaCheckStrategy": "IgnoreUndeclared"}})
    await scene.agent("c1", plan=lambda work, tasks: Told(seconds=30, running_after=0.0))
    await scene.available("c1")
    await flavor(scene, "any")
    await cluster_queue(scene, "team", {"cpu": 2}, uses="any")
    # It asks for memory, too.
    await scene.submit("job", queueName="team")
    await scene.phase("job", "Running")
    await foreign(scene, "other", "team", {"cpu": 1, "memory": "1Gi"})
    given = (await is_true(scene, "other"))["status"]["admission"]["podSetAssignments"][0]
    assert given["resourceUsage"] == {"cpu": "1"}
