from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from edge_rig import Rig


@pytest.fixture
async def rigs(tmp_path: Path) -> AsyncIterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(**entry: Any) -> Rig:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        made.append(Rig(directory, **entry))
        return made[-1]

    yield make
    for rig in made:
        await rig.stop()


@pytest.fixture
async def rig(rigs: Callable[..., Rig]) -> Rig:
    rig = rigs()
    await rig.start()
    return rig


@pytest.fixture(autouse=True)
def _no_container_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tests see a PATH without podman and docker, whatever the machine has."""
    kept = [d for d in os.environ["PATH"].split(os.pathsep) if not any(os.path.exists(f"{d}/{e}") for e in ENGINES)]
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", os.pathsep.join([str(tools), *kept, "/usr/bin", "/bin"]))


ENGINES = ("podman", "docker")
