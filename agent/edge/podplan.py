"""A pod template as a site will run it: read once a job, refused by field where a site cannot honour it.

Everything here is the same for all tasks of a job; what differs from task to task (its index, its node) is filled in by
agent/edge/environment.py. A field that would change what runs and cannot be honoured (a volume in a host process, a
probe, another user) is refused; what only concerns a Kubernetes cluster (service accounts, ports) is passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from agent.edge.images import HOST, Images
from agent.edge.nodes import PODS, Need
from agent.edge.selection import node_rule
from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.api.quantity import Quantity
from hub.api.reasons import Reason
from hub.api.timestamps import parse_duration

Json = Mapping[str, Any]
RestartPolicy = Literal["Always", "OnFailure", "Never"]
_RESTART: Final = ("Always", "OnFailure", "Never")
_UNSUPPORTED_POD: Final = ("ephemeralContainers", "schedulingGates", "resourceClaims")
_UNSUPPORTED_CONTAINER: Final = ("livenessProbe", "startupProbe", "lifecycle", "volumeDevices", "restartPolicyRules")
DEFAULT_GRACE: Final = 30.0
# What a simulated task lasts when nobody says.
DEFAULT_SIMULATED_SECONDS: Final = 1.0


class PodRefused(InvalidObjectError):
    """This site cannot run the pod as it is written; `reason` is what its Job or Pod says."""

    def __init__(self, message: str, *, field: str = "", reason: Reason = Reason.POD_NOT_SUPPORTED) -> None:
        super().__init__(message, field=field)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory of the host inside a container; `source` empty: one that lasts as long as the task."""

    name: str
    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """`target`: ``host``, or the image for the container runtime. `env` and `env_from` are as the pod has them."""

    name: str
    target: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: tuple[Json, ...]
    env_from: tuple[Json, ...]
    workdir: str
    limits: Mapping[str, Quantity]
    requests: Mapping[str, Quantity]
    mounts: tuple[Mount, ...] = ()
    gpus: int = 0
    gpu_share: int = 0

    @property
    def memory_limit(self) -> int | None:
        return self.limits["memory"].ceil() if "memory" in self.limits else None

    @property
    def cpu_limit(self) -> int | None:
        """In thousandths."""
        return self.limits["cpu"].milli() if "cpu" in self.limits else None


@dataclass(frozen=True, slots=True)
class PodPlan:
    """`simulated_seconds` is unscaled."""

    init: tuple[ContainerPlan, ...]
    containers: tuple[ContainerPlan, ...]
    restart: RestartPolicy
    grace: float
    deadline: float | None
    need: Need
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    service_account: str = "default"
    simulated_seconds: float = DEFAULT_SIMULATED_SECONDS
    simulated_exit: int = 0


def plan_pod(metadata: Json, spec: Any, images: Images, *, simulated: bool, default_restart: str) -> PodPlan:
    """Raises `PodRefused`, or `InvalidObjectError` by field for what is not a pod at all."""
    spec = _map(spec, "spec")
    if simulated:
        # Nothing of it is carried out, so nothing of it is to be refused; only what decides where and how long.
        return _plan_simulated(metadata, spec, default_restart)
    for name in _UNSUPPORTED_POD:
        if spec.get(name):
            raise PodRefused("is not supported on a site without Kubernetes", field=f"spec.{name}")
    volumes = {str(v.get("name")): v for v in _maps(spec.get("volumes"), "spec.volumes")}
    init = tuple(_containers(spec, "initContainers", images, volumes))
    containers = tuple(_containers(spec, "containers", images, volumes))
    if not containers:
        raise InvalidObjectError("a pod has at least one container", field="spec.containers")
    security = spec.get("securityContext") or {}
    _check_user(security, "spec.securityContext")
    seen: set[str] = set()
    for container in (*init, *containers):
        if container.name in seen:
            raise InvalidObjectError(f"{container.name!r} is there twice", field="spec.containers")
        seen.add(container.name)
    return PodPlan(
        init=init,
        containers=containers,
        need=_need(init, containers, spec),
        **_common(metadata, spec, default_restart),
    )


def _plan_simulated(metadata: Json, spec: Json, default_restart: str) -> PodPlan:
    annotations = _strings(metadata.get("annotations"))
    init, containers = (
        tuple(_simulated_container(c, f"spec.{part}[{n}]") for n, c in enumerate(_maps(spec.get(part), f"spec.{part}")))
        for part in ("initContainers", "containers")
    )
    if not containers:
        raise InvalidObjectError("a pod has at least one container", field="spec.containers")
    seconds, code = DEFAULT_SIMULATED_SECONDS, 0
    if names.SIMULATED_DURATION in annotations:
        where = f"metadata.annotations[{names.SIMULATED_DURATION}]"
        try:
            seconds = parse_duration(annotations[names.SIMULATED_DURATION]).total_seconds()
        except (InvalidObjectError, OverflowError) as error:
            raise InvalidObjectError(str(error), field=where) from error
    if names.SIMULATED_EXIT_CODE in annotations:
        text = annotations[names.SIMULATED_EXIT_CODE]
        if not (text.isdecimal() and int(text) <= 255):
            raise InvalidObjectError(
                f"{text!r} is not an exit code from 0 to 255",
                field=f"metadata.annotations[{names.SIMULATED_EXIT_CODE}]",
            )
        code = int(text)
    return PodPlan(
        init=(),
        containers=containers[:1],
        need=_need(init, containers, spec),
        simulated_seconds=seconds,
        simulated_exit=code,
        **_common(metadata, spec, default_restart),
    )


