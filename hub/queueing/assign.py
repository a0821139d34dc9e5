"""Which flavors a task may take its resources from, in the order in which a queue's owner listed them. Pure.

One flavor for all resources of a group, as Kueue; with several groups, every combination, the first group's flavors
changing slowest. Whether there is quota or room is asked elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice, product
from math import prod
from typing import Final

from hub.api import names
from hub.api.reasons import Reason
from hub.fleet.shape import TaskShape, Toleration
from hub.queueing.objects import ClusterQueue, Flavor, FlavorResource
from hub.queueing.quotas import Denial, Quotas

# Sixteen groups of 64 flavors would be more combinations than atoms; the first so many are tried.
MAX_COMBINATIONS: Final = 512
_FORBIDS = ("NoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class FlavorChoice:
    """One way to pay for a task.

    `flavors`: (resource, flavor), sorted. `requests`: what one task takes of each. `labels` and `tolerations`: what the
    flavors add to where it may run.
    """

    flavors: tuple[tuple[str, str], ...]
    requests: tuple[tuple[FlavorResource, int], ...]
    labels: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[Toleration, ...] = ()


def counted(queue: ClusterQueue, shape: TaskShape) -> dict[str, int]:
    """What of one task the queue counts: its requests, and pods and shares of GPUs where the queue covers them."""
    amounts = dict(shape.requests)
    if "pods" not in amounts and queue.group_of("pods") is not None:
        amounts["pods"] = 1
    elif queue.group_of("pods") is None:
        amounts.pop("pods", None)
    if shape.gpu_milli and queue.group_of(names.GPU_MILLI) is not None:
        amounts[names.GPU_MILLI] = shape.gpu_milli
    return {resource: value for resource, value in sorted(amounts.items()) if value > 0}


def choices(quotas: Quotas, queue: ClusterQueue, shape: TaskShape) -> tuple[FlavorChoice, ...] | Denial:
    """At least one choice, or a `NoMatchingFlavor` denial that says of each flavor why not."""
    amounts = counted(queue, shape)
    uncovered = [resource for resource in amounts if queue.group_of(resource) is None]
    if uncovered:
        covered = [resource for group in queue.groups for resource in group.resources]
        return _denial(queue, uncovered[0], f"it covers {', '.join(covered) or 'no resources'}")
    options: list[list[tuple[tuple[str, ...], Flavor]]] = []
    for group in queue.groups:
        wanted = tuple(resource for resource in group.resources if resource in amounts)
        if not wanted:
            continue
        allowed: list[tuple[tuple[str, ...], Flavor]] = []
        refused: list[str] = []
        for name in group.flavors:
            why = obstacle(quotas.flavors[name], shape)
            if why:
                refused.append(f"{name} {why}")
            else:
                allowed.append((wanted, quotas.flavors[name]))
        if not allowed:
            return _denial(queue, wanted[0], "; ".join(refused))
        options.append(allowed)
    if not options:
        return (FlavorChoice((), ()),)
    combinations = islice(product(*options), min(prod(map(len, options)), MAX_COMBINATIONS))
    found = tuple(choice for combination in combinations if (choice := _choice(combination, amounts)) is not None)
    return found or _denial(queue, next(iter(amounts)), "the labels of its flavors contradict each other")


def obstacle(flavor: Flavor, shape: TaskShape) -> str:
    """Why the flavor is not for this shape; empty when it is.

    A node selector is held against the keys that the flavor itself sets: a flavor that says nothing of zones may be in
    any zone.
    """
    for key, value, effect in flavor.taints:
        tolerated = effect not in _FORBIDS or any(
            t.tolerates(key, value, effect) for t in (*shape.tolerations, *flavor.tolerations)
        )
        if not tolerated:
            return f"has taint {key}={value}:{effect}, which the job does not tolerate"
    selector = dict(shape.node_selector)
    for key, value in flavor.labels:
        if key in selector and selector[key] != value:
            return f"is {key}={value}, the job wants {selector[key]}"
    return ""


def flavored(
    quotas: Quotas, shape: TaskShape, flavors: Iterable[tuple[str, str]], cluster_labels: Mapping[str, str]
) -> TaskShape:
    """What a slice that is paid from `flavors` (resource, flavor) asks of the nodes of a cluster with these labels.

    The flavors' labels become its node selector, but for those that the cluster as a whole has; their tolerations are
    added. This is the shape that a slice is charged with, and what its pods must say.
    """
    selector = dict(shape.node_selector)
    tolerations = set(shape.tolerations)
    for name in sorted({flavor for _, flavor in flavors}):
        flavor = quotas.flavors.get(name)
        if flavor is None:
            continue
        tolerations.update(flavor.tolerations)
        for key, value in flavor.labels:
            if key not in cluster_labels:
                selector.setdefault(key, value)
    if len(selector) == len(shape.node_selector) and len(tolerations) == len(shape.tolerations):
        return shape
    return replace(shape, node_selector=tuple(sorted(selector.items())), tolerations=tuple(sorted(tolerations)))


def _choice(combination: tuple[tuple[tuple[str, ...], Flavor], ...], amounts: Mapping[str, int]) -> FlavorChoice | None:
    labels: dict[str, str] = {}
    tolerations: set[Toleration] = set()
    flavors: list[tuple[str, str]] = []
    for wanted, flavor in combination:
        for key, value in flavor.labels:
            if labels.setdefault(key, value) != value:
                return None
        tolerations.update(flavor.tolerations)
        flavors += [(resource, flavor.name) for resource in wanted]
    flavors.sort()
    return FlavorChoice(
        flavors=tuple(flavors),
        requests=tuple(((flavor, resource), amounts[resource]) for resource, flavor in flavors),
        labels=tuple(sorted(labels.items())),
        tolerations=tuple(sorted(tolerations)),
    )


def _denial(queue: ClusterQueue, resource: str, detail: str) -> Denial:
    return Denial(Reason.NO_MATCHING_FLAVOR, (("queue", queue.name), ("resource", resource), ("detail", detail)))
