"""The pod template of one slice: the job's own, with what the fleet adds.

Added to every container: ``QUARTERDECK_TASKS``, ``_ATTEMPT``, ``_JOB``, ``_CLUSTER``, and ``QUARTERDECK_TASK_INDEX``
where a plain Kubernetes cluster can know it: the slice's tasks are 0…n-1 (then it is the completion index), or there is
only one. Elsewhere Kubernetes cannot compute it without a shell in the image: the variable is left out, and the task is
the ``JOB_COMPLETION_INDEX``-th of ``QUARTERDECK_TASKS``, from 0. The edge runtime sets both variables itself, always.

GPUs: ``nvidia.com/gpu`` as request and limit of the first container. A share is ``fleet.quarterdeck.dev/gpu-milli``
(thousandths) there instead, or one slot of a GPU that tasks share by time, where the cluster's device plugin offers
those; its nodes must then give each task at least so much. Whole GPUs of a cluster that shares some are not those.
Models and memory are required node affinity on the labels ``nvidia.com/gpu.product`` and ``nvidia.com/gpu.memory``
(MiB), one model alone is a nodeSelector; both are annotations of the pod as well, for runtimes that know no affinity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hub.api import names
from hub.api.indexset import IndexSet
from hub.fleet.site import GpuOffer
from hub.jobs.spec import JobSpec

Json = dict[str, Any]
_INDEX_FIELD: Final = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
_MIB: Final = 2**20
DIVIDED: Final = GpuOffer()
# What an API server puts on the template of a Job that it stores: true of that Job alone, refused in any other.
_OF_ANOTHER_JOB: Final = frozenset(
    {"controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"}
)


def pod_template(
    spec: JobSpec,
    cluster: str,
    tasks: IndexSet,
    attempt: int,
    annotations: Mapping[str, str],
    offer: GpuOffer = DIVIDED,
) -> Json:
    """A new PodTemplateSpec; the job's own is not changed. `annotations` and the job's labels are put on the pod."""
    own, pod = spec.template, dict(spec.template["spec"])
    environment = _environment(spec, cluster, tasks, attempt)
    pod["restartPolicy"] = "Never"
    pod["containers"] = [_with_environment(container, environment) for container in pod["containers"]]
    if pod.get("initContainers"):
        pod["initContainers"] = [_with_environment(container, environment) for container in pod["initContainers"]]
    notes = dict(annotations)
    if spec.gpu is not None:
        _ask_for_gpus(spec, pod, notes, offer)
    meta = own.get("metadata") or {}
    labels = {key: value for key, value in (meta.get("labels") or {}).items() if key not in _OF_ANOTHER_JOB}
    return {
        **{key: value for key, value in own.items() if key not in ("metadata", "spec")},
        "metadata": {
            **meta,
            "labels": {**labels, **spec.labels},
            "annotations": {**(meta.get("annotations") or {}), **notes},
        },
        "spec": pod,
    }


def counted_template(spec: JobSpec) -> Json:
    """The pod as quota counts it: the job's own, with its GPUs."""
    pod = {**spec.template["spec"], "restartPolicy": "Never"}
    notes: dict[str, str] = {}
    if spec.gpu is not None:
        _ask_for_gpus(spec, pod, notes, DIVIDED)
    meta = spec.template.get("metadata") or {}
    if notes:
        meta = {**meta, "annotations": {**(meta.get("annotations") or {}), **notes}}
    return ({"metadata": meta} if meta else {}) | {"spec": pod}


def _environment(spec: JobSpec, cluster: str, tasks: IndexSet, attempt: int) -> list[Json]:
    variables: list[Json] = [
        {"name": names.ENV_TASKS, "value": str(tasks)},
        {"name": names.ENV_ATTEMPT, "value": str(attempt)},
        {"name": names.ENV_JOB, "value": spec.name},
        {"name": names.ENV_CLUSTER, "value": cluster},
    ]
    if len(tasks.ranges) == 1:
        low, high = tasks.ranges[0]
        if low == high:
            variables.append({"name": names.ENV_TASK_INDEX, "value": str(low)})
        elif low == 0:
            variables.append({"name": names.ENV_TASK_INDEX, "valueFrom": {"fieldRef": {"fieldPath": _INDEX_FIELD}}})
    return variables


