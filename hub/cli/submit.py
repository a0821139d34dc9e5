"""`quarterdeck submit FILE…`: objects from files into the hub, each refused or accepted by itself."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from hub.api import names
from hub.api.errors import AlreadyExistsError, ApiError, InvalidObjectError, UsageError
from hub.api.resource import FLEET_JOBS, JOBS, LOCAL_QUEUES, Resource
from hub.cli.output import output_option, print_objects
from hub.client.interface import KubeApi
from hub.server.jobs import job_row


@click.command(name="submit")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@output_option
@click.option("--dry-run", is_flag=True, help="Ask the hub whether it would accept them; change nothing.")
@click.pass_context
def command(ctx: click.Context, files: tuple[str, ...], output: str | None, dry_run: bool) -> None:
    """Create the objects in FILE… (YAML or JSON; `-` reads standard input; a directory means every file in it)."""
    objects = load_files(files)
    sys.exit(asyncio.run(_submit(ctx, objects, output, dry_run)))


def load_files(files: Sequence[str]) -> list[dict[str, Any]]:
    """Every object in `files`, in order. Raises `UsageError`, or `InvalidObjectError` for what is wrong in any file."""
    from hub.api.validation import load_objects

    objects: list[dict[str, Any]] = []
    problems: list[InvalidObjectError] = []
    for text, source in _texts(files):
        try:
            objects += load_objects(text(), source)
        except InvalidObjectError as error:
            problems.append(error)
    if problems:
        hint = problems[0].hint if len(problems) == 1 else ""
        raise InvalidObjectError("\n".join(str(problem) for problem in problems), hint=hint)
    return objects


def _texts(files: Sequence[str]) -> Iterator[tuple[Callable[[], str], str]]:
    """How to read each file, and what to call it."""
    for name in files:
        if name == "-":
            yield partial(_decoded, sys.stdin.buffer.read, "standard input"), "standard input"
            continue
        path = Path(name)
        if not path.exists():
            raise UsageError(f"there is no file {name}")
        members = [path]
        if path.is_dir():
            members = sorted(member for member in path.iterdir() if member.suffix in (".yaml", ".yml", ".json"))
            if not members:
                raise UsageError(f"there is no .yaml, .yml or .json file in {name}")
        for member in members:
            yield partial(_decoded, member.read_bytes, str(member)), str(member)


def _decoded(read: Callable[[], bytes], source: str) -> str:
    try:
        return read().decode("utf-8-sig")
    except OSError as error:
        raise InvalidObjectError(f"{source}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidObjectError(f"{source}: not text in UTF-8: byte {error.start} is none") from error


async def _submit(ctx: click.Context, objects: list[dict[str, Any]], output: str | None, dry_run: bool) -> int:
    from hub.api.resource import resource_of
    from hub.cli.connection import connect, namespace

    default_namespace = namespace(ctx)
    created: list[dict[str, Any]] = []
    refused = 0
    async with connect(ctx) as api:
        for obj in objects:
            label = f"{obj.get('kind', 'object')} {obj.get('metadata', {}).get('name', '')}".strip()
            try:
                resource = resource_of(obj)
                target = obj.get("metadata", {}).get("namespace") or default_namespace
                answer = await api.create(resource, obj, target if resource.namespaced else None, dry_run=dry_run)
            except (ApiError, InvalidObjectError) as error:
                refused += 1
                click.echo(f"{click.style('refused', fg='red')}  {label}: {error}", err=True)
                if isinstance(error, AlreadyExistsError):
                    click.echo(f"  → {_instead(resource)}", err=True)
                continue
            created.append(answer)
            if output is None:
                verb = "would be created" if dry_run else "created"
                click.echo(f"{verb}  {resource.kind} {answer['metadata']['name']}")
        await warn_of_idle_jobs(api, created)
    if output is not None and created:
        print_objects(created, output, single=len(objects) == 1)
    return 1 if refused else 0


def _instead(resource: Resource) -> str:
    if resource in (FLEET_JOBS, JOBS):
        return "Give it another name, or `generateName: sweep-` instead of a name: then each submission is a new job."
    return "To change what is there: `kubectl apply -f FILE` with the hub's kubeconfig."


async def warn_of_idle_jobs(api: KubeApi, jobs: Sequence[Mapping[str, Any]]) -> None:
    """A job may come before its queue, so it is no error: but usually a slip of the pen."""
    from hub.jobs.spec import is_ours

    known: dict[str, set[str]] = {}
    for job in jobs:
        if job.get("kind") not in ("FleetJob", "Job"):
            continue
        row = job_row(job)
        if job["kind"] == "Job" and not is_ours(job):
            _warn(
                f"nobody runs Job {row.name} here: the hub takes those with the label {names.QUEUE_NAME} that are "
                f"suspended or managed by {names.MANAGED_BY}"
            )
            continue
        if row.namespace not in known:
            try:
                listing = await api.list(LOCAL_QUEUES, row.namespace)
            except ApiError:
                return
            known[row.namespace] = {str(item["metadata"]["name"]) for item in listing.items}
        if row.queue not in known[row.namespace]:
            there = ", ".join(sorted(known[row.namespace])) or "none yet"
            _warn(f"{row.name} waits: there is no queue {row.queue} in namespace {row.namespace}; there is: {there}")


def _warn(text: str) -> None:
    click.echo(f"{click.style('warning:', fg='yellow')} {text}", err=True)
