"""Every label, annotation, finalizer and well-known name on the wire, once.

Ours live under ``fleet.quarterdeck.dev/``; the others are OCM's, Kueue's and Kubernetes' own.
"""

from __future__ import annotations

from typing import Final

GROUP: Final = "fleet.quarterdeck.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

# On ManifestWorks, the Jobs in them, their Pods, and task logs.
JOB_UID: Final = f"{GROUP}/job-uid"
JOB_NAME: Final = f"{GROUP}/job-name"
JOB_NAMESPACE: Final = f"{GROUP}/job-namespace"
EPOCH: Final = f"{GROUP}/epoch"
ATTEMPT: Final = f"{GROUP}/attempt"
TASKS: Final = f"{GROUP}/tasks"
# How many of a slice's tasks run at once, the ClusterQueue that pays for them, and from which flavors
# (``cpu=default,nvidia.com/gpu=a100``): with the tasks, all that a hub needs to take up a decision of its predecessor.
SLOTS: Final = f"{GROUP}/slots"
CLUSTER_QUEUE: Final = f"{GROUP}/cluster-queue"
FLAVORS: Final = f"{GROUP}/flavors"
# On a ManifestWork, for people: how its cluster was chosen (hub/planner/record.py).
DECISION: Final = f"{GROUP}/decision"
TOPOLOGY_DOMAIN: Final = f"{GROUP}/topology-domain"
# On a ManifestWork: that its slice has to go, why, for whom, and when it is stopped (hub/jobs/eviction.py).
EVICTION: Final = f"{GROUP}/eviction"
# The same when a slice of an elastic job was made larger or smaller (see hub/jobs/resize.py).
RESIZE: Final = f"{GROUP}/resize"
# On a ManifestWork: in which term of the hub's Lease that was decided (hub/admission/fencing.py).
TERM: Final = f"{GROUP}/term"
# On a ManifestWork in the hub's own namespace, where no agent reads: the cluster that it is meant for, once the
# admission checks of its queue have let it through (hub/jobs/works.py).
RESERVED_FOR: Final = f"{GROUP}/reserved-for"
# The kind that asked for the work: FleetJob, or Job for a plain batch/v1 Job with a queue name.
JOB_KIND: Final = f"{GROUP}/job-kind"
LOG_REQUEST: Final = f"{GROUP}/log-request"
# On everything that stands for hardware that is only declared.
SIMULATED: Final = f"{GROUP}/simulated"
# Simulated runtime: how long a task lasts (a Go duration), and its exit code, on the pod template.
SIMULATED_DURATION: Final = f"{GROUP}/simulated-duration"
SIMULATED_EXIT_CODE: Final = f"{GROUP}/simulated-exit-code"
# On the pod template of a slice: which GPU models will do (``A100,H100``) and the memory each must have, in bytes.
GPU_MODELS: Final = f"{GROUP}/gpu-models"
GPU_MIN_MEMORY: Final = f"{GROUP}/gpu-min-memory"
# On a plain Job: what its own status has no room for, as JSON in the shape of a FleetJob's status.
JOB_MEMORY: Final = f"{GROUP}/status"
# On a FleetJob or Job: why its owner ended it or asked for its failed tasks again.
CANCEL: Final = f"{GROUP}/cancel"
RETRY_FAILED: Final = f"{GROUP}/retry-failed"
# On a plain Job: what a FleetJob says in spec.checkpoint, as Go durations.
CHECKPOINT_INTERVAL: Final = f"{GROUP}/checkpoint-interval"
RESTART_COST: Final = f"{GROUP}/restart-cost"
# On a Workload: the hub set spec.active to false because its job is suspended, and sets it back when it is not.
SUSPENDED_BY_JOB: Final = f"{GROUP}/suspended-by-job"
# On a Workload: why the hub deactivated it, and from which epoch of its job limits count anew (``REASON/7``).
DEACTIVATED: Final = f"{GROUP}/deactivated"
# managedBy of a plain Job that is ours to run.
MANAGED_BY: Final = f"{GROUP}/hub"
HUB_FINALIZER: Final = f"{GROUP}/hub"
# On a FleetJob, a Job or a Placement: the named weights by which its clusters are ordered (hub/placement/profiles.py).
PROFILE: Final = f"{GROUP}/profile"
# On a FleetJob, a Job or a Placement: the data that a job reads, with sizes (``genomes=40Gi, weights=800Mi``); on a
# cluster, as ``…/NAME``: that it has them (``true``, or what part, ``0.5``). See hub/scoring/locality.py.
DATA: Final = f"{GROUP}/data"
DATA_LABEL: Final = f"data.{GROUP}"
# On a Placement, ours: what an unknown score counts (``Worst``, ``Exclude``, ``Neutral``, ``LastKnown(10m)``), how many
# points better a cluster must be to displace a chosen one, how long a chosen one is safe from that, how many may be
# displaced in which time (``2/10m``, ``10%/1h``).
MISSING_SCORE: Final = f"{GROUP}/missing-score"
HYSTERESIS: Final = f"{GROUP}/hysteresis"
MIN_DWELL: Final = f"{GROUP}/min-dwell"
MAX_MOVES: Final = f"{GROUP}/max-moves"
# On a PlacementDecision: since when each of its clusters is chosen, for a hub that takes over.
CHOSEN: Final = f"{GROUP}/chosen"

# On an AddOnPlacementScore that the hub publishes for a DynamicScorer: whose it is (``NAMESPACE/NAME``).
SCORER: Final = f"{GROUP}/scorer"
# On the ManifestWork by which the Dynamic Scoring Framework's own agents are told what to ask.
SCORING_CONFIG: Final = f"{GROUP}/scoring-config"

