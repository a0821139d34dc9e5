"""Tasks that have to go: they are told so at once, have the time that was promised, and are killed after it."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from edge_rig import Rig, alive, job, shell, until

from agent.edge.notice import Notice, give, notice_of
from hub.api import names
from hub.api.indexset import IndexSet
from hub.api.resource import JOBS
from hub.api.timestamps import parse_time
from hub.jobs.attempt import Attempt, Eviction, Resize
from hub.jobs.eviction import eviction_annotations, eviction_patch
from hub.jobs.resize import resize_note, resize_patch

# A program that saves its work when it is told to go, and goes on from there when it starts again.
SAVES = """
me=$JOB_COMPLETION_INDEX; at=0; [ -e {work}/saved$me ] && at=$(cat {work}/saved$me)
stop=; trap 'stop=1' TERM
while [ $at -lt 40 ] || [ ! -e {work}/go ]
do
  at=$((at + 1)); echo $at >> {work}/seen$me; sleep 0.03
  [ -z "$stop" ] || {{ cat "$QUARTERDECK_NOTICE_FILE" > {work}/notice$me; echo $at > {work}/saved$me; exit 143; }}
done
"""


async def told_to_go(rig: Rig, name: str, notice: float, message: str = "somebody else needs it") -> Eviction:
    """As the hub's patch of the ManifestWork has it, once its agent has applied that."""
    now = time.time()
    eviction = Eviction("Preempted", message, now, now + notice)
    await rig.site.api.patch(JOBS, name, of_the_job(eviction_patch("", eviction)), "default", type="json")
    return eviction


async def resized(rig: Rig, name: str, before: int, slots: int, notice: float) -> None:
    now = time.time()
    resize = Resize(before, slots, now, now + notice, "2 slots go to default/owner", "default/owner")
    attempt = Attempt(epoch=1, attempt=1, cluster="edge", tasks=IndexSet.span(9), slots=before, work="w")
    await rig.site.api.patch(JOBS, name, of_the_job(resize_patch("", attempt, resize)), "default", type="json")


def sent(name: str, script: str, tasks: int = 1, **spec: Any) -> dict[str, Any]:
    """A Job as a slice's ManifestWork has it."""
    return job(name, script, tasks, annotations={names.TASKS: f"0-{tasks - 1}"}, **spec)


