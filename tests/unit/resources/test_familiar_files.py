"""Files of the kind that Calico's users have are taken as they are, and come back with nothing missing."""

from __future__ import annotations

import pytest

from tortie.resources import codec
from tortie.resources.documents import parse
from tortie.resources.reading import read

FILES = {
    "bgp": """
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec:
  logSeverityScreen: info
  nodeToNodeMeshEnabled: true
  nodeMeshMaxRestartTime: 90s
  nodeMeshPassword: {secretKeyRef: {name: bgp, key: mesh}}
  asNumber: 64600
  listenPort: 1179
  bindMode: NodeIP
  ignoredInterfaces: [docker0]
  serviceClusterIPs: [{cidr: 10.96.0.0/12}]
  serviceExternalIPs: [{cidr: 198.51.100.0/24}]
  communities: [{name: uplink, value: "64600:10:20"}]
  prefixAdvertisements: [{cidr: 10.1.0.0/16, communities: [uplink, "64600:30"]}]
""",
    "peer": """
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: rack1-tor}
spec:
  nodeSelector: rack == 'rack-1'
  peerIP: "[2001:db8::1]:1179"
  asNumber: 64567
  keepOriginalNextHop: true
  maxRestartTime: 60s
  numAllowedLocalASNumbers: 1
  ttlSecurity: 1
  filters: [one]
""",
    "felix": """
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: node.worker-1}
spec:
  ipipMTU: 1440
  chainInsertMode: Append
  iptablesBackend: NFT
  reportingInterval: 0s
  natPortRange: "32768:65535"
  failsafeInboundHostPorts: []
  failsafeOutboundHostPorts: [{protocol: udp, port: 53, net: 10.0.0.0/8}]
  prometheusMetricsEnabled: true
  bpfLogLevel: ""
""",
    "node": """
apiVersion: projectcalico.org/v3
kind: Node
metadata:
  name: worker-1
  annotations: {projectcalico.org/kube-labels: '{"kubernetes.io/os":"linux"}'}
  labels: {kubernetes.io/os: linux}
spec:
  addresses: [{address: 172.30.0.11/24, type: CalicoNodeIP}, {address: 172.30.0.11, type: InternalIP}]
  bgp:
    asNumber: 64512
    ipv4Address: 172.30.0.11/24
    ipv6Address: 2001:db8::11/64
    ipv4IPIPTunnelAddr: 10.1.0.1
    routeReflectorClusterID: 244.0.0.1
  ipv4VXLANTunnelAddr: 10.1.0.2
  vxlanTunnelMACAddr: 66:a7:3f:00:12:ab
  orchRefs: [{nodeName: worker-1, orchestrator: k8s}]
  wireguard: {interfaceIPv4Address: 10.1.0.3}
status:
  wireguardPublicKey: jlkVyQYooZYzI2wFfNhSZez5eWh44yfq1wKVjLvSXgY=
  podCIDRs: [10.1.0.0/24]
""",
    "pool": """
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: rack.one-ipv6}
spec:
  cidr: 2001:db8:1::/64
  blockSize: 120
  vxlanMode: CrossSubnet
  ipipMode: Never
  natOutgoing: true
  disableBGPExport: true
  nodeSelector: rack == "1" && !has(edge)
  allowedUses: [Tunnel]
  assignmentMode: Manual
""",
    "profile": """
apiVersion: projectcalico.org/v3
kind: Profile
metadata: {name: kns.default}
spec:
  labelsToApply: {pcns.projectcalico.org/name: default}
  ingress:
  - action: Allow
    protocol: TCP
    source: {selector: app == 'web', notNets: [10.9.0.0/16]}
    destination: {ports: [80, "8000:8080", http]}
  egress:
  - action: Deny
    protocol: ICMP
    icmp: {type: 8, code: 0}
    notProtocol: 132
""",
    "cluster": """
apiVersion: projectcalico.org/v3
kind: ClusterInformation
metadata: {name: default}
spec: {clusterGUID: ab12, clusterType: "k8s,bgp", calicoVersion: v3.33.0, datastoreReady: true, variant: Calico}
""",
}


@pytest.mark.parametrize("name", FILES)
def test_it_comes_back_as_it_came(name: str) -> None:
    (resource,) = read(FILES[name], name)
    (document,) = parse(FILES[name], name)
    given = document.value
    encoded = codec.encode(resource)
    assert encoded == {**given, "spec": {**encoded["spec"], **given["spec"]}}
