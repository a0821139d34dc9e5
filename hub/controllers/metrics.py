"""The hub's own metrics. One registry an instance, made without side effects, so that tests and the reference page can.

Names, types and sentences are read by docs/generate.py. Serving them is hub/controllers/metrics_server.py.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from hub.controllers.scorer_metrics import ScorerMetrics

_CYCLE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_WAIT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0, 21600.0)


class HubMetrics:
    """`registry` holds them all. Gauges are set by the loop; nothing here computes."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.leader = Gauge(
            "quarterdeck_hub_leader", "1 while this hub leads, 0 while it stands by.", registry=registry
        )
        self.jobs = Gauge("quarterdeck_jobs", "Jobs by phase.", ["phase"], registry=registry)
        self.pending = Gauge(
            "quarterdeck_pending_jobs",
            "Jobs with tasks that wait for quota or room, by LocalQueue.",
            ["namespace", "queue"],
            registry=registry,
        )
        self.tasks_held = Gauge(
            "quarterdeck_tasks_held", "Tasks that hold quota and room on clusters now.", registry=registry
        )
        self.cycle_seconds = Histogram(
            "quarterdeck_cycle_seconds",
            "Time of one decision over everything that waits.",
            buckets=_CYCLE_BUCKETS,
            registry=registry,
        )
        self.placement_seconds = Histogram(
            "quarterdeck_placement_seconds",
            "Time of one look at the Placements that something has changed for.",
            buckets=_CYCLE_BUCKETS,
            registry=registry,
        )
        self.decisions = Counter(
            "quarterdeck_decisions_total",
            "Decisions by outcome: slices admitted, or the reason of the refusal.",
            ["outcome"],
            registry=registry,
        )
        self.preemptions = Counter(
            "quarterdeck_preemptions_total",
            "Slices that were told to make way for another job, by the ClusterQueue that they were of and by why.",
            ["queue", "reason"],
            registry=registry,
        )
        self.evictions = Counter(
            "quarterdeck_evictions_total",
            "Slices that were told to go, by the ClusterQueue that they were of and by why.",
            ["queue", "reason"],
            registry=registry,
        )
        self.admission_wait = Histogram(
            "quarterdeck_admission_wait_seconds",
            "From a job's creation to its first slice.",
            buckets=_WAIT_BUCKETS,
            registry=registry,
        )
        self.writes = Counter(
            "quarterdeck_writes_total",
            "Writes to the API by verb and resource.",
            ["verb", "resource"],
            registry=registry,
        )
        self.writes_avoided = Counter(
            "quarterdeck_writes_avoided_total",
            "Writes that were merged into a later one, or would have changed nothing.",
            ["how"],
            registry=registry,
        )
        self.write_backlog = Gauge(
            "quarterdeck_write_backlog", "Objects that something is to be written to.", registry=registry
        )
        self.write_failures = Counter(
            "quarterdeck_write_failures_total",
            "Writes that the API refused, by resource.",
            ["resource"],
            registry=registry,
        )
        self.queue_usage = Gauge(
            "quarterdeck_queue_usage",
            "What a ClusterQueue has in use, in the resource's unit (cpu in cores).",
            ["queue", "flavor", "resource"],
            registry=registry,
        )
        self.queue_nominal = Gauge(
            "quarterdeck_queue_nominal", "What a ClusterQueue owns.", ["queue", "flavor", "resource"], registry=registry
        )
        self.queue_decayed = Gauge(
            "quarterdeck_queue_decayed_usage",
            "What a LocalQueue has used, fading with the half-life of admissionFairSharing (a day if that is not set), "
            "in the resource's unit (cpu in cores).",
            ["namespace", "queue", "resource"],
            registry=registry,
        )
        self.evenness = Gauge(
            "quarterdeck_cohort_jain_index",
            "Jain's index of what the ClusterQueues of a cohort use in proportion to their own quota: 1 is even. "
            "Counted are those that use something or wait.",
            ["cohort"],
            registry=registry,
        )
        self.owed = Gauge(
            "quarterdeck_guarantee_violations",
            "Jobs that wait for quota which their ClusterQueue owns and does not use.",
            ["queue"],
            registry=registry,
        )
        self.starved = Gauge(
            "quarterdeck_starved_jobs",
            "Jobs of which nothing runs, and that have waited longer than queue.starvation for their turn.",
            ["queue"],
            registry=registry,
        )
        self.oldest = Gauge(
            "quarterdeck_oldest_pending_seconds",
            "How long the oldest job waits of which nothing runs.",
            ["queue"],
            registry=registry,
        )
        self.idle = Gauge(
            "quarterdeck_idle_slices", "Slices that use less of their GPUs than queue.idle asks for.", registry=registry
        )
        self.weighted_share = Gauge(
            "quarterdeck_queue_weighted_share",
            "What a ClusterQueue borrows of its dominant resource, in thousandths of what is lent, over its weight.",
            ["queue"],
            registry=registry,
        )
        self.clusters = Gauge(
            "quarterdeck_clusters",
            "Clusters by state: available, unavailable, unreachable, waiting, leaving.",
            ["state"],
            registry=registry,
        )
        self.cluster_unreadable = Gauge(
            "quarterdeck_cluster_unreadable",
            "1 for a cluster whose ManagedCluster or ClusterCapacity cannot be read: what it said before counts.",
            ["cluster"],
            registry=registry,
        )
        self.lease_age = Gauge(
            "quarterdeck_cluster_silence_seconds", "Since a cluster was last heard.", ["cluster"], registry=registry
        )
        self.score_age = Gauge(
            "quarterdeck_score_age_seconds",
            "Since a score source or plugin last answered.",
            ["source"],
            registry=registry,
        )
        self.score_coverage = Gauge(
            "quarterdeck_score_coverage",
            "The part of the clusters for which a source, a plugin or a column of AddOnPlacementScores has a value.",
            ["source"],
            registry=registry,
        )
        self.scorer_seconds = Histogram(
            "quarterdeck_scorer_seconds",
            "Time of one call of a scorer plugin, or of one question to a score source.",
            ["scorer"],
            buckets=_CYCLE_BUCKETS,
            registry=registry,
        )
        self.scorer_failures = Counter(
            "quarterdeck_scorer_failures_total",
            "Calls of a scorer plugin and questions to a score source that failed or were answered with nonsense.",
            ["scorer"],
            registry=registry,
        )
        self.scorer_ready = Gauge(
            "quarterdeck_scorer_ready",
            "1 while a scorer plugin or score source answers; 0: its last values count until they are too old.",
            ["scorer"],
            registry=registry,
        )
        self.dynamic = ScorerMetrics(registry)
        self.publish_seconds = Histogram(
            "quarterdeck_publish_seconds",
            "Time of one look at what scores are to be published; refused writes are among the write failures.",
            buckets=_CYCLE_BUCKETS,
            registry=registry,
        )
        self.published_coverage = Gauge(
            "quarterdeck_published_score_coverage",
            "The part of the accepted clusters whose AddOnPlacementScore of the hub has this score.",
            ["score"],
            registry=registry,
        )
        self.published_age = Gauge(
            "quarterdeck_published_score_age_seconds",
            "Since the oldest AddOnPlacementScore of the hub with this score was written.",
            ["score"],
            registry=registry,
        )
        self.informer_silence = Gauge(
            "quarterdeck_informer_silence_seconds",
            "Since the API last said anything about a resource.",
            ["resource"],
            registry=registry,
        )
        self.informer_objects = Gauge(
            "quarterdeck_informer_objects", "Objects known of a resource.", ["resource"], registry=registry
        )
        self.job_errors = Counter(
            "quarterdeck_job_errors_total",
            "Times a single job could not be handled; the others went on.",
            registry=registry,
        )
        self.room_failures = Counter(
            "quarterdeck_part_failures_total",
            "Times a part of the hub failed and was started again.",
            ["part"],
            registry=registry,
        )
        self.loop_lag = Gauge(
            "quarterdeck_loop_lag_seconds", "How late the hub's event loop runs its timers.", registry=registry
        )
