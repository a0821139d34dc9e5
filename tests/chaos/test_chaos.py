"""Twenty rounds of killed processes; `make chaos` plays hundreds. A failure prints its seed."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from e2e.chaos import run_rounds


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_must_hold_holds_through_killed_processes(tmp_path: Path) -> None:
    seed = int(os.environ.get("QUARTERDECK_CHAOS_SEED", time.time()))
    said: list[str] = []
    played = asyncio.run(run_rounds(20, seed, tmp_path, said.append))
    broken = [record for record in played if record.problems]
    assert not broken, f"QUARTERDECK_CHAOS_SEED={seed}\n" + "\n".join(said)
    assert len(played) == 20
