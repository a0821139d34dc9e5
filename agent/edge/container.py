"""The command line that runs a container by podman or docker as if it were a process of the host.

The client stays in the foreground under the task's supervisor: signals, output and exit code are the container's.
Variables travel in the client's environment and by name only on its command line, so no value shows in a process list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.edge import shim
from agent.edge.images import ContainerEngine
from agent.edge.notice import INSIDE
from agent.edge.podplan import ContainerPlan


def engine_command(
    engine: ContainerEngine,
    container: ContainerPlan,
    command: Sequence[str],
    args: Sequence[str],
    variables: Mapping[str, str],
    *,
    name: str,
    token: str,
    gpus: Sequence[str],
    scratch: str,
    notices: str,
) -> tuple[str, ...]:
    """`gpus`: as the driver calls them. `scratch`: a directory of the task for its emptyDir volumes. `notices`: the one
    in which it is told that it has to go."""
    line = [engine.path, "run", "--rm", "--name", name, "--label", f"{shim.NAME}={token}", "--network", "host"]
    for variable in sorted(variables):
        line += ["--env", variable]
    if container.workdir:
        line += ["--workdir", container.workdir]
    if container.memory_limit is not None:
        line += ["--memory", str(container.memory_limit)]
    if container.cpu_limit is not None:
        line += ["--cpus", f"{container.cpu_limit / 1000:g}"]
    if gpus and engine.engine == "docker":
        line += ["--gpus", f'"device={",".join(gpus)}"']
    for gpu in gpus if engine.engine == "podman" else ():
        line += ["--device", f"nvidia.com/gpu={gpu}"]
    for mount in container.mounts:
        source = mount.source or f"{scratch}/{mount.name}"
        line += ["--volume", f"{source}:{mount.target}" + (":ro" if mount.read_only else "")]
    line += ["--volume", f"{notices}:{INSIDE}:ro"]
    if command:
        line += ["--entrypoint", command[0]]
    return (*line, container.target, *command[1:], *args)


def container_name(token: str, run: str) -> str:
    return f"quarterdeck-{token}-{run.replace('/', '-')}"
