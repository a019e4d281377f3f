"""The numbers that this process shows to Prometheus: Felix's names where the meaning is the same, ``tortie_…`` where it is not.

One value, made once by the composition root and handed to whoever counts; nothing is global, so that tests and several agents
in one process do not share numbers.
"""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from tortie.observe.policy_metrics import PolicyMetrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


class Metrics:
    """Every metric of an agent, by the field's name without its prefix."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)

        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def seconds(name: str, text: str) -> Histogram:
            return Histogram(name, text, buckets=SECONDS, registry=registry)

        # Calculation
        self.active_local_endpoints = gauge("felix_active_local_endpoints", "Workloads of this node.")
        self.active_local_policies = gauge(
            "felix_active_local_policies", "Policies that select an endpoint of this node."
        )
        self.active_local_selectors = gauge(
            "felix_active_local_selectors", "Selectors that the rules of these policies use."
        )
        self.cluster_policies = gauge(
            "felix_cluster_num_policies", "Policies in the cluster, staged ones too."
        )
        self.cluster_profiles = gauge("felix_cluster_num_profiles", "Profiles in the cluster.")
        self.cluster_tiers = gauge("felix_cluster_num_tiers", "Tiers in the cluster that are stored.")
        self.calc_graph_update_time = seconds(
            "felix_calc_graph_update_time_seconds", "Time to fold one slice of updates."
        )
        self.calc_graph_updates = counter(
            "felix_calc_graph_updates_processed", "Updates that the calculation took in.", ("type",)
        )
        self.calc_graph_flush_time = seconds(
            "tortie_calc_graph_flush_time_seconds", "Time to turn what changed into rows."
        )
        self.cluster_hosts = gauge("felix_cluster_num_hosts", "Nodes in the cluster.")
        self.cluster_endpoints = gauge(
            "felix_cluster_num_workload_endpoints", "WorkloadEndpoints in the cluster."
        )
        self.problems = gauge("tortie_invalid_resources", "Resources that cannot be taken as they are.")
        self.problem = gauge(
            "tortie_invalid_resource",
            "One that cannot be taken as it is, by name; always 1.",
            ("resource", "field"),
        )
        # Datastore
        self.resync_state = gauge(
            "felix_resync_state", "Datastore: 1 waiting for it, 2 reading the snapshot, 3 in sync."
        )
        self.resyncs_started = counter("felix_resyncs_started", "Times that a kind was listed anew.")
        self.inbox_size = gauge("tortie_inbox_size", "Updates that wait for the calculation.")
        # Dataplane
        self.apply_time = seconds(
            "felix_int_dataplane_apply_time_seconds", "Time to make one flush real in the kernel."
        )
        self.apply_failures = counter(
            "felix_int_dataplane_failures", "Rounds of the dataplane that left something undone."
        )
        self.messages = counter(
            "felix_int_dataplane_messages", "Rows handed to the dataplane, by table.", ("type",)
        )
        self.realise_time = seconds(
            "tortie_endpoint_realise_seconds", "Time that an ADD waited for its endpoint to be real."
        )
        self.failed_rows = gauge("tortie_dataplane_failed_rows", "Rows that are not real now.")
        self.failed_row = gauge(
            "tortie_dataplane_failed_row",
            "One that is not real now, by name, such as a policy that the kernel refuses; always 1.",
            ("table", "key"),
        )
        self.generation = gauge("tortie_dataplane_generation", "The last flush that was applied.")
        self.kernel_writes = gauge(
            "tortie_dataplane_kernel_writes",
            "Messages that changed the kernel, and switches set, since the start.",
        )
        self.flows_forgotten = gauge(
            "tortie_conntrack_flows_forgotten",
            "Flows that were removed since their address left, since the start.",
        )
        self.flows_cut = gauge(
            "tortie_conntrack_flows_cut", "Running flows that a new deny has cut, since the start."
        )
        self.refreshes = counter(
            "tortie_dataplane_refreshes", "Times that the kernel was read anew.", ("why",)
        )
        self.routes = gauge("felix_route_table_num_routes", "Routes that this node should hold.")
        self.desired_rows = gauge(
            "tortie_desired_rows", "Rows that this node should hold, by table.", ("table",)
        )
        # Policy
        self.policies = PolicyMetrics()
        registry.register(self.policies)
        # The process
        self.host = gauge("felix_host", "This node's name, as a label; always 1.", ("host",))
        self.loop_lag = gauge("tortie_event_loop_lag_seconds", "Longest lag of the event loop lately.")
        self.cni_time = Histogram(
            "tortie_cni_request_seconds",
            "Time from a CNI request to its answer.",
            ("command",),
            buckets=SECONDS,
            registry=registry,
        )
        self.cni_failures = counter("tortie_cni_failures", "CNI requests that failed.", ("command", "code"))

    def render(self) -> bytes:
        """All of it in Prometheus' text format. May be called from any thread."""
        return generate_latest(self.registry)