def _with_environment(container: Mapping[str, Any], environment: list[Json]) -> Json:
    ours = {variable["name"] for variable in environment} | {names.ENV_TASK_INDEX}
    kept = [variable for variable in container.get("env") or () if variable.get("name") not in ours]
    # First, so that the job's own variables may refer to them.
    return {**container, "env": [*environment, *kept]}


def _ask_for_gpus(spec: JobSpec, pod: Json, notes: dict[str, str], offer: GpuOffer) -> None:
    shape = spec.shape
    slot = bool(shape.gpu_share) and offer.share_by in (names.GPU, names.GPU_SHARED)
    if slot:
        amount = {offer.share_by: "1"}
    else:
        amount = {names.GPU_MILLI: str(shape.gpu_share)} if shape.gpu_share else {names.GPU: str(shape.gpus)}
    containers = [_without(container, names.GPU) for container in pod["containers"]]
    if shape.gpu_milli:
        first = containers[0]
        resources = first.get("resources") or {}
        first["resources"] = {
            **resources,
            "requests": {**(resources.get("requests") or {}), **amount},
            "limits": {**(resources.get("limits") or {}), **amount},
        }
    pod["containers"] = containers
    required: list[Json] = []
    if slot:
        # A slot is a part of at least the share: no more tasks on a GPU than there are such parts in it, but several.
        required.append({"key": names.GPU_REPLICAS, "operator": "Lt", "values": [str(1000 // shape.gpu_share + 1)]})
        required.append({"key": names.GPU_REPLICAS, "operator": "Gt", "values": ["1"]})
    elif offer.shared and shape.gpus:
        required.append({"key": names.GPU_SHARING, "operator": "NotIn", "values": ["time-slicing", "mps"]})
    if slot and shape.gpu_models:
        # Where slots go by the whole GPU's name the model is labelled as shared.
        models = [name for model in shape.gpu_models for name in (model, f"{model}-SHARED")]
        required.append({"key": names.GPU_PRODUCT, "operator": "In", "values": models})
    elif len(shape.gpu_models) == 1:
        pod["nodeSelector"] = {**(pod.get("nodeSelector") or {}), names.GPU_PRODUCT: shape.gpu_models[0]}
    elif shape.gpu_models:
        required.append({"key": names.GPU_PRODUCT, "operator": "In", "values": list(shape.gpu_models)})
    if shape.gpu_models:
        notes[names.GPU_MODELS] = ",".join(shape.gpu_models)
    if shape.gpu_min_memory:
        notes[names.GPU_MIN_MEMORY] = str(shape.gpu_min_memory)
        # Gt is the only comparison there is; the label counts whole MiB, rounded down.
        required.append(
            {"key": names.GPU_MEMORY, "operator": "Gt", "values": [str(-(-shape.gpu_min_memory // _MIB) - 1)]}
        )
    if required:
        pod["affinity"] = _require(pod.get("affinity") or {}, required)


def _without(container: Mapping[str, Any], resource: str) -> Json:
    resources = container.get("resources")
    if not resources:
        return dict(container)
    cut = {
        part: {name: value for name, value in amounts.items() if name != resource}
        if part in ("requests", "limits") and amounts
        else amounts
        for part, amounts in resources.items()
    }
    return {**container, "resources": cut}


def _require(affinity: Mapping[str, Any], expressions: list[Json]) -> Json:
    """The terms of a node selector are alternatives, so each gets our requirements.

    But for one that says nothing: it holds nowhere, and must not come to hold where ours do.
    """
    node = dict(affinity.get("nodeAffinity") or {})
    selector = dict(node.get("requiredDuringSchedulingIgnoredDuringExecution") or {})
    own = selector.get("nodeSelectorTerms") or ()
    selector["nodeSelectorTerms"] = [
        {**term, "matchExpressions": [*(term.get("matchExpressions") or ()), *expressions]}
        if term.get("matchExpressions") or term.get("matchFields")
        else term
        for term in own
    ] or [{"matchExpressions": expressions}]
    node["requiredDuringSchedulingIgnoredDuringExecution"] = selector
    return {**affinity, "nodeAffinity": node}
