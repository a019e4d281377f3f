"""Files of the kind that Calico's users have are taken as they are, and come back with nothing missing."""

from __future__ import annotations

import pytest

from tortie.resources import codec
from tortie.resources.documents import parse
from tortie.resources.reading import read
from tortie.resources.source import SOURCE_ANNOTATION

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
    "policy": """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: allow-tcp-6379, namespace: production, labels: {team: db}}
spec:
  tier: security
  order: 100.5
  selector: role == 'database'
  serviceAccountSelector: role in {'a', 'b'}
  types: [Ingress, Egress]
  performanceHints: [AssumeNeededOnEveryNode]
  ingress:
  - action: Allow
    metadata: {annotations: {from: frontend, to: database}}
    ipVersion: 4
    protocol: TCP
    source:
      selector: role == 'frontend'
      namespaceSelector: environment == "prod"
      serviceAccounts: {names: [web], selector: tier == 'front'}
      notPorts: [1, "5:9"]
    destination: {ports: [6379, "7000:7010", redis], notNets: [10.0.0.0/8]}
  - action: Log
    protocol: ICMP
    icmp: {type: 8}
    notICMP: {type: 8, code: 1}
  egress:
  - action: Pass
    notProtocol: 47
    destination: {services: {name: web, namespace: shop}}
  - {action: Deny, protocol: SCTP, source: {notSelector: has(x)}}
""",
    "global": """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: default.host}
spec:
  tier: default
  selector: has(host)
  namespaceSelector: has(projectcalico.org/name)
  preDNAT: true
  applyOnForward: true
  types: [Ingress]
  ingress: [{action: Deny, source: {namespaceSelector: global(), nets: ["fd00::/8"]}}]
""",
    "staged": """
apiVersion: projectcalico.org/v3
kind: StagedKubernetesNetworkPolicy
metadata: {name: a, namespace: b}
spec: {podSelector: {}, policyTypes: [Ingress], stagedAction: Learn}
""",
    "kubernetes": """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: test-network-policy, namespace: default}
spec:
  podSelector: {matchLabels: {role: db}, matchExpressions: [{key: a, operator: NotIn, values: [b]}]}
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - ipBlock: {cidr: 172.17.0.0/16, except: [172.17.1.0/24]}
    - namespaceSelector: {matchLabels: {project: myproject}}
      podSelector: {}
    ports: [{protocol: TCP, port: 6379}, {port: 32000, endPort: 32768, protocol: UDP}]
  egress: [{to: [{podSelector: {}}], ports: [{port: dns}]}]
""",
    "tier": """
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: security}
spec: {order: 100, defaultAction: Pass}
""",
    "set": """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: a, labels: {role: external}}
spec: {nets: [198.51.100.0/28, 203.0.113.7, "2001:db8::/32"]}
""",
    "host": """
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: some.name, labels: {type: production}}
spec:
  interfaceName: eth0
  node: myhost
  expectedIPs: [192.168.0.1, "fd00::1"]
  profiles: [profile1]
  ports: [{name: some-port, port: 1234, protocol: TCP}]
""",
    "service": """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: LoadBalancer
  selector: {app: web}
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1, "fd00::1"]
  ipFamilies: [IPv4, IPv6]
  ports: [{name: http, port: 80, targetPort: http, nodePort: 30080, protocol: UDP, later: x}]
  later: {a: [1]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}
""",
    "slice": """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-abc, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
endpoints:
- addresses: ["fd00::9"]
  conditions: {ready: false, serving: true}
  nodeName: n
  zone: z
  later: 1
  targetRef: {kind: Pod, name: p}
ports: [{name: http, port: 80, protocol: TCP}]
later: [1, {a: b}]
""",
    "endpoints": """
apiVersion: v1
kind: Endpoints
metadata: {name: web, namespace: default}
subsets:
- addresses: [{ip: 10.0.0.9, nodeName: n, targetRef: {kind: Pod, name: p, namespace: default, uid: u, resourceVersion: "5"}}]
  notReadyAddresses: [{ip: 10.0.0.8}]
  ports: [{name: http, port: 80}]
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
    if SOURCE_ANNOTATION in encoded["metadata"].get("annotations", {}):  # of a policy: the file
        encoded["metadata"].pop("annotations")
    spec = {"spec": {**encoded["spec"], **given["spec"]}} if "spec" in given else {}
    assert encoded == {**given, **spec}
