"""What one task needs of a node: the question that every fit answers, and the key of every fit cache.

Made once a job from its pod template and `gpu`; hashable, so that ten thousand jobs of fifty shapes cost fifty fits.
What it does not hold: how many tasks there are, or where they may run (that is the placement rule's).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hub.api import names
from hub.api.errors import InvalidObjectError
from hub.api.nodeaffinity import HOSTNAME, NodeTerm, required_terms
from hub.api.quantity import Quantity

# Taints with these effects keep tasks away; PreferNoSchedule does not.
_FORBIDS = ("NoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True, order=True)
class Toleration:
    """core/v1 Toleration, without the time limit: a task is not placed where it would be evicted at once."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def tolerates(self, key: str, value: str, effect: str) -> bool:
        if self.effect and self.effect != effect:
            return False
        if self.key and self.key != key:
            return False
        if not self.key and self.operator != "Exists":
            return False
        return self.operator == "Exists" or self.value == value


# More than any cluster has of anything, and still an int64 beside another one: what asks for more fits nowhere all the
# same, and must not end a decision about everyone.
MOST = 2**62
_HASHED = (
    "requests", "gpu_share", "gpu_models", "gpu_min_memory", "node_selector", "tolerations", "images", "node_affinity",
    "gpu_slot", "domain", "parts",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TaskShape:
    """`requests`: sorted (resource, amount), cpu in thousandths, all else in whole units; GPUs as ``nvidia.com/gpu``.

    `gpu_share` is thousandths of one GPU and excludes ``nvidia.com/gpu``; `gpu_min_memory` is bytes of each GPU.
    `node_affinity`: alternatives, one of which a node must meet; none: any node. `gpu_slot`: its one GPU was asked for
    by the resource's name only, so one that others have a slice of time of is as good. `domain`: a node label, whose
    value must be the same on all nodes that tasks are put on together; empty: it does not matter. `parts`: it is no
    one pod but all of these, which get quota together and no place; `requests` is their sum.
    """

    requests: tuple[tuple[str, int], ...] = ()
    gpu_share: int = 0
    gpu_models: tuple[str, ...] = ()
    gpu_min_memory: int = 0
    node_selector: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    images: tuple[str, ...] = ()
    node_affinity: tuple[NodeTerm, ...] = ()
    gpu_slot: bool = False
    domain: str = ""
    parts: tuple[Pods, ...] = ()
    # The key of every cache of fits: hashed once, not at each look.
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash(tuple(getattr(self, name) for name in _HASHED)))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[type[TaskShape], tuple[object, ...]]:
        # A hash of strings is another one in another process.
        return TaskShape, tuple(getattr(self, name) for name in _HASHED)

    def request(self, resource: str) -> int:
        return next((amount for name, amount in self.requests if name == resource), 0)

    @property
    def gpus(self) -> int:
        return self.request(names.GPU)

    @property
    def gpu_milli(self) -> int:
        """Thousandths of GPUs in all: what quotas of ``fleet.quarterdeck.dev/gpu-milli`` count."""
        return self.gpu_share or self.gpus * 1000

    def tolerates(self, key: str, value: str, effect: str) -> bool:
        """Whether a taint does not keep the task away."""
        return effect not in _FORBIDS or any(t.tolerates(key, value, effect) for t in self.tolerations)

    def __str__(self) -> str:
        parts = [
            f"{Quantity.from_nano(amount * 10**6) if name == 'cpu' else _readable(name, amount)} {_unit(name)}"
            for name, amount in self.requests
            if name != names.GPU
        ]
        model = "/".join(self.gpu_models) or "GPU"
        if self.gpus:
            parts.append(f"{self.gpus} × {model}")
        if self.gpu_share:
            parts.append(f"{self.gpu_share / 1000:g} of a {model}")
        if self.gpu_min_memory:
            parts.append(f"≥ {Quantity(self.gpu_min_memory)} of GPU memory")
        return ", ".join(parts) or "nothing"


@dataclass(frozen=True, slots=True)
class Pods:
    """Some equal pods of a whole: `count` of `shape`, or no fewer than `least` where that would do (None: it would
    not). Those of one `group` take their resources from the same flavors."""

    name: str
    shape: TaskShape
    count: int
    least: int | None = None
    group: str = ""


def on_domain(shape: TaskShape, domain: tuple[str, str] | None) -> TaskShape:
    """The shape bound to the nodes of one domain (a node label and its value); None: as it is, wherever it fits."""
    if domain is None:
        return replace(shape, domain="") if shape.domain else shape
    selector = {**dict(shape.node_selector), domain[0]: domain[1]}
    return replace(shape, domain="", node_selector=tuple(sorted(selector.items())))


