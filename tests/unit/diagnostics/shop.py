"""A small shop in files, for questions about its policies."""

from __future__ import annotations

from collections.abc import Iterable

from tortie.diagnostics.cluster import Cluster, build
from tortie.resources.reading import read
from tortie.resources.resource import Put, Update

PODS = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: a}}
---
apiVersion: v1
kind: Namespace
metadata: {name: other, labels: {team: b}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: payer, namespace: shop, labels: {may: pay}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  nodeName: one
  containers: [{name: c, ports: [{name: http, containerPort: 8080}, {name: dns, containerPort: 53, protocol: UDP}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
spec: {nodeName: two, serviceAccountName: payer}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: other, labels: {app: client}}
spec: {nodeName: two}
---
apiVersion: v1
kind: Pod
metadata: {name: on-host, namespace: shop}
spec: {nodeName: two, hostNetwork: true}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: one}
spec: {bgp: {ipv4Address: 172.30.0.1/24}}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: two}
spec: {bgp: {ipv4Address: 172.30.0.2/24}}
"""

WEB_FROM_CLIENTS = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: client}}}]
    ports: [{port: http}]
"""

FROM_NET = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: net, namespace: shop}
spec:
  selector: app == 'web'
  types: [Ingress]
  ingress:
  - {action: Allow, source: {nets: [10.0.0.0/8]}}
"""

POOL = """
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pods}
spec: {cidr: %s}
"""


def updates(*texts: str) -> list[Update]:
    return [Put(resource) for number, text in enumerate(texts) for resource in read(text, f"{number}.yaml")]


def cluster(*texts: str, pods: Iterable[str] = (PODS,)) -> Cluster:
    return build(updates(*pods, *texts), offline=True)
