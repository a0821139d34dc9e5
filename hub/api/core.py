"""The part of core/v1 that Quarterdeck itself reads: pod templates, and taints and tolerations of nodes.

A pod template here describes every field that the hub or an edge site honours. The rest of Kubernetes' pod is named,
kept as it was written, and reaches a real cluster unchanged; this module does not describe it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hub.api.meta import Bool, Int64, Model, Opaque, TemplateMeta, as_kubernetes, list_map
from hub.api.patterns import DNS_LABEL_PATTERN
from hub.api.quantity import Quantity

# What Kubernetes has besides the fields below.
_ENV_SOURCE = ("fileKeyRef",)
_RESOURCES = ("claims",)
_CONTAINER = (
    *("ports", "envFrom", "resizePolicy", "restartPolicy", "restartPolicyRules", "volumeMounts", "volumeDevices"),
    *("livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "terminationMessagePath"),
    *("terminationMessagePolicy", "imagePullPolicy", "securityContext", "stdin", "stdinOnce", "tty"),
)
_POD = (
    *("ephemeralContainers", "dnsPolicy", "serviceAccount", "automountServiceAccountToken", "nodeName", "hostNetwork"),
    *("hostPID", "hostIPC", "shareProcessNamespace", "securityContext", "hostname", "subdomain", "schedulerName"),
    *("hostAliases", "priority", "dnsConfig", "readinessGates", "enableServiceLinks", "preemptionPolicy", "overhead"),
    *("topologySpreadConstraints", "setHostnameAsFQDN", "os", "hostUsers", "schedulingGates", "resourceClaims"),
    *("resources", "hostnameOverride", "workloadRef"),
)


class ObjectFieldSelector(Model):
    apiVersion: str | None = Field(None, description="Version of the pod schema the path is written in.")
    fieldPath: str = Field(description="A field of the pod. Example: metadata.name")


class ResourceFieldSelector(Model):
    containerName: str | None = Field(None, description="The container; the same one by default.")
    resource: str = Field(description="The resource. Example: limits.cpu")
    divisor: Quantity | None = Field(None, description="The unit of the result; 1 by default. Example: 1Mi")


class KeySelector(Model):
    name: str = Field("", description="Name of the ConfigMap or Secret in the job's namespace on the cluster.")
    key: str = Field(description="The key to take.")
    optional: Bool | None = Field(None, description="Whether a missing object or key is no error.")


class EnvVarSource(Model):
    model_config = as_kubernetes(*_ENV_SOURCE)
    as_written: ClassVar = _ENV_SOURCE

    fieldRef: ObjectFieldSelector | None = Field(None, description="A field of the pod itself.")
    resourceFieldRef: ResourceFieldSelector | None = Field(None, description="A request or limit of a container.")
    configMapKeyRef: KeySelector | None = Field(None, description="A key of a ConfigMap.")
    secretKeyRef: KeySelector | None = Field(None, description="A key of a Secret.")


class EnvVar(Model):
    name: str = Field(min_length=1, description="The variable's name. Example: EPOCHS")
    value: str | None = Field(None, description='Its value; $(OTHER) is replaced by an earlier variable. Example: "3"')
    valueFrom: EnvVarSource | None = Field(None, description="Where the value comes from, instead of `value`.")


class ResourceRequirements(Model):
    model_config = as_kubernetes(*_RESOURCES)
    as_written: ClassVar = _RESOURCES

    requests: dict[str, Quantity] = Field(
        default_factory=dict,
        description='What one task is guaranteed, and what placement counts. Example: {cpu: "2", memory: 4Gi}',
    )
    limits: dict[str, Quantity] = Field(
        default_factory=dict,
        description="What one task may never exceed. A request that is missing is the limit. Example: {memory: 8Gi}",
    )


class Container(Model):
    model_config = as_kubernetes(*_CONTAINER)
    as_written: ClassVar = _CONTAINER

    name: str = Field(max_length=63, pattern=DNS_LABEL_PATTERN, description="Unique in the pod. Example: main")
    image: str | None = Field(
        None,
        description="The container image; an edge site maps its name to the host or to a runtime. "
        "Example: python:3.12-slim",
    )
    command: list[str] = Field(
        default_factory=list, description="The program, instead of the image's entry point. Example: [python, train.py]"
    )
    args: list[str] = Field(default_factory=list, description="Its arguments. Example: [--epochs, 3]")
    # Not a list-map: Kubernetes takes a name twice (the last wins), so must we.
    env: list[EnvVar] = Field(
        default_factory=list, description='Environment variables. Example: [{name: EPOCHS, value: "3"}]'
    )
    workingDir: str | None = Field(None, description="The directory to run in. Example: /workspace")
    resources: ResourceRequirements | None = Field(None, description="What the container needs and may use.")


class Toleration(Model):
    key: str | None = Field(None, description="The taint's key; empty with operator Exists tolerates every taint.")
    operator: str | None = Field(None, description="Equal (the default) or Exists.")
    value: str | None = Field(None, description="The taint's value, for Equal.")
    effect: str | None = Field(
        None, description="NoSchedule, PreferNoSchedule or NoExecute; empty tolerates every effect."
    )
    tolerationSeconds: Int64 | None = Field(None, description="For NoExecute: how long the taint is tolerated.")


class Taint(Model):
    key: str = Field(description="The taint's key. Example: nvidia.com/gpu")
    value: str | None = Field(None, description="The taint's value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        description="What happens to pods that do not tolerate the taint."
    )
    timeAdded: str | None = Field(None, description="When the taint was added.")


class PodSpec(Model):
    model_config = as_kubernetes(*_POD)
    as_written: ClassVar = _POD

    containers: Annotated[list[Container], list_map("name")] = Field(
        min_length=1, description="What runs, at least one. Example: [{name: main, image: busybox, command: [date]}]"
    )
    initContainers: Annotated[list[Container], list_map("name")] = Field(
        default_factory=list, description="What runs before, one after the other, each to its end."
    )
    restartPolicy: Literal["Always", "OnFailure", "Never"] | None = Field(
        None, description="Whether a container that ends is started again in the same pod."
    )
    nodeSelector: dict[str, str] = Field(
        default_factory=dict, description="Labels the node must have. Example: {disk: nvme}"
    )
    tolerations: list[Toleration] = Field(
        default_factory=list, description="Taints of nodes that the pod accepts. Example: [{operator: Exists}]"
    )
    affinity: Opaque | None = Field(None, description="Kubernetes' affinity rules.")
    volumes: list[Opaque] = Field(default_factory=list, description="Kubernetes' volumes.")
    terminationGracePeriodSeconds: Int64 | None = Field(
        None, ge=0, description="Seconds between the request to stop and the kill; 30 by default."
    )
    activeDeadlineSeconds: Int64 | None = Field(None, ge=1, description="Seconds one pod may run.")
    serviceAccountName: str | None = Field(None, description="The service account on the cluster.")
    priorityClassName: str | None = Field(None, description="The PriorityClass on the cluster.")
    runtimeClassName: str | None = Field(None, description="The RuntimeClass on the cluster.")
    imagePullSecrets: list[Opaque] = Field(default_factory=list, description="Secrets for pulling images.")


class PodTemplateSpec(Model):
    """A pod template; see the module for what is described and what is preserved."""

    metadata: TemplateMeta | None = Field(None, description="Labels and annotations of every pod.")
    spec: PodSpec = Field(description="The pod.")
