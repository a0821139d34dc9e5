"""Schemas of the built-in kinds: what `kubectl explain` shows, what is checked, and how their lists are merged.

Written for what a hub and an edge site do with these kinds. Fields of Kubernetes that nothing here reads are named, so
that a slip of the pen is told from them, and kept as they come. Descriptions are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hub.api.installed import installed_crd
from hub.api.quantity import PATTERN
from hub.api.resource import FLEET_JOBS

Schema = dict[str, Any]

ANY: Final[Schema] = {"x-kubernetes-preserve-unknown-fields": True}
STRING: Final[Schema] = {"type": "string"}
BOOLEAN: Final[Schema] = {"type": "boolean"}
INT32: Final[Schema] = {"type": "integer", "format": "int32"}
INT64: Final[Schema] = {"type": "integer", "format": "int64"}
COUNT: Final[Schema] = {"type": "integer", "format": "int32", "minimum": 0}
TIME: Final[Schema] = {"type": "string", "format": "date-time"}
QUANTITY: Final[Schema] = {
    "anyOf": [{"type": "integer"}, {"type": "string"}],
    "pattern": PATTERN,
    "x-kubernetes-int-or-string": True,
}


def obj(description: str = "", /, *, need: tuple[str, ...] = (), keep: bool = False, **properties: Schema) -> Schema:
    schema: Schema = {"type": "object"}
    if description:
        schema["description"] = description
    if properties:
        schema["properties"] = properties
    if need:
        schema["required"] = list(need)
    if keep:
        schema["x-kubernetes-preserve-unknown-fields"] = True
    return schema


def say(schema: Mapping[str, Any], description: str, **keywords: Any) -> Schema:
    return {**schema, "description": description, **keywords}


def mapping(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def many(items: Schema) -> Schema:
    return {"type": "array", "items": items, "x-kubernetes-list-type": "atomic"}


def merged(items: Schema, *keys: str, unique: bool = True) -> Schema:
    """A list that is merged member by member; `unique` ones refuse two members of one key."""
    schema: Schema = {
        "type": "array",
        "items": items,
        "x-kubernetes-patch-strategy": "merge",
        "x-kubernetes-patch-merge-key": keys[0],
    }
    if unique:
        schema["x-kubernetes-list-type"] = "map"
        schema["x-kubernetes-list-map-keys"] = list(keys)
    return schema


def choice(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


LABEL_SELECTOR: Final = obj(
    "Which objects are meant, by label.",
    matchLabels=mapping(STRING),
    matchExpressions=many(obj(need=("key", "operator"), key=STRING, operator=STRING, values=many(STRING))),
)
REFERENCE: Final = obj(
    "Another object.",
    apiVersion=STRING,
    kind=STRING,
    namespace=STRING,
    name=STRING,
    uid=STRING,
    resourceVersion=STRING,
    fieldPath=STRING,
)
CONDITIONS: Final = merged(
    obj(
        need=("type", "status"),
        type=say(STRING, "Which aspect this is about."),
        status=say(choice("True", "False", "Unknown"), "Whether it is so."),
        reason=say(STRING, "Why, for programs."),
        message=say(STRING, "Why, for people."),
        observedGeneration=INT64,
        lastProbeTime={**TIME, "nullable": True},
        lastTransitionTime={**TIME, "nullable": True},
        lastUpdateTime=TIME,
        lastHeartbeatTime=TIME,
    ),
    "type",
)

_MERGE_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "volumes": ("name",),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "env": ("name",),
    "ports": ("containerPort", "protocol"),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
}
# Lists that Kubernetes merges by key but lets hold one key twice.
_NOT_UNIQUE: Final = frozenset({"env", "ports", "imagePullSecrets", "hostAliases", "volumeMounts", "volumeDevices"})


def _mergeable(schema: Schema) -> Schema:
    """A model's schema with the keys by which its lists are merged."""
    properties: dict[str, Schema] = dict(schema["properties"])
    for name, keys in _MERGE_KEYS.items():
        if name in properties:
            items = properties[name].get("items", {"type": "object", **ANY})
            described = {key: value for key, value in properties[name].items() if key in ("description", "minItems")}
            properties[name] = {**merged(items, *keys, unique=name not in _NOT_UNIQUE), **described}
    return {**schema, "properties": properties}


