"""How the demo ends: what was done, what was retried where and why, and what to try next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, Final

import click

from hub.api.indexset import IndexSet
from hub.cli.demo.fasta import FILES, TRUNCATED
from hub.cli.demo.tenants import Story
from hub.cli.invocation import command_line, shown_path

_NEXT: Final = 48
_WIDTH: Final = 100


def print_summary(
    job: dict[str, Any],
    results: list[dict[str, Any]],
    errors: dict[int, str],
    first_running: float,
    seconds: float,
    data: Path,
    story: Story,
) -> bool:
    """Prints it; True when all went as it must: 57 results, the three cut files failed on both sites, the tenants."""
    tasks = job["status"]["tasks"]
    bases = sum(result["bases"] for result in results)
    kmers = sum(result["kmers"] for result in results)
    mean_gc = sum(result["gc"] * result["bases"] for result in results) / max(bases, 1)
    _head("Done")
    click.echo(f"  {tasks['succeeded']} of {FILES} files read: {bases:,} bases, {kmers:,} k-mers, GC {mean_gc:.1%}")
    click.echo(f"  submit to first task running: {first_running * 1000:.0f} ms; everything: {seconds:.1f} s")
    for cluster, count in sorted(_succeeded_by_cluster(job).items()):
        click.echo(f"  {cluster:<10} {count} tasks succeeded")
    _head("Retried elsewhere")
    for line in retries(job):
        click.echo(f"  {line}")
    _head(f"Failed in the end: {tasks.get('failedIndexes', '')}")
    for task, text in sorted(errors.items()):
        click.echo(f"  task {task:>2}  {text}")
    _head("Shared, lent and taken back")
    for line in story.lines():
        click.echo(click.wrap_text(line, _WIDTH, initial_indent="  ", subsequent_indent="    "))
    _head("Try next")
    program = command_line()
    for line, why in (
        (f"{program} up --data {shlex.quote(shown_path(data))}", "goes on where this was; then, in another terminal:"),
        (f"{program} explain {job['metadata']['name']}", "why each site was chosen or not"),
        (f"{program} queue", "who owns, uses, borrows and lends what"),
        (f"{program} run --gpu 1 -- nproc", "a job of your own"),
    ):
        click.echo(f"  {line:<{_NEXT}}  # {why}")
    failed = IndexSet.parse(str(tasks.get("failedIndexes", "")))
    read = failed == IndexSet.of(TRUNCATED) == IndexSet.of(errors) and len(results) == FILES - len(TRUNCATED)
    return read and story.as_it_should


def retries(job: dict[str, Any]) -> list[str]:
    """One line a slice that was a second attempt: which tasks, from where to where, after which exit code."""
    attempts = sorted(job["status"].get("attempts") or (), key=lambda attempt: int(attempt["epoch"]))
    lines = []
    for later in attempts:
        if int(later.get("attempt", 1)) < 2:
            continue
        mine = IndexSet.parse(str(later["tasks"]))
        for earlier in attempts:
            shared = IndexSet.parse(str(earlier.get("failed") or "")) & mine
            if shared and int(earlier["epoch"]) < int(later["epoch"]):
                codes = ", ".join(part.partition("=")[0] for part in str(earlier.get("exitCodes") or "").split(";"))
                again = IndexSet.parse(str(later.get("failed") or "")) & shared
                end = "failed there too" if again == shared else "succeeded there"
                word = "task" if len(shared) == 1 else "tasks"
                lines.append(f"{word} {shared}: exit code {codes} on {earlier['cluster']} → {later['cluster']}, {end}")
    return lines


def _succeeded_by_cluster(job: dict[str, Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for attempt in job["status"].get("attempts") or ():
        done = len(IndexSet.parse(str(attempt.get("succeeded") or "")))
        counts[attempt["cluster"]] = counts.get(attempt["cluster"], 0) + done
    return counts


def _head(text: str) -> None:
    click.echo("\n" + click.style(text, bold=True))
