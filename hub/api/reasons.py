"""Why things are as they are: every reason a person can meet, once.

Conditions, events, `explain`, the tables and the reference page are all made from this enum. A reason has a code (what
programs match), a scope (whose reason it is), a template (the sentence, filled with numbers) and what to do about it.
It does not decide anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from string import Formatter
from typing import Literal

Scope = Literal["Job", "Attempt", "Task", "Queue", "Cluster", "Placement", "Score", "Work", "Hub"]


@dataclass(frozen=True, slots=True)
class _Entry:
    code: str
    scope: Scope
    template: str
    advice: str


class Reason(Enum):
    """`Reason.X.code`, `.scope`, `.advice`, and `.message(**facts)`; a missing fact raises KeyError."""

    # Queue: why a job waits for quota. Codes are Kueue's where Kueue has one.
    QUOTA_RESERVED = _Entry("QuotaReserved", "Queue", "Quota reserved in ClusterQueue {queue}", "")
    ADMITTED = _Entry("Admitted", "Queue", "Admitted by ClusterQueue {queue} onto {clusters}", "")
    WAITING_FOR_QUOTA = _Entry(
        "WaitingForQuota",
        "Queue",
        "needs {needed} {resource} in flavor {flavor}; {available} free in {where}",
        "Wait, or raise the nominal quota or borrowing limit of the ClusterQueue.",
    )
    EXCEEDS_MAX_QUOTA = _Entry(
        "ExceedsMaxQuota",
        "Queue",
        "needs {needed} {resource} at once; ClusterQueue {queue} can never have more than {limit} of flavor {flavor}",
        "Ask for less a task, or raise the quota: waiting will not help.",
    )
    NO_MATCHING_FLAVOR = _Entry(
        "NoMatchingFlavor",
        "Queue",
        "no flavor of ClusterQueue {queue} offers {resource} to this job: {detail}",
        "Add the resource to the ClusterQueue's resourceGroups, or drop it from the job.",
    )
    QUEUE_NOT_FOUND = _Entry(
        "QueueNotFound",
        "Queue",
        "LocalQueue {queue} does not exist",
        "Create it, or name one of: {known}",
    )
    QUEUE_INACTIVE = _Entry(
        "QueueInactive",
        "Queue",
        "ClusterQueue {queue} takes no jobs: {detail}",
        "See `quarterdeck describe queue {queue}`.",
    )
    NAMESPACE_MISMATCH = _Entry(
        "NamespaceMismatch",
        "Queue",
        "ClusterQueue {queue} does not accept jobs of namespace {namespace}",
        "Label the namespace as the queue's namespaceSelector asks, or use another queue.",
    )
    BEHIND_OLDER_JOB = _Entry(
        "BehindOlderJob",
        "Queue",
        "ClusterQueue {queue} is StrictFIFO and {ahead} before it still waits",
        "See why that one waits, or let the queue be BestEffortFIFO.",
    )
    FEWER_SLOTS = _Entry(
        "FewerSlots",
        "Queue",
        "has {slots} of the {wanted} slots that it asks for{detail}",
        "An array runs its tasks in turn on the slots it has. With spec.elastic it takes more in mode fleet.",
    )
    WAITING_FOR_PREEMPTED = _Entry(
        "WaitingForPreemptedWorkloads", "Queue", "waits until {victims} have given their quota back", ""
    )
    KEPT_FOR_OTHERS = _Entry(
        "KeptForOthers",
        "Queue",
        "what it needs is kept for {jobs}, entitled to it before",
        "It starts when those have started. With an expectedDuration that ends before, it could start now.",
    )
    PENDING_EVALUATION = _Entry("PendingEvaluation", "Queue", "{detail}", "")
    MISCONFIGURED = _Entry("Misconfigured", "Queue", "{detail}", "Correct the queue name, the queue or the workload.")
    QUEUE_SUSPENDED = _Entry(
        "Suspended",
        "Queue",
        "ClusterQueue {queue} admits nothing now: {detail}",
        "See `quarterdeck describe queue {queue}`.",
    )
    ON_HOLD = _Entry("OnHold", "Queue", "{detail}", "")
    WAITING_FOR_PODS_READY = _Entry(
        "WaitingForPodsReady", "Queue", "waits until all that is admitted runs: {detail} does not yet", ""
    )
    UNSATISFIED_CHECKS = _Entry(
        "UnsatisfiedAdmissionChecks",
        "Queue",
        "has its quota in ClusterQueue {queue} and its place on {clusters}; waits for admission checks: {checks}",
        "Whoever answers a check says more in its message: `kubectl get workload -o yaml`.",
    )
    ADMISSION_GATED = _Entry("AdmissionGated", "Queue", "{detail}", "Whoever put the gate there has to open it.")
    ADMISSION_DOUBTED = _Entry(
        "AdmissionDoubted", "Queue", "what its pods ask for counts, not what is written: {detail}", ""
    )
    QUOTA_FOLLOWS = _Entry("QuotaFollowsClusters", "Queue", "{detail}", "")
    QUOTA_KEPT = _Entry("QuotaKeptForRunning", "Queue", "{detail}", "")
    SUSPENDED = _Entry("Suspended", "Job", "suspended by its owner", "Set spec.suspend to false.")
    PARALLELISM_REACHED = _Entry("ParallelismReached", "Job", "{active} tasks run; parallelism allows no more", "")

    # Placement: why no cluster takes it.
    NO_CLUSTERS = _Entry(
        "NoClusters",
        "Placement",
        "no cluster has joined this hub",
        "Start a site (`quarterdeck up`) or join one.",
    )
    SPREAD_UNEVEN = _Entry(
        "SpreadUneven",
        "Placement",
        "has room on {clusters} only, where more tasks would make the spread over {key} larger than {skew}",
        "Wait for room in the other topologies, raise maxSkew, or write whenUnsatisfiable ScheduleAnyway.",
    )
    NO_CLUSTER_FITS = _Entry(
        "NoClusterFits",
        "Placement",
        "needs {shape} a task; {detail}",
        "`quarterdeck explain JOB` lists every cluster with what it lacks.",
    )
    WAITING_FOR_CAPACITY = _Entry(
        "WaitingForCapacity",
        "Placement",
        "needs {shape} a task; the clusters that could run it are full: {detail}",
        "Wait for tasks to end, ask for less a task, or let the job use more clusters or GPU models.",
    )
    CLUSTER_NOT_ACCEPTED = _Entry(
        "ClusterNotAccepted", "Cluster", "not accepted by the hub", "`quarterdeck clusters accept {cluster}`"
    )
    CLUSTER_LEAVING = _Entry("ClusterLeaving", "Cluster", "is being removed from the fleet", "")
    CLUSTER_UNREACHABLE = _Entry(
        "ClusterUnreachable", "Cluster", "silent for {age}", "Check the agent and its network."
    )
    CLUSTER_TAINTED = _Entry("ClusterTainted", "Cluster", "has taint {taint}", "Add a toleration or remove the taint.")
    SCORE_UNKNOWN = _Entry(
        "ScoreUnknown",
        "Cluster",
        "no score {scores}, and missing-score is Exclude",
        "See the AddOnPlacementScore of the cluster, or write another missing-score.",
    )
    CLUSTER_AVOIDED = _Entry(
        "ClusterAvoided", "Cluster", "has taint {taint}: it comes after all others", "Tolerate the taint, or remove it."
    )
    CLUSTER_NOT_BOUND = _Entry(
        "ClusterNotBound",
        "Cluster",
        "is in no cluster set bound to namespace {namespace}",
        "Create a ManagedClusterSetBinding in the namespace.",
    )
    NOT_A_WORKER = _Entry(
        "NotAWorker",
        "Cluster",
        "ClusterQueue {queue} is for other clusters, by its admission check of MultiKueue",
        "Add it to the MultiKueueConfig that the queue's AdmissionCheck names.",
    )
    SELECTOR_MISMATCH = _Entry("SelectorMismatch", "Cluster", "does not match {selector}", "")
    GPU_MODEL_ABSENT = _Entry("GpuModelAbsent", "Cluster", "has {found}, not {wanted}", "")
    IMAGE_NOT_AVAILABLE = _Entry(
        "ImageNotAvailable",
        "Cluster",
        "cannot run image {image}",
        "Map the image in the site's `images`, or install podman or docker there.",
    )
    SHAPE_NEVER_FITS = _Entry("ShapeNeverFits", "Cluster", "no node can run it: {detail}", "")
    NO_FREE_SLOT = _Entry("NoFreeSlot", "Cluster", "full for this shape: {detail}", "")
    REPORT_UNREADABLE = _Entry(
        "ReportUnreadable",
        "Cluster",
        "what it says of itself cannot be used: {detail}. What it said before still counts.",
        "Mend it where it comes from: the site's file, the node, its device plugin. Then see the agent's log.",
    )
    REPORT_READ = _Entry("ReportRead", "Cluster", "what it says of itself can be read again", "")
    CAPACITY_UNKNOWN = _Entry("CapacityUnknown", "Cluster", "has not reported its capacity", "Check the agent's log.")
    FLAVOR_MISMATCH = _Entry("FlavorMismatch", "Cluster", "its labels are not those of flavor {flavor}", "")
    TOO_SMALL_TOGETHER = _Entry(
        "TooSmallTogether", "Cluster", "holds {capacity} of the {wanted} tasks that must start at once", ""
    )
    NO_ROOM_TOGETHER = _Entry(
        "NoRoomTogether", "Cluster", "has room for {room} of the {wanted} tasks that must start at once", ""
    )
    CLUSTER_LIMIT_REACHED = _Entry(
        "ClusterLimitReached", "Cluster", "the job may use {limit} clusters and is on {clusters}", ""
    )
    EXCLUDED_AFTER_FAILURE = _Entry(
        "ExcludedAfterFailure", "Cluster", "tasks {tasks} failed here and asked to be retried elsewhere", ""
    )

    # Jobs and their tasks.
    QUEUED = _Entry("Queued", "Job", "waits in LocalQueue {queue} for its turn", "")
    RUNNING = _Entry("Running", "Job", "{active} of {tasks} tasks running on {clusters}", "")
    SUCCEEDED = _Entry("Succeeded", "Job", "{tasks} of {tasks} tasks succeeded", "")
    TASKS_FAILED = _Entry(
        "TasksFailed",
        "Job",
        "{failed} of {tasks} tasks failed: {indexes}",
        "`quarterdeck logs JOB --failed`, then `quarterdeck retry --failed JOB`.",
    )
    CANCELLED = _Entry("Cancelled", "Job", "cancelled by its owner", "")
    DEADLINE_EXCEEDED = _Entry(
        "DeadlineExceeded", "Job", "ran longer than activeDeadline {deadline}", "Raise spec.activeDeadline."
    )
    INVALID_SPEC = _Entry("InvalidSpec", "Job", "{detail}", "Correct the field and apply again.")
    RETRYING = _Entry(
        "Retrying",
        "Attempt",
        "tasks {tasks} failed on {cluster} ({detail}); attempt {attempt} of {limit} follows",
        "",
    )
    RETRIES_EXHAUSTED = _Entry("RetriesExhausted", "Task", "failed {attempts} times; last on {cluster}: {detail}", "")
    EXIT_CODE_NOT_RETRIED = _Entry("ExitCodeNotRetried", "Task", "exit code {code} is not to be retried", "")
    CLUSTER_LOST = _Entry(
        "ClusterLost", "Attempt", "{cluster} was cut off; tasks {tasks} go elsewhere with a new epoch", ""
    )
    PREEMPTED = _Entry(
        "Preempted",
        "Attempt",
        "{detail}",
        "It runs again as soon as quota and room allow. More nominal quota or a higher priority protects it.",
    )
    ELASTIC_SHRINK = _Entry(
        "ElasticShrink",
        "Attempt",
        "{detail}",
        "It takes the slots again when nobody who is entitled to them needs them. A higher elastic.min keeps more.",
    )
    ELASTIC_GROW = _Entry(
        "ElasticGrow",
        "Attempt",
        "slots that nobody else takes",
        "It gives them back when somebody who is entitled to them needs them.",
    )
    CLUSTER_QUEUE_STOPPED = _Entry(
        "ClusterQueueStopped",
        "Attempt",
        "ClusterQueue {queue} is being drained (stopPolicy HoldAndDrain)",
        "It runs again once the stopPolicy is None.",
    )
    LOCAL_QUEUE_STOPPED = _Entry(
        "LocalQueueStopped",
        "Attempt",
        "LocalQueue {queue} is being drained (stopPolicy HoldAndDrain)",
        "It runs again once the stopPolicy is None.",
    )
    PODS_READY_TIMEOUT = _Entry(
        "PodsReadyTimeout",
        "Attempt",
        "{ready} of {wanted} tasks ran on {cluster} after {timeout}",
        "Look at the cluster's events: images, volumes and nodes that are not ready are the usual causes.",
    )
    BACKING_OFF = _Entry(
        "BackingOff",
        "Job",
        "its tasks did not all start in time, {count} times in a row; it tries again at {at}",
        "Look at the events of the clusters it was on.",
    )
    ADMISSION_CHECK = _Entry(
        "AdmissionCheck",
        "Attempt",
        "gives its quota back, for admission checks ask to try again: {checks}",
        "It is queued again by itself.",
    )
    CHECK_RETRY = _Entry(
        "AdmissionCheckRetry", "Job", "admission checks asked to try again; it is queued again at {at}", ""
    )
    CHECK_REJECTED = _Entry(
        "DeactivatedDueToAdmissionCheck",
        "Job",
        "deactivated: an admission check rejected it",
        "The condition Evicted of its Workload says which and why. Then set spec.active of it to true.",
    )
    DEACTIVATED = _Entry(
        "Deactivated", "Job", "deactivated: spec.active of its Workload is false", "Set it to true to queue it again."
    )
    REQUEUING_LIMIT_EXCEEDED = _Entry(
        "DeactivatedDueToRequeuingLimitExceeded",
        "Job",
        "deactivated: its tasks did not all start in time, {count} times",
        "Find out why, then set spec.active of its Workload to true.",
    )
    MAX_EXECUTION_TIME = _Entry(
        "DeactivatedDueToMaximumExecutionTimeExceeded",
        "Job",
        "deactivated: it ran longer than maximumExecutionTime {limit}",
        "Raise the limit, then set spec.active of its Workload to true.",
    )
    IDLE = _Entry(
        "Idle",
        "Attempt",
        "its GPUs on {cluster} were used {used} % over {window}; {threshold} % is the least that is expected",
        "Ask for fewer GPUs or a share of one, or find out what it waits for.",
    )
    STALE_RESULT = _Entry(
        "StaleResult",
        "Attempt",
        "{cluster} reported tasks {tasks} of a superseded epoch: recorded, not counted",
        "",
    )
    WORK_REFUSED = _Entry("WorkRefused", "Attempt", "{cluster} could not apply the work: {detail}", "")

    # What a site without Kubernetes says of the tasks it runs.
    POD_NOT_SUPPORTED = _Entry(
        "PodNotSupported",
        "Attempt",
        "this site cannot run the pod as it is written: {detail}",
        "Leave the field out, or place the job on a Kubernetes cluster.",
    )
    START_FAILED = _Entry("StartError", "Task", "could not be started: {detail}", "Check command, workingDir and PATH.")
    RUNTIME_KILLED = _Entry("RuntimeKilled", "Task", "its supervisor was killed, and it with it", "")
    OUT_OF_MEMORY = _Entry("OOMKilled", "Task", "used more memory than its limit", "Raise resources.limits.memory.")
    STOPPED = _Entry("Stopped", "Task", "ended by its site before it was done; it will run again", "")
    CONFIG_MISSING = _Entry(
        "ConfigMissing", "Attempt", "waits: {detail}", "Create it in the job's namespace on the site."
    )
    SITE_SHORTAGE = _Entry(
        "SiteShortage", "Attempt", "waits: {detail}", "Free some space or processes there: it goes on by itself."
    )
    JOB_COMPLETE = _Entry("CompletionsReached", "Attempt", "Reached expected number of succeeded pods", "")
    FAILED_INDEXES = _Entry("FailedIndexes", "Attempt", "Job has failed indexes", "")
    BACKOFF_LIMIT_EXCEEDED = _Entry(
        "BackoffLimitExceeded", "Attempt", "Job has reached the specified backoff limit", "Raise spec.backoffLimit."
    )
    MAX_FAILED_INDEXES = _Entry(
        "MaxFailedIndexesExceeded", "Attempt", "Job has exceeded the specified maximal number of failed indexes", ""
    )

    # Scores.
    SCORE_STALE = _Entry("ScoreStale", "Score", "{source}: last value is {age} old; counted as unknown", "")
    SCORE_SOURCE_FAILED = _Entry("ScoreSourceFailed", "Score", "{source}: {detail}", "Check its address and query.")
    SCORE_INCOMPLETE = _Entry(
        "ScoreIncomplete", "Score", "{source}: {detail}", "The clusters that it names are unknown; the others count."
    )
    SCORE_ANSWERED = _Entry("ScoreAnswered", "Score", "{source}: values for {clusters} clusters", "")
    SCORE_EXPIRED = _Entry(
        "ScoreExpired", "Score", "{detail}", "The values of these clusters are unknown until they are scored again."
    )
    SCORE_NOT_A_NUMBER = _Entry(
        "ScoreNotANumber", "Score", "{source}: {detail}", "Scores must be finite numbers; null, NaN and text are none."
    )
    SCORE_NAME_TAKEN = _Entry(
        "ScoreNameTaken", "Score", "{source}: {detail}", "Give one of them another name, or delete it."
    )
    SCORER_SPEC_INVALID = _Entry("ScorerSpecInvalid", "Score", "{source}: {detail}", "Correct the object.")
    SCORER_NOT_THERE = _Entry("ScorerNotThere", "Score", "{detail}", "The name and namespace must be the scorer's.")
    SCORER_ACCEPTED = _Entry("ScorerAccepted", "Score", "{detail}", "")
    SCORER_SYNCED = _Entry("ScorerSynced", "Score", "{source}: {detail}", "")
    SCORER_CONFIG_INVALID = _Entry(
        "ScorerConfigInvalid", "Score", "{source}: {detail}", "Correct what the scorer serves at configURL."
    )
    SCORER_INACTIVE = _Entry(
        "ScorerInactive", "Score", "{source}: {detail}", "It is asked again once configURL or /healthz answers."
    )
    SCORER_REQUEST_REFUSED = _Entry(
        "ScorerRequestRefused", "Score", "{source}: {detail}", "Look at the scorer's log, and at its token."
    )
    SCORER_FAILED = _Entry("ScorerFailed", "Score", "{source}: {detail}", "Look at the scorer's log.")
    SCORER_TIMEOUT = _Entry(
        "ScorerTimeout", "Score", "{source}: {detail}", "Make it quicker, or raise timeout in its ScorerPolicy."
    )
    SCORER_UNREACHABLE = _Entry("ScorerUnreachable", "Score", "{source}: {detail}", "Check its address.")
    SCORER_REDIRECTED = _Entry(
        "ScorerRedirected", "Score", "{source}: {detail}", "Write the address that answers itself."
    )
    SCORER_ANSWER_UNUSABLE = _Entry(
        "ScorerAnswerUnusable", "Score", "{source}: {detail}", "The answer must be as the protocol has it."
    )
    SCORER_ANSWER_NOT_JSON = _Entry(
        "ScorerAnswerNotJSON", "Score", "{source}: {detail}", "Is there a proxy or a login page before it?"
    )
    SCORER_NO_RESULTS = _Entry("ScorerNoResults", "Score", "{source}: {detail}", "")
    SCORER_SECRET_MISSING = _Entry(
        "ScorerSecretMissing",
        "Score",
        "{source}: {detail}",
        "Create the Secret in the scorer's namespace; where agents ask, in dynamic-scoring of the cluster.",
    )
    SCORER_NOT_ALLOWED = _Entry(
        "ScorerNotAllowed",
        "Score",
        "{source}: {detail}",
        "Add the host to sources.allow, or the program to sources.programs, of the hub's or the agent's configuration.",
    )
    SCORER_NO_CLUSTERS = _Entry(
        "ScorerNoClusters", "Score", "{source}: {detail}", "Look at its ScorerPolicy and at the masks."
    )
    SCORER_WAITS = _Entry("ScorerWaits", "Score", "{source}: {detail}", "")
    FILTERED_BY_SCORER = _Entry("FilteredByScorer", "Score", "scorer {scorer} leaves it out", "")
    LIMITED_BY_SCORER = _Entry(
        "LimitedByScorer",
        "Score",
        "has room for {room}, and scorer {scorer} allows {allowed} more",
        "Wait for tasks to end, or raise what the scorer counts.",
    )
    SCORE_PLUGIN_FAILED = _Entry(
        "ScorePluginFailed", "Score", "{plugin}: {detail}", "It costs itself only; fix the plugin."
    )

    @property
    def code(self) -> str:
        return self.value.code

    @property
    def scope(self) -> Scope:
        return self.value.scope

    @property
    def template(self) -> str:
        return self.value.template

    @property
    def facts(self) -> tuple[str, ...]:
        """Names that `message` needs."""
        return tuple(dict.fromkeys(name for _, name, _, _ in Formatter().parse(self.value.template) if name))

    @property
    def advice(self) -> str:
        return self.value.advice

    def message(self, **facts: object) -> str:
        return self.value.template.format(**facts)
