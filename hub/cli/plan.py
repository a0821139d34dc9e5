"""`quarterdeck plan`: what would be decided for objects in files (or a live hub's), without writing anything."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from hub.api.errors import InvalidObjectError, UsageError

_SUFFIXES = (".yaml", ".yml", ".json")


@click.command(name="plan")
@click.option("-f", "--filename", "files", multiple=True, metavar="FILE", help="A file, a directory, or - (repeat it).")
@click.option("--each", is_flag=True, help="Every file is a fleet of its own; with -o json one line a file.")
@click.option("--from-hub", is_flag=True, help="Decide about the live hub's objects instead of files.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="One document instead of tables.")
@click.option("--now", "moment", metavar="RFC3339", help="The clock, such as 2026-01-31T12:00:00Z (default: now).")
@click.option("--cycles", default="1", metavar="N|settle", help="How often to decide (default 1; a second apart).")
@click.option("--config", type=click.Path(path_type=Path), help="The hub's configuration, or Kueue's.")
@click.option("--mode", type=click.Choice(["fleet", "kueue"]), help="How the queue decides (default: fleet).")
@click.option("--explain", "key", metavar="NS/NAME", help="Everything the decision about this one looked at.")
@click.pass_context
def command(
    ctx: click.Context,
    files: tuple[str, ...],
    each: bool,
    from_hub: bool,
    output: str | None,
    moment: str | None,
    cycles: str,
    config: Path | None,
    mode: str | None,
    key: str | None,
) -> None:
    """Decide about objects without a hub, by the code that decides in one.

    \b
    quarterdeck plan -f objects.yaml              tables
    quarterdeck plan -f dir/ -f - -o json         one document
    quarterdeck plan --each -f cases/ -o json     one line a file
    quarterdeck plan --from-hub                   what the next cycle of the live hub decides
    """
    from hub.cli.plan_input import Settings

    if bool(files) == from_hub:
        raise UsageError("give it files with -f, or --from-hub", field="plan")
    if each and from_hub:
        raise UsageError("is for files", field="--each")
    settings = Settings.read(moment, cycles, config, mode)
    if from_hub:
        from hub.cli.hub_view import hub_view

        view = asyncio.run(hub_view(ctx, key or ""))
        if view.note:
            settings.warn([f"what only the hub knows is missing: {view.note}"])
        settings = settings.knowing(view.scores, view.queue, moment=moment, mode=mode)
        _show(settings.decide(view.sources, live=True, key=key), output)
    elif each:
        sys.exit(_each(settings, files, output, key))
    else:
        from hub.cli.plan_input import file_sources

        _show(settings.decide([s for place in _places(files) for s in file_sources(*place)], key=key), output)


def _each(settings: Any, files: tuple[str, ...], output: str | None, key: str | None) -> int:
    """2 when a file could not be read; the others are decided all the same."""
    from hub.cli.plan_input import file_sources

    code = 0
    for name, text in sorted(_places(files)):
        try:
            document = {"file": name} | settings.decide(file_sources(name, text), key=key)
        except InvalidObjectError as error:
            code = 2
            if output != "json":
                click.echo(f"{click.style('error:', fg='red', bold=True)} {error}", err=True)
                continue
            document = {"file": name, "error": str(error)}
        if output == "json":
            import json

            click.echo(json.dumps(document, ensure_ascii=False, separators=(",", ":")))
        else:
            if output is None:
                click.echo(click.style(name, bold=True))
            _show(document, output, first=False)
    return code


def _places(files: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(what errors call it, its text); a directory gives the files in it by name."""
    for name in files:
        if name == "-":
            yield "standard input", sys.stdin.read()
            continue
        path = Path(name)
        if not path.exists():
            raise UsageError(f"there is no file {name}", field="-f")
        members = sorted(p for p in path.iterdir() if p.suffix in _SUFFIXES) if path.is_dir() else [path]
        if not members:
            raise UsageError(f"no {', '.join(_SUFFIXES)} in directory {name}", field="-f")
        for member in members:
            try:
                yield str(member), member.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(f"cannot read {member}: {error}", field="-f") from error


def _show(document: Mapping[str, Any], output: str | None, *, first: bool = True) -> None:
    if output == "json":
        import json

        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    elif output == "yaml":
        import yaml

        if not first:
            click.echo("---")
        click.echo(yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True), nl=False)
    else:
        from hub.cli.plan_tables import print_plan

        print_plan(document)
