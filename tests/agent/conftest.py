from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from agent_rig import Rig


@pytest.fixture
async def rigs(tmp_path: Path) -> AsyncIterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(**options: Any) -> Rig:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        made.append(Rig(directory, **options))
        return made[-1]

    yield make
    for rig in made:
        await rig.stop()


@pytest.fixture
async def rig(rigs: Callable[..., Rig]) -> Rig:
    rig = rigs()
    await rig.start()
    return rig
