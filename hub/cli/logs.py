"""`quarterdeck logs JOB`: what tasks wrote, from wherever they ran."""

from __future__ import annotations

import asyncio
import sys

import click

from hub.api.errors import InvalidIndexSetError, UsageError
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
    from contextlib import aclosing

    from hub.cli.connection import connect, namespace
    from hub.cli.jobs import attempts_of, failed_tasks, get_job, message, total
    from hub.cli.task_logs import follow_job, read_all, sources

    if follow and failed:
        raise UsageError("give --follow or --failed, not both: which tasks fail is not known before they end")
    async with connect(ctx) as api:
        job = await get_job(api, name, namespace(ctx))
        count, attempts = total(job), await attempts_of(api, job)
        wanted = _wanted(tasks, failed_tasks(job, attempts) if failed else None, count)
        several = (len(wanted) if wanted is not None else count) > 1
        show = Printer(prefix if prefix is not None else several, count)
        if follow:
            async with aclosing(follow_job(api, job, wanted, _notice, lambda _: None, tail=tail)) as lines:
                async for line in lines:
                    show(line.task, line.text)
            return 0
        if wanted is not None and not wanted:
            _notice(f"no task of {name} has failed")
            return 0
        found = sources(job, attempts, wanted)
        if not found:
            _notice(f"nothing to print yet: {message(job) or 'no task has started'}")
        async with aclosing(read_all(api, job, found, _notice, tail=tail)) as lines:
            async for line in lines:
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


def _wanted(tasks: str | None, failed: IndexSet | None, total: int) -> IndexSet | None:
    if tasks is None:
        return failed
    try:
        wanted = IndexSet.parse(tasks)
    except InvalidIndexSetError as error:
        raise UsageError(str(error), field="--task") from None
    if beyond := wanted - IndexSet.span(total):
        raise UsageError(f"the job has tasks 0-{total - 1}; there is no task {beyond}", field="--task")
    return wanted if failed is None else wanted & failed


def _notice(text: str) -> None:
    click.echo(click.style(text, fg="yellow"), err=True)
