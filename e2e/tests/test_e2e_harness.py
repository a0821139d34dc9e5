"""The harness as another program uses it: `python -m e2e.up`, and that nothing of it is left, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from e2e import versions
from e2e.building import CannotBuildError, binaries

pytestmark = pytest.mark.timeout(180)
_ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_up_started_is_gone_with_it(number: signal.Signals, tmp_path: Path) -> None:
    version = os.environ.get("E2E_KUBERNETES") or versions.newest()
    try:
        found = binaries(versions.chosen(version))
    except CannotBuildError as error:
        pytest.skip(str(error))
    process = subprocess.Popen(
        [sys.executable, "-m", "e2e.up", "--members", "0", "--kubernetes", version],
        env={**os.environ, "PYTHONPATH": str(_ROOT), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        ready: dict[str, Any] = json.loads(process.stdout.readline())
        pids = ready["pids"].values()
        assert len(pids) == 3
        said = subprocess.run(
            [found["kubectl"], "--kubeconfig", ready["kubeconfig"], "version", "-o", "json"],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert json.loads(said.stdout)["serverVersion"]["gitVersion"] == f"v{found.version}"
        process.send_signal(number)
        code = process.wait(60)
        assert code == (-signal.SIGKILL if number == signal.SIGKILL else 0)
        deadline = time.monotonic() + 30
        while alive := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
            assert time.monotonic() < deadline, f"still there: {alive}"
            time.sleep(0.1)
        # Of a harness that was killed the directory stays: who would remove it?
        assert number == signal.SIGKILL or not list(tmp_path.iterdir())
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
