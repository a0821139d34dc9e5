"""The whole life of a job through the hub's shell, with agents that report what the test says."""

from __future__ import annotations

from controllers_scene import Scene


async def test_a_job_is_placed_run_and_done(scene: Scene) -> None:
    await scene.hub()
    await scene.agent("ash")
    await scene.available("ash")
    await scene.submit("one")
    status = await scene.phase("one", "Succeeded")
    assert status["tasks"]["succeededIndexes"] == "0"
