"""FelixConfiguration: ``default`` for the cluster, ``node.<name>`` for one node.

Typed are the fields that Tortie reads; Calico's others are known by name, carried along and not acted on.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.resources.findings import Findings
from tortie.resources.kind_info import CALICO, NAME, KindInfo
from tortie.resources.resource import Kind, Resource
from tortie.resources.spec import Spec

FELIX_CONFIGURATION = Kind(CALICO, "FelixConfiguration")


class ProtoPort(Spec, frozen=True):
    """A port that fail-safe rules leave open; ``net`` None means to and from everywhere."""

    protocol: str = "tcp"
    port: int = 0
    net: str | None = None


class HealthTimeoutOverride(Spec, frozen=True):
    """How long the reporter of that name may be silent."""

    name: str = ""
    timeout: str = "90s"


class FelixConfigurationSpec(Spec, frozen=True):
    """None means unset: the next source, or Calico's default, holds. Intervals are durations such as ``90s``."""

    interface_prefix: str | None = None
    interface_exclude: str | None = None
    default_endpoint_to_host_action: str | None = None
    nat_outgoing_exclusions: str | None = None
    nat_outgoing_address: str | None = None
    nat_port_range: str | int | None = None
    remove_external_routes: bool | None = None
    device_route_protocol: int | None = None
    device_route_source_address: str | None = None
    device_route_source_address_ipv6: str | None = None
    route_refresh_interval: str | None = None
    route_sync_disabled: bool | None = None
    route_source: str | None = None
    interface_refresh_interval: str | None = None
    nftables_refresh_interval: str | None = None
    nftables_mode: str | None = None
    mtu_iface_pattern: str | None = None
    prometheus_metrics_enabled: bool | None = None
    prometheus_metrics_host: str | None = None
    prometheus_metrics_port: int | None = None
    prometheus_go_metrics_enabled: bool | None = None
    prometheus_process_metrics_enabled: bool | None = None
    health_enabled: bool | None = None
    health_host: str | None = None
    health_port: int | None = None
    health_timeout_overrides: tuple[HealthTimeoutOverride, ...] | None = None
    log_severity_screen: str | None = None
    log_severity_file: str | None = None
    log_severity_sys: str | None = None
    log_file_path: str | None = None
    log_prefix: str | None = None
    ip_forwarding: str | None = None
    workload_source_spoofing: str | None = None
    ipv4_normal_route_priority: int | None = None
    ipv4_elevated_route_priority: int | None = None
    ipv6_normal_route_priority: int | None = None
    ipv6_elevated_route_priority: int | None = None
    endpoint_reporting_enabled: bool | None = None
    endpoint_reporting_delay: str | None = None
    endpoint_status_path_prefix: str | None = None
    failsafe_inbound_host_ports: tuple[ProtoPort, ...] | None = None
    failsafe_outbound_host_ports: tuple[ProtoPort, ...] | None = None
    ipip_enabled: bool | None = None
    ipip_mtu: int | None = None
    vxlan_enabled: bool | None = None
    vxlan_mtu: int | None = None
    vxlan_mtu_v6: int | None = None
    vxlan_port: int | None = None
    vxlan_vni: int | None = None
    wireguard_enabled: bool | None = None
    wireguard_enabled_v6: bool | None = None
    wireguard_mtu: int | None = None
    wireguard_mtu_v6: int | None = None
    nftables_filter_allow_action: str | None = None
    nftables_filter_deny_action: str | None = None
    nftables_mangle_allow_action: str | None = None
    nftables_mark_mask: int | None = None
    service_loop_prevention: str | None = None
    disable_conntrack_invalid_check: bool | None = None
    reporting_interval: str | None = None
    reporting_ttl: str | None = msgspec.field(default=None, name="reportingTTL")
    netlink_timeout: str | None = None
    dataplane_watchdog_timeout: str | None = None
    external_nodes_list: tuple[str, ...] | None = msgspec.field(default=None, name="externalNodesList")
    allow_vxlan_packets_from_workloads: bool | None = None
    allow_ipip_packets_from_workloads: bool | None = None
    program_cluster_routes: str | None = None
    node_selector: str | None = None


