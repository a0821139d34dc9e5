"""`quarterdeck logs JOB`: what tasks wrote, from wherever they ran."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import click

from hub.api.errors import UsageError
from hub.api.indexset import IndexSet
from hub.cli.completion import complete_job

_COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "bright_cyan", "bright_magenta", "bright_yellow")


@click.command(name="logs")
@click.argument("job", shell_complete=complete_job)
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--task", "tasks", metavar="N", help="Only these tasks: 7, or 1,3-57.")
@click.option("--failed", is_flag=True, help="Only tasks that failed.")
@click.option("--tail", type=click.IntRange(0), metavar="LINES", help="Only the last lines of each task.")
@click.option("--prefix/--no-prefix", default=None, help="Name the task before each line (default: when several).")
@click.pass_context
def command(
    ctx: click.Context, job: str, follow: bool, tasks: str | None, failed: bool, tail: int | None, prefix: bool | None
) -> None:
    """Print what the tasks of JOB wrote."""
    sys.exit(asyncio.run(_logs(ctx, job, follow, tasks, failed, tail, prefix)))


async def _logs(
    ctx: click.Context, name: str, follow: bool, tasks: str | None, failed: bool, tail: int | None, prefix: bool | None
) -> int:
    from hub.cli.connection import connect, namespace
    from hub.cli.jobs import get_job
    from hub.cli.task_logs import follow_job, read_logs, sources

    async with connect(ctx) as api:
        job = await get_job(api, name, namespace(ctx))
        total = int(job["spec"].get("tasks", 1))
        wanted = _wanted(job, tasks, failed, total)
        several = (len(wanted) if wanted is not None else total) > 1
        show = Printer(prefix if prefix is not None else several, total)
        if follow:
            async for line in follow_job(api, job, wanted, _notice, lambda _: None):
                show(line.task, line.text)
            return 0
        found = sources(job, wanted)
        if not found:
            reason = job.get("status", {}).get("message") or "no task has started"
            _notice(f"nothing to print yet: {reason}")
        for source in found:
            async for line in read_logs(api, job, source, _notice, tail=tail, follow=False):
                show(line.task, line.text)
    return 0


class Printer:
    """Lines with the task's index before them when several tasks speak."""

    def __init__(self, prefixed: bool, total: int) -> None:
        self._prefixed = prefixed
        self._width = len(str(max(total - 1, 0)))

    def __call__(self, task: int, text: str) -> None:
        if self._prefixed:
            head = click.style(f"{task:>{self._width}} │", fg=_COLOURS[task % len(_COLOURS)])
            click.echo(f"{head} {text}")
        else:
            click.echo(text)


def _wanted(job: dict[str, Any], tasks: str | None, failed: bool, total: int) -> IndexSet | None:
    if failed:
        return IndexSet.parse(str(job.get("status", {}).get("tasks", {}).get("failedIndexes") or ""))
    if tasks is None:
        return None
    wanted = IndexSet.parse(tasks)
    if beyond := wanted - IndexSet.span(total):
        raise UsageError(f"the job has tasks 0-{total - 1}; there is no task {beyond}", field="--task")
    return wanted


def _notice(text: str) -> None:
    click.echo(click.style(text, fg="yellow"), err=True)
