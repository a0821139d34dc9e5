"""A site as a process of its own, to be killed: `python site_process.py SITE.json DATA`, told by lines on stdin.

`submit JOB-JSON` and `status NAME` are answered by a line of JSON each; everything else of it is the site's own.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from agent.edge.site import EdgeSite
from agent.edge.sitefile import parse_site
from hub.api.errors import AlreadyExistsError, QuarterdeckError
from hub.api.resource import JOBS


async def main() -> None:
    site = EdgeSite(parse_site(json.loads(sys.argv[1])), Path(sys.argv[2]))
    running = asyncio.create_task(site.run())
    await site.ready()
    print("ready", flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode():
        verb, _, rest = line.strip().partition(" ")
        try:
            if verb == "submit":
                answer = await site.api.create(JOBS, json.loads(rest), "default")
            elif verb == "stop":
                await site.stop_tasks()
                answer = {}
            else:
                answer = await site.api.get(JOBS, rest, "default")
        except AlreadyExistsError:
            answer = {}
        except QuarterdeckError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer.get("status") or {}), flush=True)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


asyncio.run(main())