CARRIED = frozenset(
    """
    awsSrcDstCheck bpfAttachType bpfCTLBLogFilter bpfConnectTimeLoadBalancing bpfConnectTimeLoadBalancingEnabled
    bpfConntrackLogLevel bpfConntrackMode bpfConntrackTimeouts bpfDSROptoutCIDRs bpfDataIfacePattern bpfDisableGROForIfaces
    bpfDisableUnprivileged bpfEnabled bpfEnforceRPF bpfExcludeCIDRsFromNAT bpfExportBufferSizeMB bpfExtToServiceConnmark
    bpfExternalServiceMode bpfForceTrackPacketsFromIfaces bpfHostConntrackBypass bpfHostNetworkedNATWithoutCTLB bpfIstioDSCP
    bpfJITHardening bpfKubeProxyEndpointSlicesEnabled bpfKubeProxyHealthzPort bpfKubeProxyIptablesCleanupEnabled
    bpfKubeProxyMinSyncPeriod bpfL3IfacePattern bpfLogFilters bpfLogLevel bpfMaglevMaxEndpointsPerService bpfMaglevMaxServices
    bpfMapSizeConntrack bpfMapSizeConntrackCleanupQueue bpfMapSizeConntrackScaling bpfMapSizeIPSets bpfMapSizeIfState
    bpfMapSizeNATAffinity bpfMapSizeNATBackend bpfMapSizeNATFrontend bpfMapSizePerCpuConntrack bpfMapSizeRoute bpfPSNATPorts
    bpfPolicyDebugEnabled bpfProfiling bpfRedirectToPeer cgroupV2Path chainInsertMode dataplaneDriver debugDisableLogDropping
    debugHost debugMemoryProfilePath debugPort debugSimulateCalcGraphHangAfter debugSimulateDataplaneApplyDelay
    debugSimulateDataplaneHangAfter featureDetectOverride featureGates floatingIPs flowLogsCollectorDebugTrace
    flowLogsFlushInterval flowLogsGoldmaneServer flowLogsLocalReporter flowLogsPolicyEvaluationMode genericXDPEnabled
    goGCThreshold goMaxProcs goMemoryLimitMB healthTimeoutOverrides ipsetsRefreshInterval iptablesBackend
    iptablesFilterAllowAction iptablesFilterDenyAction iptablesLockFilePath iptablesLockProbeInterval iptablesLockTimeout
    iptablesMangleAllowAction iptablesMarkMask iptablesNATOutgoingInterfaceFilter iptablesPostWriteCheckInterval
    iptablesRefreshInterval ipv6Support istioAmbientMode istioDSCPMark kubeNodePortRanges localSubnetL2Reachability
    liveMigrationRouteConvergenceTime logActionRateLimit logActionRateLimitBurst logDebugFilenameRegex maxIpsetSize metadataAddr
    metadataPort openstackRegion policySyncPathPrefix prometheusWireGuardMetricsEnabled requireMTUFile routeTableRange
    routeTableRanges sidecarAccelerationEnabled usageReportingEnabled usageReportingInitialDelay usageReportingInterval
    useInternalDataplaneDriver windowsManageFirewallRules wireguardHostEncryptionEnabled wireguardInterfaceName
    wireguardInterfaceNameV6 wireguardKeepAlive wireguardListeningPort wireguardListeningPortV6 wireguardRoutingRulePriority
    wireguardThreadingEnabled xdpEnabled xdpRefreshInterval
    """.split()
)
"""Calico's other fields: accepted, stored and shown."""

CHOICES: dict[str, tuple[str, ...]] = {
    "defaultEndpointToHostAction": ("Drop", "Accept", "Return"),
    "natOutgoingExclusions": ("IPPoolsOnly", "IPPoolsAndHostIPs"),
    "ipForwarding": ("Enabled", "Disabled"),
    "workloadSourceSpoofing": ("Any", "Disabled"),
    "routeSource": ("CalicoIPAM", "WorkloadIPs"),
    "serviceLoopPrevention": ("Drop", "Reject", "Disabled"),
    "nftablesMode": ("Auto", "Enabled", "Disabled"),
    "nftablesFilterAllowAction": ("Accept", "Return"),
    "nftablesFilterDenyAction": ("Drop", "Reject"),
    "nftablesMangleAllowAction": ("Accept", "Return"),
    "logSeverityScreen": ("Trace", "Debug", "Info", "Warning", "Error", "Fatal"),
    "logSeverityFile": ("Trace", "Debug", "Info", "Warning", "Error", "Fatal"),
    "logSeveritySys": ("Trace", "Debug", "Info", "Warning", "Error", "Fatal"),
}
"""Upper and lower case do not matter, as in Calico."""