# On a ClusterQueue or Cohort: from which cluster set its nominal quota is taken (JSON, see hub/queueing/nominal.py).
NOMINAL_FROM: Final = f"{GROUP}/nominal-from"
# Condition of a Workload: amounts in its admission are not counted as they are written.
AMOUNTS_DOUBTED: Final = f"{GROUP}/AmountsDoubted"

# Kueue.
QUEUE_NAME: Final = "kueue.x-k8s.io/queue-name"
PRIORITY_CLASS: Final = "kueue.x-k8s.io/priority-class"
KUEUE_JOB_UID: Final = "kueue.x-k8s.io/job-uid"
MAX_EXEC_TIME: Final = "kueue.x-k8s.io/max-exec-time-seconds"
MIN_PARALLELISM: Final = "kueue.x-k8s.io/job-min-parallelism"
# On a pod template: nodes with one value of this label for all pods, or the job waits; the same where there is room
# like that; all pods at once wherever there is room. Those after them cut a pod set into parts, each with nodes of its
# own.
PODSET_REQUIRED: Final = "kueue.x-k8s.io/podset-required-topology"
PODSET_PREFERRED: Final = "kueue.x-k8s.io/podset-preferred-topology"
PODSET_UNCONSTRAINED: Final = "kueue.x-k8s.io/podset-unconstrained-topology"
PODSET_SLICES: Final = (
    "kueue.x-k8s.io/podset-slice-required-topology",
    "kueue.x-k8s.io/podset-slice-size",
    "kueue.x-k8s.io/podset-slice-required-topology-constraints",
    "kueue.x-k8s.io/podset-group-name",
)
IN_USE_FINALIZER: Final = "kueue.x-k8s.io/resource-in-use"

# OCM.
CLUSTER_SET: Final = "cluster.open-cluster-management.io/clusterset"
CLUSTER_NAME: Final = "open-cluster-management.io/cluster-name"
WORK_FINALIZER: Final = "cluster.open-cluster-management.io/manifest-work-cleanup"
APPLIED_WORK_FINALIZER: Final = "cluster.open-cluster-management.io/applied-manifest-work-cleanup"
# On an AppliedManifestWork: a digest of each manifest as last applied, so that a removed field is noticed.
MANIFEST_DIGESTS: Final = f"{GROUP}/manifest-digests"
PLACEMENT: Final = "cluster.open-cluster-management.io/placement"
DECISION_GROUP_INDEX: Final = "cluster.open-cluster-management.io/decision-group-index"
DECISION_GROUP_NAME: Final = "cluster.open-cluster-management.io/decision-group-name"
SCHEDULING_DISABLE: Final = "cluster.open-cluster-management.io/experimental-scheduling-disable"
TAINT_UNREACHABLE: Final = "cluster.open-cluster-management.io/unreachable"
TAINT_UNAVAILABLE: Final = "cluster.open-cluster-management.io/unavailable"
CLUSTER_LEASE: Final = "managed-cluster-lease"

# On the roles and bindings that the hub makes for the agents of accepted clusters.
AGENT_RIGHTS: Final = f"{GROUP}/agent-rights"
# On the pod of the hub that leads, so that a Service leads to it.
LEADS: Final = f"{GROUP}/leads"
# On the hub's Lease: where the hub that leads answers about itself (hub/controllers/debug_server.py).
DEBUG_URL: Final = f"{GROUP}/debug-url"

HUB_NAMESPACE: Final = "quarterdeck-system"
HUB_LEASE: Final = "quarterdeck-hub"
# The AddOnPlacementScore in every cluster's namespace in which the hub says its scores.
HUB_SCORES: Final = "quarterdeck"
DEFAULT_QUEUE: Final = "default"

GPU: Final = "nvidia.com/gpu"
# A share of a GPU in thousandths; whole GPUs count 1000 each. Only counted against queues that cover it.
GPU_MILLI: Final = f"{GROUP}/gpu-milli"
# A slot of a GPU that tasks share by time, where the device plugin calls it so; how many slots a GPU has, and how it is
# shared (``none``, ``time-slicing``, ``mps``), as the driver's feature discovery labels the node.
GPU_SHARED: Final = "nvidia.com/gpu.shared"
GPU_REPLICAS: Final = "nvidia.com/gpu.replicas"
GPU_SHARING: Final = "nvidia.com/gpu.sharing-strategy"
GPU_COUNT: Final = "nvidia.com/gpu.count"
GPU_PRODUCT: Final = "nvidia.com/gpu.product"
GPU_CLIQUE: Final = "nvidia.com/gpu.clique"
"""An NVLink domain, as NVIDIA's feature discovery labels its nodes."""
RACK: Final = "topology.kubernetes.io/rack"
GPU_MEMORY: Final = "nvidia.com/gpu.memory"

# What every task finds in its environment.
ENV_TASK_INDEX: Final = "QUARTERDECK_TASK_INDEX"
ENV_TASKS: Final = "QUARTERDECK_TASKS"
ENV_ATTEMPT: Final = "QUARTERDECK_ATTEMPT"
ENV_JOB: Final = "QUARTERDECK_JOB"
ENV_CLUSTER: Final = "QUARTERDECK_CLUSTER"
# On sites without Kubernetes: a file that is there once the task has to go, and says when it is ended at the latest.
ENV_NOTICE_FILE: Final = "QUARTERDECK_NOTICE_FILE"


def work_name(job_name: str, job_uid: str, epoch: int) -> str:
    """The ManifestWork (and the Job in it) that carries one epoch of a job: unique, readable, at most 63 characters."""
    return f"{job_name[:40].rstrip('-.')}-{job_uid.replace('-', '')[:8]}-{epoch}"
