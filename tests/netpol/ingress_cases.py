"""Cases 1 to 18, 23, 41: what comes in."""

from __future__ import annotations

from tests.netpol.documents import (
    EVERYTHING,
    METADATA_NAME,
    label_in,
    label_is,
    label_not_in,
    labels,
    namespaces,
    pods,
    pods_of,
    policy,
    port,
)
from tests.netpol.model import ANY, Case, Step

POD_A, POD_B, POD_C = labels(pod="a"), labels(pod="b"), labels(pod="c")
NS_Y = labels(ns="y")

CASES = (
    Case(
        number=1,
        name="should support a 'default-deny-ingress' policy",
        pods="x/a x/b y/a y/b",
        steps=(
            Step(
                policies=(policy("x", "deny-ingress", EVERYTHING, ingress=[]),),
                expect={ANY: ("deny * x/*",)},
            ),
        ),
    ),
    Case(
        number=2,
        name="should support a 'default-deny-all' policy",
        pods="x/a x/b y/a",
        steps=(
            Step(
                policies=(policy("x", "deny-all", EVERYTHING, ingress=[], egress=[]),),
                expect={ANY: ("deny * x/*", "deny x/* *")},
            ),
        ),
    ),
    Case(
        number=3,
        name="should enforce policy to allow traffic from pods within server namespace based on PodSelector",
        pods="x/a x/b x/c y/a",
        steps=(
            Step(
                policies=(policy("x", "a-takes-b", POD_A, ingress=[{"from": [pods(POD_B)]}]),),
                expect={ANY: ("deny * x/a", "allow x/b x/a")},
            ),
        ),
    ),
    Case(
        number=4,
        name="should enforce policy to allow ingress traffic for a target",
        pods="x/a x/b y/a",
        steps=(
            Step(
                policies=(
                    policy("x", "deny-all", EVERYTHING, ingress=[]),
                    policy(
                        "x", "allow-all-to-a", POD_A, ingress=[{"from": [pods_of(EVERYTHING, EVERYTHING)]}]
                    ),
                ),
                expect={ANY: ("deny * x/*", "allow * x/a")},
            ),
        ),
    ),
    Case(
        number=5,
        name="should enforce policy to allow ingress traffic from pods in all namespaces",
        pods="x/a x/b y/a z/a",
        steps=(
            Step(
                policies=(
                    policy("x", "from-everywhere", POD_A, ingress=[{"from": [namespaces(EVERYTHING)]}]),
                ),
                expect={ANY: ()},
            ),
        ),
    ),
    Case(
        number=6,
        name="should enforce policy to allow traffic only from a different namespace, based on NamespaceSelector",
        pods="x/a x/b y/a z/a",
        steps=(
            Step(
                policies=(policy("x", "from-y", POD_A, ingress=[{"from": [namespaces(NS_Y)]}]),),
                expect={ANY: ("deny * x/a", "allow y/* x/a")},
            ),
        ),
    ),
    Case(
        number=7,
        name="should enforce policy based on PodSelector with MatchExpressions",
        pods="x/a x/b y/a",
        steps=(
            Step(
                policies=(policy("x", "a-takes-b", POD_A, ingress=[{"from": [pods(label_in("pod", "b"))]}]),),
                expect={ANY: ("deny * x/a", "allow x/b x/a")},
            ),
        ),
    ),
    Case(
        number=8,
        name="should enforce policy based on NamespaceSelector with MatchExpressions",
        pods="x/a x/b y/a z/a",
        steps=(
            Step(
                policies=(
                    policy("x", "from-y", POD_A, ingress=[{"from": [namespaces(label_in("ns", "y"))]}]),
                ),
                expect={ANY: ("deny * x/a", "allow y/* x/a")},
            ),
        ),
    ),
    Case(
        number=9,
        name="should enforce policy based on PodSelector or NamespaceSelector",
        pods="x/a x/b x/c y/a",
        steps=(
            Step(
                policies=(
                    policy(
                        "x",
                        "from-b-or-other-namespaces",
                        POD_A,
                        ingress=[{"from": [namespaces(label_not_in("ns", "x")), pods(POD_B)]}],
                    ),
                ),
                expect={ANY: ("deny x/c x/a",)},
            ),
        ),
    ),
    Case(
        number=10,
        name="should enforce policy based on PodSelector and NamespaceSelector",
        pods="x/a x/b y/a y/b z/b",
        steps=(
            Step(
                policies=(
                    policy(
                        "x",
                        "from-b-of-other-namespaces",
                        POD_A,
                        ingress=[{"from": [pods_of(POD_B, label_not_in("ns", "x"))]}],
                    ),
                ),
                expect={ANY: ("deny * x/a", "allow y/b x/a", "allow z/b x/a")},
            ),
        ),
    ),
    Case(
        number=11,
        name="should enforce policy based on Multiple PodSelectors and NamespaceSelectors",
        pods="x/a x/b y/a y/b y/c",
        steps=(
            Step(
                policies=(
                    policy(
                        "x",
                        "from-b-and-c-of-other-namespaces",
                        POD_A,
                        ingress=[{"from": [pods_of(label_in("pod", "b", "c"), label_not_in("ns", "x"))]}],
                    ),
                ),
                expect={ANY: ("deny * x/a", "allow y/b x/a", "allow y/c x/a")},
            ),
        ),
    ),
    Case(
        number=12,
        name="should enforce policy based on any PodSelectors",
        pods="x/a x/b x/c",
        besides="y/b",
        steps=(
            Step(
                policies=(policy("x", "from-b-or-c", POD_A, ingress=[{"from": [pods(POD_B), pods(POD_C)]}]),),
                expect={ANY: ("deny * x/a", "allow x/b x/a", "allow x/c x/a")},
            ),
        ),
    ),
    Case(
        number=13,
        name="should enforce policy to allow traffic only from a pod in a different namespace based on PodSelector and"
        " NamespaceSelector",
        pods="x/a x/b y/a y/b z/a",
        steps=(
            Step(
                policies=(policy("x", "from-y-a", POD_A, ingress=[{"from": [pods_of(POD_A, NS_Y)]}]),),
                expect={ANY: ("deny * x/a", "allow y/a x/a")},
            ),
        ),
    ),
    Case(
        number=14,
        name="should enforce policy based on Ports",
        pods="x/a x/b y/a y/b z/a",
        steps=(
            Step(
                policies=(
                    policy(
                        "x",
                        "from-y-to-81",
                        POD_A,
                        ingress=[{"from": [namespaces(NS_Y)], "ports": [port(81)]}],
                    ),
                ),
                expect={"TCP 81": ("deny * x/a", "allow y/* x/a"), "TCP 80, UDP 81": ("deny * x/a",)},
            ),
        ),
    ),
    Case(
        number=15,
        name="should enforce multiple, stacked policies with overlapping podSelectors",
        pods="x/a x/b y/a y/b z/a",
        steps=(
            Step(
                policies=(
                    policy(
                        "x",
                        "from-y-to-81",
                        POD_A,
                        ingress=[{"from": [namespaces(NS_Y)], "ports": [port(81)]}],
                    ),
                ),
                expect={"TCP 81": ("deny * x/a", "allow y/* x/a"), "TCP 80": ("deny * x/a",)},
            ),
            Step(
                policies=(
                    policy(
                        "x",
                        "from-y-to-80",
                        POD_A,
                        ingress=[{"from": [namespaces(NS_Y)], "ports": [port(80)]}],
                    ),
                ),
                expect={"TCP 80 81": ("deny * x/a", "allow y/* x/a")},
            ),
        ),
    ),
    Case(
        number=16,
        name="should support allow-all policy",
        pods="x/a x/b y/a",
        steps=(
            Step(
                policies=(policy("x", "allow-all", EVERYTHING, ingress=[EVERYTHING]),),
                expect={ANY: ()},
            ),
        ),
    ),
    Case(
        number=17,
        name="should allow ingress access on one named port",
        pods="x/a x/b y/a",
        steps=(
            Step(
                policies=(policy("x", "to-named-81", POD_A, ingress=[{"ports": [port("serve-81-tcp")]}]),),
                expect={"TCP 81": (), "TCP 80, UDP 81": ("deny * x/a",)},
            ),
        ),
    ),
    Case(
        number=18,
        name="should allow ingress access from namespace on one named port",
        pods="x/a x/b y/a z/a",
        steps=(
            Step(
                policies=(
                    policy(
                        "x",
                        "from-y-to-named-80",
                        POD_A,
                        ingress=[{"from": [namespaces(NS_Y)], "ports": [port("serve-80-tcp")]}],
                    ),
                ),
                expect={"TCP 80": ("deny * x/a", "allow y/* x/a"), "TCP 81": ("deny * x/a",)},
            ),
        ),
    ),
    Case(
        number=23,
        name="should deny ingress from pods on other namespaces",
        pods="x/a x/b y/a z/a",
        steps=(
            Step(
                policies=(policy("x", "own-namespace", EVERYTHING, ingress=[{"from": [pods(EVERYTHING)]}]),),
                expect={ANY: ("deny y/* x/*", "deny z/* x/*")},
            ),
        ),
    ),
    Case(
        number=41,
        name="should enforce policy to allow traffic based on NamespaceSelector with MatchLabels using default ns label",
        pods="x/a x/b y/a z/a",
        steps=(
            Step(
                policies=(
                    policy(
                        "x",
                        "from-y-by-name",
                        POD_A,
                        ingress=[{"from": [namespaces(label_is(METADATA_NAME, "y"))]}],
                    ),
                ),
                expect={ANY: ("deny * x/a", "allow y/* x/a")},
            ),
        ),
    ),
)