def of_the_job(patch: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    inside = "/spec/workload/manifests/0"
    return [{**op, "path": op["path"].removeprefix(inside)} for op in patch if op["path"].startswith(inside)]


async def status_is(rig: Rig, name: str, **wanted: int) -> bool:
    status = await rig.status(name)
    return all(status.get(key) == value for key, value in wanted.items())


async def test_a_program_saves_its_work_on_notice_and_goes_on_from_there(rig: Rig, tmp_path: Path) -> None:
    await rig.submit(sent("a", SAVES.format(work=tmp_path)))
    await until((tmp_path / "seen0").exists)
    eviction = await told_to_go(rig, "a", 20.0)
    # Long before the deadline it is gone, and nothing was started in its place.
    await until(lambda: status_is(rig, "a", active=0, slots=0))
    assert time.time() < eviction.stops
    told = json.loads((tmp_path / "notice0").read_text())
    assert (told["reason"], told["message"]) == ("Preempted", "somebody else needs it")
    assert parse_time(told["deadline"]).timestamp() >= eviction.stops - 0.001
    assert 15 < told["seconds"] <= 30
    status = await rig.status("a")
    assert (status.get("failed"), status.get("failedIndexes")) == (0, None)
    saved = int((tmp_path / "saved0").read_text())
    assert saved > 0
    # Sent to it again it begins where it was, and its old notice is no more.
    (tmp_path / "go").touch()
    await rig.submit(sent("b", f"[ ! -e $QUARTERDECK_NOTICE_FILE ] || exit 3\n{SAVES.format(work=tmp_path)}"))
    assert (await rig.ended("b"))["succeeded"] == 1
    seen = [int(line) for line in (tmp_path / "seen0").read_text().split()]
    assert saved + 1 in seen
    assert seen.count(1) == 1


async def test_who_ignores_the_notice_is_killed_after_it(rig: Rig, tmp_path: Path) -> None:
    script = f"trap 'echo told > {tmp_path}/told' TERM; echo $$ > {tmp_path}/pid; while true; do sleep 0.05; done"
    await rig.submit(sent("a", script, pod={"terminationGracePeriodSeconds": 1}))
    await until((tmp_path / "pid").exists)
    pid = int((tmp_path / "pid").read_text())
    began = time.monotonic()
    await told_to_go(rig, "a", 2.0)
    await until((tmp_path / "told").exists)
    assert alive(pid)
    await until(lambda: not alive(pid), 30)
    # Its pod's grace is shorter than the notice: it has the notice.
    assert time.monotonic() - began > 1.9


async def test_a_notice_outlives_the_site_that_gave_it(rig: Rig, tmp_path: Path) -> None:
    """Killed and back in the middle of it: the task still has its time, and is ended then."""
    script = f"trap '' TERM; echo $$ > {tmp_path}/pid; while true; do sleep 0.05; done"
    await rig.submit(sent("a", script, pod={"terminationGracePeriodSeconds": 1}))
    await until((tmp_path / "pid").exists)
    pid = int((tmp_path / "pid").read_text())
    eviction = await told_to_go(rig, "a", 5.0)
    await until(lambda: status_is(rig, "a", slots=0))
    await rig.cut()
    await rig.start()
    await until(lambda: not alive(pid), 30)
    assert time.time() >= eviction.stops - 0.2


async def test_the_newest_tasks_go_when_a_job_is_made_smaller_and_run_again_when_it_grows(
    rig: Rig, tmp_path: Path
) -> None:
    await rig.submit(sent("a", SAVES.format(work=tmp_path), 4, parallelism=2))
    await until(lambda: status_is(rig, "a", active=2, slots=2))
    await rig.site.api.patch(JOBS, "a", {"spec": {"parallelism": 4}}, "default")
    await until(lambda: status_is(rig, "a", active=4, slots=4))
    await until((tmp_path / "seen3").exists)
    await resized(rig, "a", 4, 2, 20.0)
    await until(lambda: status_is(rig, "a", active=2, slots=2))
    assert {path.name for path in tmp_path.glob("saved*")} == {"saved2", "saved3"}
    assert json.loads((tmp_path / "notice3").read_text())["reason"] == "ElasticShrink"
    await asyncio.sleep(0.2)
    assert await status_is(rig, "a", active=2, failed=0, succeeded=0)
    await rig.site.api.patch(JOBS, "a", {"spec": {"parallelism": 4}}, "default")
    await until(lambda: status_is(rig, "a", active=4))
    (tmp_path / "go").touch()
    assert (await rig.ended("a"))["completedIndexes"] == "0-3"
    seen = [int(line) for line in (tmp_path / "seen3").read_text().split()]
    assert seen.count(1) == 1


async def test_a_site_that_was_away_while_its_job_was_made_smaller_makes_it_so(rig: Rig, tmp_path: Path) -> None:
    await rig.submit(sent("a", SAVES.format(work=tmp_path), 3))
    await until(lambda: all((tmp_path / f"seen{n}").exists() for n in range(3)))
    await rig.cut()
    await rig.start()
    await until(lambda: status_is(rig, "a", active=3))
    await resized(rig, "a", 3, 1, 20.0)
    await rig.cut()
    await rig.start()
    await until(lambda: status_is(rig, "a", active=1, slots=1))
    (tmp_path / "go").touch()
    assert (await rig.ended("a", 20))["succeeded"] == 3


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({}, None),
        ({names.EVICTION: "{"}, None),
        ({names.EVICTION: '{"cause": "Idle"}'}, None),
        ({names.EVICTION: "[1]"}, None),
        (eviction_annotations(Eviction("Idle", "m", 5.0, 9.0)), Notice(9.0, "Idle", "m")),
        ({names.RESIZE: resize_note(Resize(3, 1, 5.0, 9.0, "m"))}, Notice(9.0, "ElasticShrink", "m")),
    ],
)
def test_what_a_job_says_of_its_end(annotations: dict[str, str], expected: Notice | None) -> None:
    assert notice_of({"metadata": {"annotations": annotations}}) == expected
    both = {**annotations, names.RESIZE: resize_note(Resize(3, 1, 5.0, 7.0, "other"))}
    found = notice_of({"metadata": {"annotations": both}})
    assert found == (expected if names.EVICTION in annotations and expected else Notice(7.0, "ElasticShrink", "other"))


def test_a_notice_that_cannot_be_written_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "notices").write_text("a file where a directory should be")
    give(f"{tmp_path}/notices/0/notice", Notice(9.0, "Idle"), 9.0, 5.0)
    assert (tmp_path / "notices").read_text().startswith("a file")


async def test_in_a_container_the_file_is_where_the_variable_says(rig: Rig) -> None:
    """Of a process of the host it is the file itself."""
    name = await rig.run(job("a", pod={"containers": [shell("echo $QUARTERDECK_NOTICE_FILE")]}))
    assert name["succeeded"] == 1
    assert (await rig.log("a")).strip().endswith("/notices/0/notice")
