"""Cases 19, 25 to 29, 34 to 37, 42: what goes out, and both ways at once.

Where Kubernetes' suite allows DNS as well, since it asks by name, these do too.
"""

from __future__ import annotations

from tests.netpol.documents import (
    EVERYTHING,
    METADATA_NAME,
    around,
    label_not_in,
    labels,
    namespaces,
    pods,
    pods_of,
    policy,
    port,
)
from tests.netpol.model import ANY, Case, Step

POD_A, POD_B = labels(pod="a"), labels(pod="b")
NS_X, NS_Y = labels(ns="x"), labels(ns="y")
DNS = port(53, "UDP")

CASES = (
    Case(
        number=19,
        name="should allow egress access on one named port",
        pods="x/a y/a",
        steps=(
            Step(
                policies=(
                    policy("x", "to-named-80", POD_A, egress=[{"ports": [port("serve-80-tcp"), DNS]}]),
                ),
                expect={"TCP 80": (), "TCP 81, UDP 80": ("deny x/a *",)},
            ),
        ),
    ),
    Case(
        number=25,
        name="should deny egress from pods based on PodSelector",
        pods="x/a x/b y/a",
        steps=(
            Step(
                policies=(policy("x", "nothing-from-a", POD_A, egress=[]),),
                expect={ANY: ("deny x/a *",)},
            ),
        ),
    ),
    Case(
        number=26,
        name="should deny egress from all pods in a namespace",
        pods="x/a x/b y/a",
        steps=(
            Step(
                policies=(policy("x", "nothing-from-x", EVERYTHING, egress=[]),),
                expect={ANY: ("deny x/* *",)},
            ),
        ),
    ),
    Case(
        number=27,
        name="should work with Ingress, Egress specified together",
        pods="x/a x/b x/c y/a",
        steps=(
            Step(
                policies=(
                    policy(
                        "x",
                        "a-takes-b-and-goes-to-80",
                        POD_A,
                        ingress=[{"from": [pods(POD_B)]}],
                        egress=[{"ports": [port(80), DNS]}],
                    ),
                ),
                expect={
                    "TCP 80": ("deny * x/a", "allow x/b x/a"),
                    "TCP 81": ("deny * x/a", "deny x/a *", "allow x/b x/a"),
                },
            ),
        ),
    ),
    Case(
        number=28,
        name="should support denying of egress traffic on the client side (even if the server explicitly allows this traffic)",
        pods="x/a y/a y/b",
        steps=(
            Step(
                policies=(
                    policy(
                        "x", "a-goes-to-y-a", POD_A, egress=[{"ports": [DNS]}, {"to": [pods_of(POD_A, NS_Y)]}]
                    ),
                    policy("y", "a-takes-x-a", POD_A, ingress=[{"from": [pods_of(POD_A, NS_X)]}]),
                    policy("y", "b-takes-x-a", POD_B, ingress=[{"from": [pods_of(POD_A, NS_X)]}]),
                ),
                expect={ANY: ("deny * y/*", "deny x/a *", "allow x/a y/a")},
            ),
        ),
    ),
    Case(
        number=29,
        name="should enforce egress policy allowing traffic to a server in a different namespace based on PodSelector and"
        " NamespaceSelector",
        pods="x/a y/a y/b",
        steps=(
            Step(
                policies=(
                    policy(
                        "x", "a-goes-to-y-a", POD_A, egress=[{"ports": [DNS]}, {"to": [pods_of(POD_A, NS_Y)]}]
                    ),
                ),
                expect={ANY: ("deny x/a *", "allow x/a y/a")},
            ),
        ),
    ),
    Case(
        number=34,
        name="should allow egress access to server in CIDR block",
        pods="x/a y/a y/b",
        steps=(
            Step(
                policies=(
                    policy(
                        "x", "a-goes-to-one-address", POD_A, egress=[{"ports": [DNS]}, {"to": around("y/b")}]
                    ),
                ),
                expect={ANY: ("deny x/a *", "allow x/a y/b")},
            ),
        ),
    ),
    Case(
        number=35,
        name="should enforce except clause while egress access to server in CIDR block",
        pods="x/a x/b x/c",
        steps=(
            Step(
                policies=(
                    policy(
                        "x",
                        "a-goes-anywhere-near-but-to-b",
                        POD_A,
                        egress=[{"ports": [DNS]}, {"to": around("x/b", but="x/b", v4=4, v6=4)}],
                    ),
                ),
                expect={ANY: ("deny x/a x/b",)},
            ),
        ),
    ),
    Case(
        number=36,
        name="should ensure an IP overlapping both IPBlock.CIDR and IPBlock.Except is allowed",
        pods="x/a x/b x/c",
        steps=(
            Step(
                policies=(
                    policy("x", "a-and-b", POD_A, egress=[{"to": around("x/b", but="x/b", v4=4, v6=4)}]),
                ),
                expect={ANY: ("deny x/a x/b",)},
            ),
            Step(
                policies=(
                    policy(
                        "x",
                        "a-and-b",
                        POD_A,
                        egress=[{"to": [*around("x/b", but="x/b", v4=4, v6=4), *around("x/b")]}],
                    ),
                ),
                expect={ANY: ()},
            ),
        ),
    ),
    Case(
        number=37,
        name="should enforce policies to check ingress and egress policies can be controlled independently based on"
        " PodSelector",
        pods="x/a x/b y/a",
        steps=(
            Step(
                policies=(
                    policy("x", "a-goes-to-b", POD_A, egress=[{"to": [pods(POD_B)]}, {"ports": [DNS]}]),
                    policy("x", "a-takes-nobody", POD_A, ingress=[]),
                ),
                expect={ANY: ("deny * x/a", "deny x/a *", "allow x/a x/b")},
            ),
        ),
    ),
    Case(
        number=42,
        name="should enforce policy based on NamespaceSelector with MatchExpressions using default ns label",
        pods="x/a x/b y/a z/a",
        steps=(
            Step(
                policies=(
                    policy(
                        "x",
                        "a-goes-not-to-y",
                        POD_A,
                        egress=[{"to": [namespaces(label_not_in(METADATA_NAME, "y"))]}, {"ports": [DNS]}],
                    ),
                ),
                expect={ANY: ("deny x/a y/*",)},
            ),
        ),
    ),
)
