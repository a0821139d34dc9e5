"""Which flavors a task may take its resources from, in the order in which a queue's owner listed them. Pure.

One flavor for all resources of a group, as Kueue; with several groups, every combination, the first group's flavors
changing slowest. Whether there is quota or room is asked elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from math import prod
from typing import Final

from hub.api import names
from hub.api.reasons import Reason
from hub.fleet.shape import Pods, TaskShape, Toleration
from hub.queueing.kueue.workload import Part
from hub.queueing.objects import ClusterQueue, Flavor, FlavorResource
from hub.queueing.quotas import Denial, Quotas

# Sixteen groups of 64 flavors would be more combinations than atoms; the first so many are tried.
MAX_COMBINATIONS: Final = 512
# So many numbers of pods between all and the fewest that would do.
_STEPS: Final = 32
_FORBIDS = ("NoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class FlavorChoice:
    """One way to pay for a task.

    `flavors`: (resource, flavor), sorted. `requests`: what one task takes of each. `labels` and `tolerations`: what the
    flavors add to where it may run. `parts`: what each kind of pod gets of it, where there are several; `fewer` is
    then how far it is from all of them.
    """

    flavors: tuple[tuple[str, str], ...]
    requests: tuple[tuple[FlavorResource, int], ...]
    labels: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    parts: tuple[Part, ...] = ()
    fewer: int = 0


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
    if shape.parts:
        return _several(quotas, queue, shape.parts)
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


def _several(quotas: Quotas, queue: ClusterQueue, parts: Sequence[Pods]) -> tuple[FlavorChoice, ...] | Denial:
    """Every kind of pod by itself, all of them together; first whole, then with ever fewer of those that may be fewer.

    Of many steps down to the least, some are tried, evenly spread.
    """
    ways: list[list[tuple[tuple[Pods, FlavorChoice], ...]]] = []
    for members in _groups(parts):
        found = choices(quotas, queue, members[0].shape if len(members) == 1 else _sum(members))
        if isinstance(found, Denial):
            names_ = ", ".join(pods.name for pods in members)
            facts = dict(found.facts)
            return Denial(found.reason, tuple((facts | {"detail": f"pod set {names_}: {facts['detail']}"}).items()))
        ways.append([tuple((pods, choice) for pods in members) for choice in found])
    spare = sum(pods.count - pods.least for pods in parts if pods.least is not None)
    combinations = list(islice(product(*ways), MAX_COMBINATIONS))
    steps = min(spare, max(0, MAX_COMBINATIONS // len(combinations) - 1), _STEPS)
    result = []
    for step in range(steps + 1):
        fewer = spare * step // steps if steps else 0
        for combination in combinations:
            given = [one for members in combination for one in members]
            result.append(_whole(queue, given, fewer, spare))
    return tuple(result)


def _groups(parts: Sequence[Pods]) -> list[list[Pods]]:
    found: dict[str, list[Pods]] = {}
    for number, pods in enumerate(parts):
        found.setdefault(pods.group or f"/{number}", []).append(pods)
    return list(found.values())


def _sum(members: Sequence[Pods]) -> TaskShape:
    """What asks for whatever any of them does; nothing is counted by it."""
    requests: dict[str, int] = {}
    selector: dict[str, str] = {}
    for pods in members:
        for resource, amount in pods.shape.requests:
            requests[resource] = requests.get(resource, 0) + amount * pods.count
        selector.update(pods.shape.node_selector)
    tolerations = set(members[0].shape.tolerations).intersection(*(pods.shape.tolerations for pods in members))
    share = max(pods.shape.gpu_share for pods in members)
    return TaskShape(
        requests=tuple(sorted(requests.items())),
        gpu_share=0 if names.GPU in requests else share,
        node_selector=tuple(sorted(selector.items())),
        tolerations=tuple(sorted(tolerations)),
    )


def _whole(queue: ClusterQueue, given: Sequence[tuple[Pods, FlavorChoice]], fewer: int, spare: int) -> FlavorChoice:
    """Kueue's way down: each gives up its part of the `spare` pods, in proportion."""
    parts, requests = [], dict[FlavorResource, int]()
    for pods, choice in given:
        count = pods.count - ((pods.count - pods.least) * fewer // spare if pods.least is not None and spare else 0)
        flavors, each = dict(choice.flavors), counted(queue, pods.shape)
        amounts = tuple((resource, flavors[resource], value * count) for resource, value in each.items())
        parts.append(Part(pods.name, count, amounts))
        for resource, flavor, value in amounts:
            requests[flavor, resource] = requests.get((flavor, resource), 0) + value
    flavors_of_all = tuple(sorted({(resource, flavor) for part in parts for resource, flavor, _ in part.amounts}))
    return FlavorChoice(flavors_of_all, tuple(sorted(requests.items())), parts=tuple(parts), fewer=fewer)


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
