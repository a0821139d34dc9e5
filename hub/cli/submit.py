"""`quarterdeck submit FILE…`: objects from files into the hub, each refused or accepted by itself."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from hub.api.errors import AlreadyExistsError, ApiError, InvalidObjectError, UsageError
from hub.cli.output import output_option, print_objects


@click.command(name="submit")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@output_option
@click.option("--dry-run", is_flag=True, help="Ask the hub whether it would accept them; change nothing.")
@click.pass_context
def command(ctx: click.Context, files: tuple[str, ...], output: str | None, dry_run: bool) -> None:
    """Create the objects in FILE… (YAML or JSON; `-` reads standard input; a directory means every file in it)."""
    objects = load_files(files)
    sys.exit(asyncio.run(_submit(ctx, objects, output, dry_run)))


def load_files(files: tuple[str, ...] | list[str]) -> list[dict[str, Any]]:
    """Every object in `files`, in order. Raises `UsageError` or `InvalidObjectError` naming file and place."""
    from hub.api.validation import load_objects

    objects: list[dict[str, Any]] = []
    for name in files:
        if name == "-":
            objects += load_objects(sys.stdin.read(), "standard input")
            continue
        path = Path(name)
        if not path.exists():
            raise UsageError(f"there is no file {name}")
        members = (
            sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml", ".json")) if path.is_dir() else [path]
        )
        for member in members:
            objects += load_objects(member.read_text(), str(member))
    if not objects:
        raise UsageError(f"no object in {', '.join(files)}")
    return objects


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
                    click.echo("  → it is there already; give it another name, or delete it first", err=True)
                continue
            created.append(answer)
            if output is None:
                verb = "would be created" if dry_run else "created"
                click.echo(f"{verb}  {resource.kind} {answer['metadata']['name']}")
    if output is not None and created:
        print_objects(created, output, single=len(objects) == 1)
    return 1 if refused else 0
