"""What an image name means on a site: the host itself, or an image that a container runtime found there runs.

The site's file maps names by pattern; the first that matches counts. A name that is mapped to nothing goes to the
container runtime as it is; where there is none, it cannot run here, and the hub learns that beforehand from `offered`.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

HOST = "host"
Engine = Literal["podman", "docker"]
_ENGINES: tuple[Engine, ...] = ("podman", "docker")
_ANSWER_SECONDS = 3.0
_log = logging.getLogger("agent.edge.images")


@dataclass(frozen=True, slots=True)
class ContainerEngine:
    """A container runtime that answered."""

    engine: Engine
    path: str


@dataclass(frozen=True, slots=True)
class Images:
    """`anything`: the simulated runtime, which runs no image at all and therefore every one."""

    mapping: Mapping[str, str]
    engine: ContainerEngine | None = None
    anything: bool = False

    def resolve(self, image: str) -> str | None:
        """``host``, the image to run, or None when this site cannot run it. No image means the host."""
        if self.anything or not image or image == HOST:
            return HOST
        target = next((target for pattern, target in self.mapping.items() if matches(image, pattern)), None)
        if target == HOST:
            return HOST
        if self.engine is None:
            return None
        return target or image

    def offered(self) -> list[str]:
        """For `capacity()`: patterns of what runs here; empty means anything."""
        if self.anything or self.engine is not None:
            return []
        return sorted({HOST, *(pattern for pattern, target in self.mapping.items() if target == HOST)})


def matches(image: str, pattern: str) -> bool:
    """Only * is special in a pattern: names hold brackets and question marks as themselves."""
    return fnmatchcase(image, pattern.replace("[", "[[]").replace("?", "[?]"))


async def find_engine() -> ContainerEngine | None:
    """podman or docker, whichever is on PATH and answers within three seconds; a client without its service is none."""
    for engine in _ENGINES:
        path = shutil.which(engine)
        if path is None:
            continue
        process = await asyncio.create_subprocess_exec(
            path, "info", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                code = await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            code = -1
        if code == 0:
            return ContainerEngine(engine, path)
        _log.info("container runtime does not answer: its images are refused", extra={"fields": {"engine": engine}})
    return None
