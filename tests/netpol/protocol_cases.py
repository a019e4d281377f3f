"""Cases 30, 38 to 40, 43 to 48: protocols apart from one another; three policies over UDP, and the same over SCTP."""

from __future__ import annotations

from tests.netpol.documents import EVERYTHING, labels, namespaces, pods_of, policy, port
from tests.netpol.model import ANY, Case, Step

POD_A = labels(pod="a")
NS_Y = labels(ns="y")


def of_protocol(protocol: str, other: str, first: int) -> tuple[Case, Case, Case]:
    """The three that Kubernetes' suite repeats, numbered from ``first``."""
    named = f" [{protocol}]"
    both = f"{protocol} 80 81"
    return (
        Case(
            number=first,
            name=f"should support a 'default-deny-ingress' policy{named}",
            pods="x/a x/b y/a y/b",
            steps=(
                Step(
                    policies=(policy("x", "deny-ingress", EVERYTHING, ingress=[]),),
                    expect={both: ("deny * x/*",)},
                ),
            ),
        ),
        Case(
            number=first + 1,
            name=f"should enforce policy based on Ports{named}",
            pods="x/a x/b y/a z/a",
            steps=(
                Step(
                    policies=(
                        policy(
                            "x",
                            "from-y-to-81",
                            POD_A,
                            ingress=[{"from": [namespaces(NS_Y)], "ports": [port(81, protocol)]}],
                        ),
                    ),
                    expect={
                        f"{protocol} 81": ("deny * x/a", "allow y/* x/a"),
                        f"{protocol} 80, {other} 81": ("deny * x/a",),
                    },
                ),
            ),
        ),
        Case(
            number=first + 2,
            name="should enforce policy to allow traffic only from a pod in a different namespace based on PodSelector and"
            f" NamespaceSelector{named}",
            pods="x/a x/b y/a",
            steps=(
                Step(
                    policies=(policy("x", "from-y-a", POD_A, ingress=[{"from": [pods_of(POD_A, NS_Y)]}]),),
                    expect={both: ("deny * x/a", "allow y/a x/a")},
                ),
            ),
        ),
    )


CASES = (
    Case(
        number=30,
        name="should enforce ingress policy allowing any port traffic to a server on a specific protocol",
        pods="x/a y/a",
        steps=(
            Step(
                policies=(policy("x", "any-port-of-tcp", POD_A, ingress=[{"ports": [port()]}]),),
                expect={"TCP 80 81": (), "UDP 80 81, SCTP 80": ("deny * x/a",)},
            ),
        ),
    ),
    Case(
        number=38,
        name="should not mistakenly treat 'protocol: SCTP' as 'protocol: TCP', even if the plugin doesn't support SCTP",
        pods="x/a y/a",
        steps=(
            Step(
                policies=(policy("x", "only-sctp-81", POD_A, ingress=[{"ports": [port(81, "SCTP")]}]),),
                expect={"SCTP 81": (), "TCP 80 81, UDP 81, SCTP 80": ("deny * x/a",)},
            ),
        ),
    ),
    Case(
        number=39,
        name="should properly isolate pods that are selected by a policy allowing SCTP, even if the plugin doesn't support"
        " SCTP",
        pods="x/a y/a",
        steps=(
            Step(
                policies=(policy("x", "only-sctp-80", POD_A, ingress=[{"ports": [port(80, "SCTP")]}]),),
                expect={"SCTP 80": (), f"{ANY}, SCTP 81": ("deny * x/a",)},
            ),
        ),
    ),
    Case(
        number=40,
        name="should not allow access by TCP when a policy specifies only UDP",
        pods="x/a y/a",
        steps=(
            Step(
                policies=(policy("x", "only-udp-81", POD_A, ingress=[{"ports": [port(81, "UDP")]}]),),
                expect={"UDP 81": (), "TCP 80 81, UDP 80": ("deny * x/a",)},
            ),
        ),
    ),
    *of_protocol("UDP", "TCP", 43),
    *of_protocol("SCTP", "UDP", 46),
)
