"""What the demo shows while it runs: sites, the job's bar, the log of decisions; plain lines without a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hub.api.errors import ApiError, UnreachableError
from hub.api.resource import FLEET_JOBS
from hub.cli.demo.decisions import DecisionLog
from hub.cli.demo.site_rows import SiteRow, read_sites
from hub.cli.jobs import watch_job
from hub.client.session import Session

_LOG_LINES: Final = 12
_LOOK_EVERY: Final = 0.25
_BAR_WIDTH: Final = 40


class Screen:
    """`notices` is where the fleet's processes say what a person should know; new ones are shown in the log."""

    def __init__(self, api: Session, notices: Sequence[str]) -> None:
        self._api = api
        self._notices = notices
        self._noticed = 0
        self._console = Console()
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._sites: list[SiteRow] = []
        self._job: dict[str, Any] = {}
        self._began = 0.0

    async def follow(self, job: dict[str, Any]) -> tuple[dict[str, Any], float]:
        """Submits `job` and shows it until it has ended: the job as it ended, and seconds to its first running task."""
        self._began = time.monotonic()
        self._job = created = await self._api.create(FLEET_JOBS, job, "default")
        looking = asyncio.create_task(self._look())
        first_running, decisions = 0.0, DecisionLog()
        live = Live(console=self._console, refresh_per_second=8, transient=False) if sys.stdout.isatty() else None
        with live if live is not None else contextlib.nullcontext():
            try:
                async for current in watch_job(self._api, created["metadata"]["name"], "default"):
                    self._job = current
                    status = current.get("status") or {}
                    if not first_running and status.get("startedAt"):
                        first_running = time.monotonic() - self._began
                    for line in decisions.lines(status):
                        self.say(line)
                    if live is not None:
                        live.update(self._render())
            finally:
                looking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await looking
            self._sites = await read_sites(self._api, self._job, time.time())
            if live is not None:
                live.update(self._render())
        if live is None:
            self._console.print(self._table())
        return self._job, first_running

    async def _look(self) -> None:
        """Reads the sites again and again; a moment without an answer leaves the table as it was."""
        said = 0.0
        while True:
            with contextlib.suppress(ApiError, UnreachableError):
                self._sites = await read_sites(self._api, self._job, time.time())
            for notice in self._notices[self._noticed :]:
                self.say(notice)
            self._noticed = len(self._notices)
            if not sys.stdout.isatty() and time.monotonic() - said > 2:
                said = time.monotonic()
                self._console.print(f"  {self._counts()}")
            await asyncio.sleep(_LOOK_EVERY)

    def say(self, text: str) -> None:
        """A line of the log."""
        line = f"{time.monotonic() - self._began:5.1f} s  {text}"
        self._log.append(line)
        if not sys.stdout.isatty():
            self._console.print(line, highlight=False, soft_wrap=True)

    def _render(self) -> RenderableType:
        log = Text("\n".join(self._log), style="dim", overflow="ellipsis", no_wrap=True)
        return Group(self._table(), "", self._bar(), "", log)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("site", "hardware (declared: simulated)"):
            table.add_column(title)
        for title in ("running", "free", "price/h", "score"):
            table.add_column(title, justify="right")
        best = max((row.score for row in self._sites if row.score is not None), default=None)
        for row in self._sites:
            style = "" if row.slots else "dim"
            table.add_row(
                row.name,
                row.hardware + (" *" if row.simulated else ""),
                str(row.slots - row.free) if row.slots else "-",
                str(row.free) if row.slots else "no such GPU",
                f"{row.price:.2f}" if row.price is not None and row.slots else "-",
                Text(
                    "-" if row.score is None else f"{row.score:.0f}",
                    style="green" if row.score == best else "",
                    justify="right",
                ),
                style=style,
            )
        return table

    def _bar(self) -> RenderableType:
        tasks = _tasks(self._job)
        total = max(int(tasks.get("total") or self._job["spec"].get("tasks", 1)), 1)
        bar, drawn = Text(), 0
        counted = 0
        for key, style in (("succeeded", "green"), ("failed", "red"), ("active", "cyan")):
            counted += int(tasks.get(key, 0))
            upto = round(_BAR_WIDTH * min(counted, total) / total)
            bar.append("█" * (upto - drawn), style)
            drawn = upto
        bar.append("░" * (_BAR_WIDTH - drawn), "bright_black")
        grid = Table.grid(padding=(0, 1))
        grid.add_row(self._job["metadata"]["name"], bar, self._counts())
        return grid

    def _counts(self) -> str:
        tasks = _tasks(self._job)
        parts = (("succeeded", "succeeded"), ("active", "running"), ("pending", "waiting"), ("failed", "failed"))
        return ", ".join(f"{tasks[key]} {word}" for key, word in parts if tasks.get(key)) or "submitted"


def _tasks(job: Mapping[str, Any]) -> Mapping[str, Any]:
    found = (job.get("status") or {}).get("tasks")
    return found if isinstance(found, Mapping) else {}
