"""What of a Job was under way when its site went: its running tasks taken up, its ends counted, from the records.

The Job's status says what was reported; the records say what happened. An index that is over in the status is over;
of every other the last attempt is taken up as it is now (running, ended, never started), the ones before it failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from agent.edge.jobplan import JobPlan
from agent.edge.jobrun import Progress
from agent.edge.nodes import Place
from agent.edge.records import Records, RunId
from agent.edge.task import Task
from hub.api.reasons import Reason

MakeTask = Callable[[int, int, Place], Task]


def take_up(
    progress: Progress,
    plan: JobPlan,
    records: Records,
    runs: Iterable[RunId],
    make_task: MakeTask,
    take: Callable[[Place], None],
) -> None:
    """`make_task(index, attempt, place)`; `take(place)` is called for each task that holds its place again."""
    by_index: dict[int, list[RunId]] = {}
    for run in runs:
        if run.index < plan.completions:
            by_index.setdefault(run.index, []).append(run)
    for index, found in sorted(by_index.items()):
        if progress.is_over(index):
            progress.restore_count(len({run.attempt for run in found}))
        else:
            _take_up_index(progress, plan, records, index, found, make_task, take)


def _take_up_index(
    progress: Progress,
    plan: JobPlan,
    records: Records,
    index: int,
    runs: Iterable[RunId],
    make_task: MakeTask,
    take: Callable[[Place], None],
) -> None:
    readable = list(filter(None, map(records.read, runs)))
    if not readable:
        return
    last = max(record.run.attempt for record in readable)
    for attempt in sorted({record.run.attempt for record in readable} - {last}):
        earlier = [record for record in readable if record.run.attempt == attempt]
        if all(record.reason != Reason.STOPPED.code for record in earlier):
            wall = max(record.ended for record in earlier) - min(record.started for record in earlier)
            progress.restore_failure(plan, index, sum(record.cpu for record in earlier), wall)
    latest = [record for record in readable if record.run.attempt == last]
    place = Place(latest[0].node, latest[0].gpus)
    task = make_task(index, last, place)
    if task.adopt(latest):
        take(place)
        progress.begin(index, task)
        task.start()
    else:
        progress.skip_to_attempt(index, last)
