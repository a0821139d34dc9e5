"""Stands in for podman and docker: a client whose containers outlive it, with their state in files beside the script.

It does what the site relies on and nothing more: info, run (in the foreground, signals passed on), ps, rm --force.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

STATE = Path(sys.argv[0]).parent / "engine-state"


def main() -> int:
    STATE.mkdir(exist_ok=True)
    verb, *arguments = sys.argv[1:]
    with open(STATE / "calls", "a") as calls:
        calls.write("\t".join(sys.argv[1:]) + "\n")
    if verb == "info":
        return 1 if (STATE / "down").exists() else 0
    if verb == "ps":
        print("\n".join(path.name.removesuffix(".pid") for path in STATE.glob("*.pid")))
        return 0
    if verb == "rm":
        path = STATE / f"{arguments[-1]}.pid"
        if path.exists():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(path.read_text()), signal.SIGKILL)
            path.unlink(missing_ok=True)
        return 0
    return run(arguments)


def run(arguments: list[str]) -> int:
    options: dict[str, list[str]] = {}
    while arguments[0].startswith("--"):
        option = arguments.pop(0)
        if option != "--rm":
            options.setdefault(option, []).append(arguments.pop(0))
    _image, *command = arguments
    environment = {name: os.environ[name] for name in options.get("--env", [])}
    workdir = options.get("--workdir", ["/"])[0]
    # A container is known by its name before anything in it runs.
    gate = ["/bin/sh", "-c", 'read _; exec "$@"', "gate"]
    container = subprocess.Popen(
        [*gate, *options["--entrypoint"], *command],
        stdin=subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", **environment},
        cwd=workdir,
        start_new_session=True,
    )
    path = STATE / f"{options['--name'][0]}.pid"
    path.write_text(str(container.pid))
    assert container.stdin is not None
    container.stdin.write(b"\n")
    container.stdin.flush()
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(container.pid, signal.SIGTERM))
    code = container.wait()
    path.unlink(missing_ok=True)
    return code if code >= 0 else 128 - code


sys.exit(main())
