"""`quarterdeck run -- COMMAND…`: as if the command ran here: its output on this terminal, its exit code as ours."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import click

from hub.api import names
from hub.api.errors import UsageError
from hub.cli.completion import complete_priority, complete_queue
from hub.server.jobs import ENDED


@click.command(name="run", context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
@click.argument("arguments", nargs=-1, required=True, metavar="-- COMMAND [ARG]…", type=click.UNPROCESSED)
@click.option("--name", help="The job's name (default: made from the command).")
@click.option("--queue", metavar="NAME", shell_complete=complete_queue, help="The LocalQueue (default: `default`).")
@click.option("--priority", metavar="CLASS", shell_complete=complete_priority, help="A WorkloadPriorityClass.")
@click.option("--gpu", type=click.IntRange(0), default=0, metavar="N", help="GPUs a task.")
@click.option("--gpu-model", multiple=True, metavar="MODEL", help="Only these models; may be given several times.")
@click.option("--cpu", default="1", show_default=True, metavar="Q", help="CPU a task.")
@click.option("--memory", default="256Mi", show_default=True, metavar="Q", help="Memory a task.")
@click.option("--tasks", type=click.IntRange(1), default=1, metavar="N", help="An array of N tasks.")
@click.option("--parallelism", type=click.IntRange(1), metavar="N", help="At most N tasks at once.")
@click.option("--attempts", type=click.IntRange(1), default=1, metavar="N", help="Attempts a task gets in all.")
@click.option("--image", default="host", show_default=True, help="`host` is the site's own system.")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="Environment; may be given several times.")
@click.option("--workdir", metavar="DIR", help="Working directory on the site (default: this one, for image `host`).")
@click.option("-d", "--detach", is_flag=True, help="Print the job's name and return at once.")
@click.pass_context
def command(ctx: click.Context, /, arguments: tuple[str, ...], detach: bool, **options: Any) -> None:
    """Run COMMAND on the fleet: submit it, follow its output, exit with its code.

    It finds its number in QUARTERDECK_TASK_INDEX, runs in this directory and has no standard input.
    """
    sys.exit(asyncio.run(_run(ctx, fleet_job(arguments, **options), detach)))


def fleet_job(arguments: tuple[str, ...], **options: Any) -> dict[str, Any]:
    """The FleetJob that stands for the command line. Raises `UsageError` by option."""
    environment = []
    for pair in options["env"]:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"{pair!r} is not NAME=VALUE", field="--env")
        environment.append({"name": name, "value": value})
    container: dict[str, Any] = {
        "name": "main",
        "image": options["image"],
        "command": [_literal(word) for word in arguments],
        "resources": {"requests": {"cpu": options["cpu"], "memory": options["memory"]}},
    }
    workdir = options["workdir"] or (os.getcwd() if options["image"] == "host" else None)
    container |= ({"workingDir": workdir} if workdir else {}) | ({"env": environment} if environment else {})
    spec: dict[str, Any] = {"tasks": options["tasks"]}
    spec |= {"queueName": options["queue"]} if options["queue"] else {}
    spec |= {"priorityClassName": options["priority"]} if options["priority"] else {}
    spec |= {"parallelism": options["parallelism"]} if options["parallelism"] else {}
    spec["template"] = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    if options["gpu"]:
        spec["gpu"] = {"count": options["gpu"]} | (
            {"models": list(options["gpu_model"])} if options["gpu_model"] else {}
        )
    elif options["gpu_model"]:
        raise UsageError("it names models for a job that asks for no GPU: add --gpu 1", field="--gpu-model")
    if options["attempts"] > 1:
        spec["retry"] = {"limitPerTask": options["attempts"]}
    stem = re.sub(r"[^a-z0-9]+", "-", Path(arguments[0]).name.lower()).strip("-")[:30] or "run"
    metadata = {"name": options["name"]} if options["name"] else {"generateName": f"{stem}-"}
    return {"apiVersion": names.API_VERSION, "kind": "FleetJob", "metadata": metadata, "spec": spec}


def _literal(word: str) -> str:
    """The shell has had its say: `$$` reaches the program as it is. `$(NAME)` is Kubernetes', for programs that read
    no environment: ``quarterdeck run --tasks 8 -- render --frame '$(QUARTERDECK_TASK_INDEX)'``.
    """
    return word.replace("$$", "$$$$")


async def _run(ctx: click.Context, job: dict[str, Any], detach: bool) -> int:
    from hub.api.errors import AlreadyExistsError
    from hub.api.resource import FLEET_JOBS
    from hub.cli.connection import connect, namespace
    from hub.cli.submit import warn_of_idle_jobs

    where = namespace(ctx)
    async with connect(ctx) as api:
        try:
            created = await api.create(FLEET_JOBS, job, where)
        except AlreadyExistsError:
            raise UsageError(
                f"there is a job {job['metadata']['name']} already",
                field="--name",
                hint="Give another name, or leave --name out.",
            ) from None
        name = created["metadata"]["name"]
        if detach:
            click.echo(name)
            await warn_of_idle_jobs(api, [created])
            return 0
        following = asyncio.create_task(_follow(api, created))
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, following.cancel)
        loop.add_signal_handler(signal.SIGTERM, following.cancel)
        try:
            return await following
        except asyncio.CancelledError:
            await api.patch(FLEET_JOBS, name, {"spec": {"cancel": True}}, where)
            click.echo(f"\ncancelled {name}: its processes are being stopped", err=True)
            return 130


async def _follow(api: Any, job: dict[str, Any]) -> int:
    from contextlib import aclosing

    from hub.cli.jobs import attempts_of, exit_code, get_job, message, phase, total
    from hub.cli.logs import Printer
    from hub.cli.task_logs import follow_job

    name, tasks = job["metadata"]["name"], total(job)
    said: list[str] = [""]

    def notice(text: str) -> None:
        click.echo(click.style(text, dim=True), err=True)

    def on_change(current: dict[str, Any]) -> None:
        # How it ended is said last, below what the tasks wrote.
        if not current.get("status", {}).get("phase") or phase(current) in ENDED:
            return
        text = f"{name}: {phase(current).lower()}"
        if phase(current) == "Admitted" and "running" in said[0]:
            # One slice after the other is no news.
            return
        if phase(current) in ("Pending", "Queued") and message(current):
            text += f": {message(current)}"
        elif phase(current) == "Running" and current["status"].get("clusters"):
            text += f" on {', '.join(current['status']['clusters'])}"
        if text != said[0]:
            said[0] = text
            notice(text)

    notice(f"{name} submitted; Ctrl-C cancels it")
    show = Printer(tasks > 1, tasks)
    async with aclosing(follow_job(api, job, None, notice, on_change)) as lines:
        async for line in lines:
            show(line.task, line.text)
    ended = await get_job(api, name, job["metadata"]["namespace"])
    code = exit_code(ended, await attempts_of(api, ended))
    if code:
        # Of a single task there is nothing to count.
        notice(f"{name}: {phase(ended).lower()}: {message(ended).removeprefix('1 of 1 tasks failed: 0; ')}")
    return code