def _pod_template() -> Schema:
    # Of a FleetJob's template, which is a pod template as Kubernetes has it.
    fleet_job = installed_crd(FLEET_JOBS)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    template = {**fleet_job["properties"]["spec"]["properties"]["template"], "description": "The pods that are made."}
    pod = template["properties"]["spec"]
    for name in ("containers", "initContainers"):
        pod["properties"][name]["items"] = _mergeable(pod["properties"][name]["items"])
    return {**template, "properties": {**template["properties"], "spec": _mergeable(pod)}}


POD_TEMPLATE: Final = _pod_template()
# An object's template may say all of metadata.
POD_TEMPLATE["properties"]["metadata"] = obj("Labels and annotations of every pod.", keep=True)
POD_SPEC: Final[Schema] = POD_TEMPLATE["properties"]["spec"]

_CONTAINER_STATUSES: Final = many(
    obj(
        need=("name",),
        keep=True,
        name=say(STRING, "The container."),
        ready=say(BOOLEAN, "Whether it runs and is ready."),
        restartCount=say(INT32, "How often it was started again."),
        image=STRING,
        imageID=STRING,
        started=BOOLEAN,
        state=obj("What it does now: waiting, running or terminated.", keep=True),
        lastState=obj("What it did before.", keep=True),
    )
)
POD: Final = obj(
    "One or more containers that run together.",
    spec=say(POD_SPEC, "What runs."),
    status=obj(
        "What became of it.",
        keep=True,
        phase=say(choice("Pending", "Running", "Succeeded", "Failed", "Unknown"), "Where it stands."),
        conditions=CONDITIONS,
        reason=STRING,
        message=STRING,
        hostIP=STRING,
        podIP=STRING,
        startTime=TIME,
        containerStatuses=_CONTAINER_STATUSES,
        initContainerStatuses=_CONTAINER_STATUSES,
    ),
)

_INDEXES: Final[Schema] = {"type": "string", "pattern": r"^([0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?$"}
JOB: Final = obj(
    "Pods that run to their end.",
    need=("spec",),
    spec=obj(
        "What is to be done.",
        need=("template",),
        parallelism=say(COUNT, "How many pods run at once."),
        completions=say(COUNT, "How many pods must succeed."),
        completionMode=say(
            choice("NonIndexed", "Indexed"), "Indexed gives each pod a number of its own.", default="NonIndexed"
        ),
        activeDeadlineSeconds=say(INT64, "Seconds the job may run.", minimum=1),
        backoffLimit=say(COUNT, "Failures of pods before the job is failed; 6 by default."),
        backoffLimitPerIndex=say(COUNT, "Failures of one index before that index is failed."),
        maxFailedIndexes=say(COUNT, "Failed indexes before the job is failed."),
        suspend=say(BOOLEAN, "While true no pods are started, and those that run are stopped.", default=False),
        ttlSecondsAfterFinished=say(COUNT, "Seconds after its end when the job is deleted."),
        managedBy=say(STRING, "The controller that runs it; cannot be changed.", maxLength=63),
        podReplacementPolicy=choice("TerminatingOrFailed", "Failed"),
        podFailurePolicy=obj("Which failures count, and how.", keep=True),
        successPolicy=obj("When the job succeeds before all its pods have.", keep=True),
        selector=LABEL_SELECTOR,
        manualSelector=BOOLEAN,
        template=say(POD_TEMPLATE, "What each pod runs."),
    ),
    status=obj(
        "What became of it.",
        conditions=CONDITIONS,
        startTime=TIME,
        completionTime=TIME,
        active=say(INT32, "Pods that run."),
        ready=say(INT32, "Pods that run and are ready."),
        terminating=INT32,
        succeeded=say(INT32, "Pods that succeeded."),
        failed=say(INT32, "Pods that failed."),
        completedIndexes=say(_INDEXES, "Indexes that succeeded. Example: 1,3-57"),
        failedIndexes=say(_INDEXES, "Indexes that failed for good."),
        uncountedTerminatedPods=obj(keep=True),
        slots=say(INT32, "How many may run at once, as the site understood it last; edge sites report it."),
        exitCodes=say(STRING, "Failed indexes by exit code; edge sites report them. Example: 1=3,17;137=4"),
        usage=say(STRING, "What ended pods have used; edge sites report it. Example: cpu=12.5;gpu=40.0;wall=40.2"),
    ),
)

