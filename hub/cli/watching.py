"""`get --watch`: what is there, then each thing again when its row changes. Reads once, then follows watches.

What comes together within a moment is looked at once: one task that ends changes a job, its cluster and its queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import click

from hub.api.errors import NotFoundError
from hub.api.resource import Resource
from hub.cli.listing import Kind, Thing, choose, said
from hub.cli.output import GrowingTable, print_objects
from hub.client.informer import Informer
from hub.client.interface import KubeApi

_TOGETHER: Final = 0.15


async def watch_things(
    api: KubeApi,
    kind: Kind,
    names: Sequence[str],
    namespace: str | None,
    output: str | None,
    *,
    everywhere: bool,
    turns: int | None = None,
) -> None:
    """Until cancelled, or for so many `turns`. Raises `UsageError` when one of `names` is not there at the start."""
    news = asyncio.Event()
    informers = await _informers(api, kind, namespace, news)
    show = _Shown(kind, output, everywhere)
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(informer.run()) for informer in informers.values()]
        try:
            for informer in informers.values():
                await informer.synced.wait()
            first = True
            while turns is None or turns > 0:
                news.clear()
                found = {member: list(informer.store.values()) for member, informer in informers.items()}
                things = kind.things(found)
                # A name that vanishes later is said to be gone, not refused.
                wanted = choose(kind, things, names if first else (), namespace)
                show.update([thing for thing in wanted if not names or thing.name in names])
                first = False
                turns = None if turns is None else turns - 1
                if turns == 0:
                    break
                await news.wait()
                await asyncio.sleep(_TOGETHER)
        finally:
            for task in running:
                task.cancel()


async def _informers(
    api: KubeApi, kind: Kind, namespace: str | None, news: asyncio.Event
) -> dict[Resource, Informer[dict[str, Any]]]:
    """Of the kinds that the server knows."""
    found: dict[Resource, Informer[dict[str, Any]]] = {}
    for member in kind.resources:
        where, selector = namespace if member in kind.local else None, kind.selectors.get(member, "")
        with contextlib.suppress(NotFoundError):
            await api.list(member, where, field_selector="metadata.name=-")
            found[member] = Informer(
                api,
                member,
                where,
                label_selector=selector,
                transform=partial(said, member),
                on_event=lambda *_: news.set(),
            )
    return found


class _Shown:
    """What was printed last of each thing."""

    def __init__(self, kind: Kind, output: str | None, everywhere: bool) -> None:
        self._kind, self._output, self._everywhere = kind, output, everywhere
        self._rows: dict[tuple[str, str, str], Any] = {}
        self._table: GrowingTable | None = None

    def update(self, things: Sequence[Thing]) -> None:
        keyed = {(thing.object.get("kind", ""), thing.namespace, thing.name): thing for thing in things}
        fresh = [thing for key, thing in keyed.items() if self._rows.get(key) != thing.row]
        gone = [key for key in self._rows if key not in keyed]
        self._rows = {key: thing.row for key, thing in keyed.items()}
        if self._output in ("json", "yaml", "name"):
            for thing in fresh:
                print_objects([thing.object], self._output, single=True)
            return
        table = self._kind.table([thing.row for thing in fresh], time.time(), self._everywhere)
        if self._table is None:
            self._table = GrowingTable(table.columns, wide=self._output == "wide")
            self._table.add(table.rows)
        elif table.rows:
            self._table.add(table.rows)
        for _, namespace, name in gone:
            click.echo(f"{f'{namespace}/' if self._everywhere and namespace else ''}{name} is gone")
