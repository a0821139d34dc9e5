"""`make bench`: every number, one table a room. Exit 1 when one is missed."""

from __future__ import annotations

import importlib
import sys
import time

from bench.report import print_figures

ROOMS = (
    "apiserver",
    "edge",
    "placement",
    "batch",
    "prometheus",
    "planner",
    "openb",
    "queue",
    "fleet_queue",
    "backlog",
    "jobs",
    "loop",
    "start",
    "scale",
)


def main() -> None:
    chosen = sys.argv[1:] or list(ROOMS)
    unknown = [room for room in chosen if room not in ROOMS]
    if unknown:
        sys.exit(f"there is no bench {', '.join(unknown)}: choose of {', '.join(ROOMS)}")
    held = True
    for room in chosen:
        started = time.monotonic()
        print(f"\n── {room} …", flush=True)
        figures = importlib.import_module(f"bench.{room}").run()
        held = print_figures(f"{room} ({time.monotonic() - started:.0f} s)", figures) and held
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