def _common(metadata: Json, spec: Json, default_restart: str) -> dict[str, Any]:
    restart = spec.get("restartPolicy") or default_restart
    if restart not in _RESTART:
        raise InvalidObjectError(f"{restart!r}: write {', '.join(_RESTART)}", field="spec.restartPolicy")
    grace = spec.get("terminationGracePeriodSeconds")
    deadline = spec.get("activeDeadlineSeconds")
    return {
        "restart": cast(RestartPolicy, restart),
        "grace": DEFAULT_GRACE if grace is None else seconds(grace, "spec.terminationGracePeriodSeconds", 0),
        "deadline": None if deadline is None else seconds(deadline, "spec.activeDeadlineSeconds", 1),
        "labels": _strings(metadata.get("labels")),
        "annotations": _strings(metadata.get("annotations")),
        "service_account": str(spec.get("serviceAccountName") or "default"),
    }


def seconds(value: Any, where: str, least: int) -> float:
    """A whole number of seconds. Raises `InvalidObjectError` naming the field."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 10**9:
        raise InvalidObjectError(f"{value!r} is not a whole number of seconds from {least}", field=where)
    return float(value)


def _simulated_container(container: Json, where: str) -> ContainerPlan:
    limits, requests = _resources(container, where)
    gpus, share = _gpus(requests, where)
    name = str(container.get("name") or "")
    return ContainerPlan(name, HOST, (), (), (), (), "", limits, requests, (), gpus, share)


def _containers(spec: Json, part: str, images: Images, volumes: Json) -> Iterable[ContainerPlan]:
    for number, container in enumerate(_maps(spec.get(part), f"spec.{part}")):
        where = f"spec.{part}[{number}]"
        name = container.get("name")
        if not isinstance(name, str) or not name:
            raise InvalidObjectError("required: the container's name", field=f"{where}.name")
        for field_ in _UNSUPPORTED_CONTAINER:
            if container.get(field_):
                raise PodRefused("is not supported on a site without Kubernetes", field=f"{where}.{field_}")
        if container.get("restartPolicy") not in (None, ""):
            raise PodRefused("sidecars are not supported on a site without Kubernetes", field=f"{where}.restartPolicy")
        image = str(container.get("image") or "")
        target = images.resolve(image)
        if target is None:
            raise PodRefused(
                Reason.IMAGE_NOT_AVAILABLE.message(image=image),
                field=f"{where}.image",
                reason=Reason.IMAGE_NOT_AVAILABLE,
            )
        command = _texts(container.get("command"), f"{where}.command")
        args = _texts(container.get("args"), f"{where}.args")
        if target == HOST:
            if not command and not args:
                raise PodRefused("required: the host has no entry point of its own", field=f"{where}.command")
            _check_user(container.get("securityContext") or {}, f"{where}.securityContext")
        workdir = str(container.get("workingDir") or "")
        if workdir and not os.path.isabs(workdir):
            raise InvalidObjectError(f"{workdir!r} is not an absolute path", field=f"{where}.workingDir")
        limits, requests = _resources(container, where)
        gpus, share = _gpus(requests, where)
        mounts = tuple(_mounts(container, where, volumes, host=target == HOST))
        env = tuple(_maps(container.get("env"), f"{where}.env"))
        for position, variable in enumerate(env):
            text = variable.get("name")
            if not isinstance(text, str) or not text or "=" in text or "\0" in text:
                raise InvalidObjectError(f"{text!r} is not a variable's name", field=f"{where}.env[{position}].name")
        env_from = tuple(_maps(container.get("envFrom"), f"{where}.envFrom"))
        yield ContainerPlan(
            name, target, command, args, env, env_from, workdir, limits, requests, mounts, gpus, share
        )  # fmt: skip


def _mounts(container: Json, where: str, volumes: Json, *, host: bool) -> Iterable[Mount]:
    for number, mount in enumerate(_maps(container.get("volumeMounts"), f"{where}.volumeMounts")):
        field_ = f"{where}.volumeMounts[{number}]"
        name, target = str(mount.get("name") or ""), str(mount.get("mountPath") or "")
        volume = volumes.get(name)
        if volume is None:
            raise InvalidObjectError(f"there is no volume {name!r}", field=f"{field_}.name")
        if mount.get("subPath") or mount.get("subPathExpr"):
            raise PodRefused("subPath is not supported on a site without Kubernetes", field=field_)
        source = str((volume.get("hostPath") or {}).get("path") or "")
        if host and source.rstrip("/") != target.rstrip("/"):
            raise PodRefused(
                "a process of the host sees the host's own files: only a hostPath at its own path can be mounted",
                field=field_,
            )
        if not host and not source and volume.get("emptyDir") is None:
            raise PodRefused("only hostPath and emptyDir volumes are supported here", field=field_)
        yield Mount(name, source, target, bool(mount.get("readOnly")))


def _check_user(security: Json, where: str) -> None:
    user = security.get("runAsUser")
    if user is not None and user != os.getuid():
        raise PodRefused(f"processes of the host run as user {os.getuid()}", field=f"{where}.runAsUser")
    if security.get("runAsNonRoot") and os.getuid() == 0:
        raise PodRefused("processes of the host run as root here", field=f"{where}.runAsNonRoot")


def _resources(container: Json, where: str) -> tuple[dict[str, Quantity], dict[str, Quantity]]:
    """(limits, requests); a request that is missing is the limit."""
    resources = _map(container.get("resources") or {}, f"{where}.resources")
    limits = _quantities(resources.get("limits"), f"{where}.resources.limits")
    return limits, {**limits, **_quantities(resources.get("requests"), f"{where}.resources.requests")}


def _quantities(value: Any, where: str) -> dict[str, Quantity]:
    found: dict[str, Quantity] = {}
    for name, amount in _map(value or {}, where).items():
        try:
            found[str(name)] = Quantity(amount)
        except (InvalidObjectError, TypeError) as error:
            raise InvalidObjectError(str(error), field=f"{where}.{name}") from error
        if found[str(name)].nano < 0:
            raise InvalidObjectError(f"{amount} is negative", field=f"{where}.{name}")
    return found


def _gpus(requests: Mapping[str, Quantity], where: str) -> tuple[int, int]:
    """(whole GPUs, share of one in thousandths)"""
    whole = requests[names.GPU].ceil() if names.GPU in requests else 0
    share = requests[names.GPU_MILLI].ceil() if names.GPU_MILLI in requests else 0
    if whole and share:
        raise InvalidObjectError(f"{names.GPU} and {names.GPU_MILLI} exclude each other", field=f"{where}.resources")
    if share > 1000:
        if share % 1000:
            raise InvalidObjectError(
                f"{share} is more than one GPU and not a whole number of them",
                field=f"{where}.resources.requests.{names.GPU_MILLI}",
            )
        whole, share = share // 1000, 0
    return (whole + 1, 0) if share == 1000 else (whole, share)


def _need(init: tuple[ContainerPlan, ...], containers: tuple[ContainerPlan, ...], spec: Json) -> Need:
    """Kubernetes' rule: the sum of what runs side by side, or the largest that runs alone where that is more."""
    total: dict[str, int] = {}
    for container in containers:
        for name, amount in _amounts(container).items():
            total[name] = total.get(name, 0) + amount
    for container in init:
        for name, amount in _amounts(container).items():
            total[name] = max(total.get(name, 0), amount)
    for name, quantity in _quantities(spec.get("overhead"), "spec.overhead").items():
        total[name] = total.get(name, 0) + (quantity.milli() if name == "cpu" else quantity.ceil())
    gpus, share = total.pop(names.GPU, 0), total.pop(names.GPU_MILLI, 0)
    if share and (gpus or share > 1000):
        raise PodRefused(
            "the containers of one task share one GPU or take whole ones, not both", field="spec.containers"
        )
    return Need(
        cpu=total.pop("cpu", 0),
        memory=total.pop("memory", 0),
        gpus=gpus,
        gpu_share=share,
        other=tuple(sorted((name, amount) for name, amount in ({PODS: 1} | total).items() if amount)),
        rule=node_rule(spec),
    )


def _amounts(container: ContainerPlan) -> dict[str, int]:
    amounts = {
        name: quantity.milli() if name == "cpu" else quantity.ceil()
        for name, quantity in container.requests.items()
        if name not in (names.GPU, names.GPU_MILLI)
    }
    return amounts | {names.GPU: container.gpus, names.GPU_MILLI: container.gpu_share}


def _map(value: Any, where: str) -> Json:
    if not isinstance(value, Mapping):
        raise InvalidObjectError(f"{value!r} is not a map", field=where)
    return value


def _maps(value: Any, where: str) -> list[Json]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidObjectError(f"{value!r} is not a list", field=where)
    return [_map(entry, f"{where}[{number}]") for number, entry in enumerate(value)]


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(text, str) and "\0" not in text for text in value):
        raise InvalidObjectError(f"{value!r} is not a list of strings", field=where)
    return tuple(value)


def _strings(value: Any) -> dict[str, str]:
    return {str(key): str(member) for key, member in (value or {}).items()} if isinstance(value, Mapping) else {}