RANGES: dict[str, tuple[int, int]] = {
    "deviceRouteProtocol": (0, 255),
    "prometheusMetricsPort": (1, 65535),
    "healthPort": (1, 65535),
    "vxlanPort": (1, 65535),
    "vxlanVNI": (1, 2**24 - 1),
    "ipipMTU": (0, 65535),
    "vxlanMTU": (0, 65535),
    "vxlanMTUV6": (0, 65535),
    "wireguardMTU": (0, 65535),
    "wireguardMTUV6": (0, 65535),
    "nftablesMarkMask": (1, 2**32 - 1),
    "ipv4NormalRoutePriority": (1, 2147483646),
    "ipv4ElevatedRoutePriority": (1, 2147483646),
    "ipv6NormalRoutePriority": (1, 2147483646),
    "ipv6ElevatedRoutePriority": (1, 2147483646),
}

DURATIONS = (
    "routeRefreshInterval",
    "interfaceRefreshInterval",
    "nftablesRefreshInterval",
    "endpointReportingDelay",
    "reportingInterval",
    "reportingTTL",
    "netlinkTimeout",
    "dataplaneWatchdogTimeout",
)

_INTERFACES = re.compile(r"[a-zA-Z0-9_-]{1,15}(,[a-zA-Z0-9_-]{1,15})*")
_PORT_RANGE = re.compile(r"([0-9]{1,5})(:([0-9]{1,5}))?")


def validate(configuration: Resource[Any]) -> list[InvalidResource]:
    """Choices, ranges, durations and patterns of the fields that Tortie reads."""
    spec: FelixConfigurationSpec = configuration.spec
    found = Findings(configuration)
    name = configuration.key.name
    found.subdomain("metadata.name", name)
    if name and name != "default" and not name.startswith("node.") and not spec.node_selector:
        found.add(
            "metadata.name", name, "is neither default nor node.<name>, and there is no spec.nodeSelector"
        )
    values = dict(zip(spec.__struct_encode_fields__, msgspec.structs.astuple(spec), strict=True))
    for field, choices in CHOICES.items():
        found.one_of(f"spec.{field}", values[field], choices, any_case=True)
    for field, (low, high) in RANGES.items():
        found.between(f"spec.{field}", values[field], low, high)
    for field in DURATIONS:
        found.duration(f"spec.{field}", values[field])
    if spec.interface_prefix is not None and not _INTERFACES.fullmatch(spec.interface_prefix):
        found.add("spec.interfacePrefix", spec.interface_prefix, "is not the beginning of an interface name")
    found.regex("spec.mtuIfacePattern", spec.mtu_iface_pattern)
    found.address("spec.natOutgoingAddress", spec.nat_outgoing_address or "", 4)
    found.address("spec.deviceRouteSourceAddress", spec.device_route_source_address or "", 4)
    found.address("spec.deviceRouteSourceAddressIPv6", spec.device_route_source_address_ipv6 or "", 6)
    found.selector("spec.nodeSelector", spec.node_selector)
    if spec.nat_port_range is not None and not _is_port_range(str(spec.nat_port_range)):
        found.add("spec.natPortRange", spec.nat_port_range, "is not a range of ports such as 32768:65535")
    for field, ports in (
        ("failsafeInboundHostPorts", spec.failsafe_inbound_host_ports),
        ("failsafeOutboundHostPorts", spec.failsafe_outbound_host_ports),
    ):
        for index, port in enumerate(ports or ()):
            at = f"spec.{field}[{index}]"
            found.one_of(f"{at}.protocol", port.protocol.lower(), ("tcp", "udp"))
            found.between(f"{at}.port", port.port, 0, 65535)
            if port.net:
                found.prefix(f"{at}.net", port.net, masked=False)
    for index, net in enumerate(spec.external_nodes_list or ()):
        found.prefix(f"spec.externalNodesList[{index}]", net, masked=False)
    return found.found


def _is_port_range(text: str) -> bool:
    match = _PORT_RANGE.fullmatch(text)
    if match is None:
        return False
    low, high = int(match[1]), int(match[3] or match[1])
    return 0 <= low <= high <= 65535


INFO = KindInfo(
    validate=validate,
    known=CARRIED,
    kind=FELIX_CONFIGURATION,
    plural="felixconfigurations",
    spec=FelixConfigurationSpec,
    aliases=("felixconfig", "felixconfigs"),
    columns=(
        NAME,
        Column("LOGSEVERITY", lambda r: r.spec.log_severity_screen, wide=True),
        Column("NATOUTGOINGEXCLUSIONS", lambda r: r.spec.nat_outgoing_exclusions, wide=True),
        Column("ENDPOINTTOHOST", lambda r: r.spec.default_endpoint_to_host_action, wide=True),
    ),
)
