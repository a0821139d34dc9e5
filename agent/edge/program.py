"""Finding the program that a command line names, before anything is started: so that a wrong name is said in words.

Also what a process of the host gets of the agent's own environment: what a login would give it, and no secrets.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final

from agent.edge.launch import LaunchFailed

_INHERITED: Final = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
)
_DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126


def host_environment(own: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What every process of the host starts with."""
    kept = {name: value for name, value in own.items() if name in _INHERITED or name.startswith("LC_")}
    kept.setdefault("PATH", _DEFAULT_PATH)
    return kept


def resolve(command: Sequence[str], path: str, workdir: str) -> tuple[str, ...]:
    """`command` with its program as a path. Raises `LaunchFailed` with the code that a shell would give."""
    program = command[0]
    if "/" in program:
        full = program if os.path.isabs(program) else os.path.join(workdir, program)
        if os.access(full, os.X_OK) and not os.path.isdir(full):
            return tuple(command)
        if os.path.exists(full):
            raise LaunchFailed(f"{program} cannot be executed", NOT_EXECUTABLE)
        raise LaunchFailed(f"{program}: there is no such file on this site", NOT_FOUND)
    for directory in path.split(os.pathsep):
        full = os.path.join(workdir, directory, program)
        if os.access(full, os.X_OK) and os.path.isfile(full):
            return (full, *command[1:])
    raise LaunchFailed(f"{program}: not found on this site (PATH is {path})", NOT_FOUND)