def task_shape(template: Mapping[str, Any], gpu: Mapping[str, Any] | None = None) -> TaskShape:
    """The shape of one pod of `template` (a PodTemplateSpec), with a FleetJob's `gpu` where it has one.

    Requests are Kubernetes': the sum over containers and sidecars, or the largest init container with the sidecars
    started before it where that is more; a request that is missing is the limit. Raises `InvalidObjectError` with the
    field that cannot be read.
    """
    spec = template.get("spec") or {}
    running: dict[str, int] = {}
    for index, container in enumerate(spec.get("containers") or ()):
        _add(running, _requests(container, f"template.spec.containers[{index}].resources"))
    beside: dict[str, int] = {}
    peak: dict[str, int] = {}
    for index, container in enumerate(spec.get("initContainers") or ()):
        here = _requests(container, f"template.spec.initContainers[{index}].resources")
        if container.get("restartPolicy") == "Always":
            # A sidecar: it goes on beside all that start after it.
            _add(beside, here)
            here = {}
        for name in {**here, **beside}:
            peak[name] = max(peak.get(name, 0), here.get(name, 0) + beside.get(name, 0))
    _add(running, beside)
    for name, amount in peak.items():
        running[name] = max(running.get(name, 0), amount)
    for name, value in (spec.get("overhead") or {}).items():
        running[name] = running.get(name, 0) + amount_of(name, value, f"template.spec.overhead.{name}")
    share = 0
    slot = not gpu and running.get(names.GPU) == 1
    gpu = gpu or {}
    if gpu.get("share") is not None:
        share = amount_of("cpu", gpu["share"], "gpu.share")
        running.pop(names.GPU, None)
    elif gpu:
        running[names.GPU] = int(gpu["count"]) if gpu.get("count") is not None else 1
    elif running.get(names.GPU_MILLI, 0) <= 1000 and not running.get(names.GPU):
        # As the slices of a FleetJob with a share ask for it.
        share = running.pop(names.GPU_MILLI, 0)
    selector = {str(key): str(value) for key, value in (spec.get("nodeSelector") or {}).items()}
    if spec.get("nodeName"):
        selector[HOSTNAME] = str(spec["nodeName"])
    tolerations = tuple(
        Toleration(
            str(t.get("key") or ""),
            str(t.get("operator") or "Equal"),
            str(t.get("value") or ""),
            str(t.get("effect") or ""),
        )
        for t in spec.get("tolerations") or ()
    )
    return TaskShape(
        requests=tuple(sorted((name, min(amount, MOST)) for name, amount in running.items() if amount)),
        gpu_share=share,
        gpu_models=tuple(sorted({str(model) for model in gpu.get("models") or ()})),
        gpu_min_memory=amount_of("memory", gpu["minMemory"], "gpu.minMemory") if gpu.get("minMemory") else 0,
        node_selector=tuple(sorted(selector.items())),
        tolerations=tuple(sorted(set(tolerations))),
        images=tuple(sorted({str(c["image"]) for c in _containers(spec) if c.get("image")})),
        node_affinity=required_terms(spec.get("affinity"), "template.spec.affinity"),
        gpu_slot=slot,
    )


def amount_of(resource: str, value: Any, field: str = "") -> int:
    """A quantity as an integer in the resource's unit: CPU in thousandths, else whole units, rounded up as Kueue; at
    most `MOST`.

    Raises `InvalidObjectError` naming `field` when it cannot be read or is negative.
    """
    try:
        quantity = Quantity(value)
    except (InvalidObjectError, TypeError) as error:
        raise InvalidObjectError(str(error), field=field or resource) from error
    if quantity.nano < 0:
        raise InvalidObjectError(f"{value} is negative", field=field or resource)
    return min(quantity.milli() if resource == "cpu" else quantity.ceil(), MOST)


def _add(total: dict[str, int], amounts: Mapping[str, int]) -> None:
    for name, amount in amounts.items():
        total[name] = total.get(name, 0) + amount


def _containers(spec: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    yield from spec.get("containers") or ()
    yield from spec.get("initContainers") or ()


def _requests(container: Mapping[str, Any], field: str) -> dict[str, int]:
    resources = container.get("resources") or {}
    merged = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {str(name): amount_of(name, value, f"{field}.requests.{name}") for name, value in merged.items()}


def _readable(resource: str, amount: int) -> str:
    if resource not in ("memory", "ephemeral-storage"):
        return str(amount)
    return next((f"{amount / size:.4g}{unit}" for unit, size in _BYTES if amount >= size), str(amount))


_BYTES = (("Ti", 2**40), ("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10))


def _unit(resource: str) -> str:
    return {"cpu": "CPU", "memory": "memory"}.get(resource, resource)