DEPLOYMENT: Final = obj(
    "A number of like pods. Kept as written: nothing in this server runs it.",
    need=("spec",),
    spec=obj(
        need=("selector", "template"),
        replicas=say(COUNT, "How many pods.", default=1),
        selector=LABEL_SELECTOR,
        template=say(POD_TEMPLATE, "What each pod runs."),
        strategy=obj(keep=True),
        minReadySeconds=COUNT,
        revisionHistoryLimit=COUNT,
        paused=BOOLEAN,
        progressDeadlineSeconds=COUNT,
    ),
    status=obj(
        observedGeneration=INT64,
        replicas=INT32,
        updatedReplicas=INT32,
        readyReplicas=INT32,
        availableReplicas=INT32,
        unavailableReplicas=INT32,
        terminatingReplicas=INT32,
        collisionCount=INT32,
        conditions=CONDITIONS,
    ),
)

NODE: Final = obj(
    "A machine.",
    spec=obj(
        keep=True,
        unschedulable=say(BOOLEAN, "Whether new pods stay away."),
        taints={
            **many(obj(need=("key", "effect"), key=STRING, value=STRING, effect=STRING, timeAdded=TIME)),
            "x-kubernetes-patch-strategy": "merge",
            "x-kubernetes-patch-merge-key": "key",
        },
    ),
    status=obj(
        keep=True,
        capacity=say(mapping(QUANTITY), "All there is of it."),
        allocatable=say(mapping(QUANTITY), "What pods may use of it."),
        conditions=CONDITIONS,
        addresses=merged(obj(need=("type", "address"), type=STRING, address=STRING), "type", unique=False),
        nodeInfo=obj(keep=True),
    ),
)

