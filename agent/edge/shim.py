"""The supervisor of one process: a few lines of POSIX shell between the site and the task.

It outlives the site's agent, which may be killed at any moment: it writes that the process was started and how it ended
into the task's record (agent/edge/records.py), by built-ins alone, and is the leader of the task's session, so that the
whole group can be signalled. It ignores none of the signals (a child would inherit that), it only survives them. Why
not Python: 1 ms of CPU a task instead of 30, and nothing to import while a machine is short of memory.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import Final

# Recognised in a process's command line when the site comes back.
NAME: Final = "quarterdeck-task"
SHELL: Final = "/bin/sh"
# Parameters: cgroup directory or nothing, data limit in KiB or nothing, working directory, then the command.
# Descriptor 1 is the log, 3 the record; the shell's own complaints (such as "Killed") are nobody's output.
SCRIPT: Final = """\
trap : HUP INT QUIT TERM USR1 USR2 ALRM PIPE
echo start >&3
[ -z "$1" ] || echo 0 >"$1/cgroup.procs"
echo 500 >/proc/self/oom_score_adj
[ -z "$2" ] || ulimit -d "$2"
if cd -- "$3"
then shift 3; unset OLDPWD; ( exec "$@" 2>&1 3>&- ); status=$?
else echo "quarterdeck: cannot enter the working directory $3"; status=128
fi
echo "exit $status" >&3
times >&3
"""
_DEFAULT_SIGNALS: Final = [number for number in signal.Signals if number not in (signal.SIGKILL, signal.SIGSTOP)]


def spawn(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    record: int,
    log: str,
    workdir: str,
    cgroup: str = "",
    data_limit: int | None = None,
) -> int:
    """Starts the supervisor and returns its pid, which is also its session and process group. Raises `OSError`.

    `record`: the open record, placed at its marks. `data_limit`: bytes of private memory (RLIMIT_DATA).
    """
    limit = "" if data_limit is None else str(max(1, data_limit >> 10))
    return os.posix_spawn(
        SHELL,
        ["sh", "-c", SCRIPT, NAME, cgroup, limit, workdir, *_through_env(command, environment)],
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, record, 3),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=_DEFAULT_SIGNALS,
    )


def _through_env(command: Sequence[str], environment: Mapping[str, str]) -> Sequence[str]:
    """Shells drop variables whose names they cannot say (``a.b``): env(1) puts those in again."""
    odd = [f"{name}={value}" for name, value in environment.items() if not name.isidentifier() or not name.isascii()]
    return ["/usr/bin/env", *odd, *command] if odd else command


def is_shim(pid: int) -> bool:
    """Whether the process with this pid is such a supervisor, by its command line."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            parts = file.read().split(b"\0")
    except OSError:
        return False
    return len(parts) > 4 and parts[1] == b"-c" and parts[3] == NAME.encode()