NAMESPACE: Final = obj(
    "A scope for names.",
    spec=obj(finalizers=many(STRING)),
    status=obj(phase=choice("Active", "Terminating"), conditions=CONDITIONS),
)
CONFIG_MAP: Final = obj(
    "Settings as text.",
    data=say(mapping(STRING), "Text by key."),
    binaryData=say(mapping({"type": "string", "format": "byte"}), "Bytes by key, in base64."),
    immutable=say(BOOLEAN, "Once true, the data cannot change."),
)
SECRET: Final = obj(
    "Settings that are nobody else's business.",
    data=say(mapping({"type": "string", "format": "byte"}), "Values by key, in base64."),
    stringData=say(mapping(STRING), "Values by key as text; they end up in data."),
    type=say(STRING, "What kind of secret this is; cannot be changed.", default="Opaque"),
    immutable=say(BOOLEAN, "Once true, the data cannot change."),
)
SERVICE_ACCOUNT: Final = obj(
    "Who a pod is.",
    secrets=merged(REFERENCE, "name", unique=False),
    imagePullSecrets=many(obj(name=STRING)),
    automountServiceAccountToken=BOOLEAN,
)
SERVICE: Final = obj(
    "A name for pods that serve. Kept as written: nothing in this server routes to it.",
    spec=obj(
        keep=True,
        type=say(
            choice("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"), "Who can reach it.", default="ClusterIP"
        ),
        selector=mapping(STRING),
        clusterIP=STRING,
        externalName=STRING,
        ports=merged(
            obj(
                need=("port",),
                name=STRING,
                port=say(INT32, "The port it serves on.", minimum=1, maximum=65535),
                protocol=say(choice("TCP", "UDP", "SCTP"), "The protocol.", default="TCP"),
                targetPort={"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True},
                nodePort=INT32,
                appProtocol=STRING,
            ),
            "port",
            "protocol",
        ),
    ),
    status=obj(keep=True, conditions=CONDITIONS),
)
LEASE: Final = obj(
    "Who leads, or lives, and until when.",
    spec=obj(
        holderIdentity=say(STRING, "Who holds it."),
        leaseDurationSeconds=say(INT32, "How long it is good for.", minimum=1),
        acquireTime=say(TIME, "When its holder took it."),
        renewTime=say(TIME, "When its holder last renewed it."),
        leaseTransitions=say(COUNT, "How often it changed hands."),
        strategy=STRING,
        preferredHolder=STRING,
    ),
)
PRIORITY_CLASS: Final = obj(
    "A name for a priority of pods.",
    need=("value",),
    value=say(INT32, "Higher goes first."),
    globalDefault=say(BOOLEAN, "Whether pods without a class get this one."),
    description=STRING,
    preemptionPolicy=say(
        choice("PreemptLowerPriority", "Never"), "Whether it displaces others.", default="PreemptLowerPriority"
    ),
)
_SERIES: Final = obj(count=INT32, lastObservedTime=TIME)
CORE_EVENT: Final = obj(
    "Something that happened to an object.",
    need=("involvedObject",),
    involvedObject=say(REFERENCE, "What it happened to."),
    reason=say(STRING, "What happened, for programs."),
    message=say(STRING, "What happened, for people."),
    source=obj(component=STRING, host=STRING),
    firstTimestamp={**TIME, "nullable": True},
    lastTimestamp={**TIME, "nullable": True},
    count=INT32,
    type=say(STRING, "Normal or Warning."),
    eventTime={**TIME, "nullable": True},
    series=_SERIES,
    action=STRING,
    related=REFERENCE,
    reportingComponent=STRING,
    reportingInstance=STRING,
)
EVENT: Final = obj(
    "Something that happened to an object.",
    regarding=say(REFERENCE, "What it happened to."),
    related=REFERENCE,
    reason=say(STRING, "What happened, for programs."),
    note=say(STRING, "What happened, for people.", maxLength=1024),
    type=say(STRING, "Normal or Warning."),
    action=STRING,
    eventTime={**TIME, "nullable": True},
    series=_SERIES,
    reportingController=STRING,
    reportingInstance=STRING,
    deprecatedSource=obj(component=STRING, host=STRING),
    deprecatedFirstTimestamp={**TIME, "nullable": True},
    deprecatedLastTimestamp={**TIME, "nullable": True},
    deprecatedCount=INT32,
)
CUSTOM_RESOURCE_DEFINITION: Final = obj(
    "A kind of your own.",
    need=("spec",),
    spec=obj(
        need=("group", "names", "scope", "versions"),
        group=say(STRING, "The API group, a domain name."),
        names=obj(
            need=("plural", "kind"),
            plural=STRING,
            singular=STRING,
            kind=STRING,
            listKind=STRING,
            shortNames=many(STRING),
            categories=many(STRING),
        ),
        scope=say(choice("Cluster", "Namespaced"), "Where its objects live."),
        versions=many(
            obj(
                need=("name", "served", "storage"),
                name=STRING,
                served=say(BOOLEAN, "Whether clients may use it."),
                storage=say(BOOLEAN, "Whether objects are kept in it; exactly one version is."),
                deprecated=BOOLEAN,
                deprecationWarning=STRING,
                schema=obj(openAPIV3Schema=say(ANY, "The schema.", type="object")),
                subresources=obj(status=ANY, scale=ANY),
                additionalPrinterColumns=many(
                    obj(
                        need=("name", "type", "jsonPath"),
                        name=STRING,
                        type=STRING,
                        format=STRING,
                        description=STRING,
                        priority=INT32,
                        jsonPath=STRING,
                    )
                ),
                selectableFields=many(obj(need=("jsonPath",), jsonPath=STRING)),
            )
        ),
        conversion=obj(keep=True, strategy=choice("None", "Webhook")),
        preserveUnknownFields=BOOLEAN,
    ),
    status=obj(keep=True, conditions=CONDITIONS, storedVersions=many(STRING)),
)
REVIEW: Final = obj("A question, answered at once.", spec=obj(keep=True), status=obj(keep=True))
