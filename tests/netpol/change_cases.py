"""Cases 20 to 22, 24, 31 to 33: policies and labels that change, policies beside one another, policies that go."""

from __future__ import annotations

from tests.netpol.documents import EVERYTHING, labels, namespaces, pods, policy, port
from tests.netpol.model import ANY, Case, Step

POD_A = labels(pod="a")
DNS = port(53, "UDP")

CASES = (
    Case(
        number=20,
        name="should enforce updated policy",
        pods="x/a y/a",
        steps=(
            Step(
                policies=(policy("x", "allow-then-deny", EVERYTHING, ingress=[EVERYTHING]),),
                expect={ANY: ()},
            ),
            Step(
                policies=(policy("x", "allow-then-deny", EVERYTHING, ingress=[]),),
                expect={ANY: ("deny * x/*",)},
            ),
        ),
    ),
    Case(
        number=21,
        name="should allow ingress access from updated namespace",
        pods="x/a y/a",
        besides="z/a",
        steps=(
            Step(
                policies=(
                    policy(
                        "x", "from-updated", POD_A, ingress=[{"from": [namespaces(labels(ns2="updated"))]}]
                    ),
                ),
                expect={ANY: ("deny * x/a",)},
            ),
            Step(
                labelled={"namespace y": {"ns2": "updated"}},
                expect={ANY: ("deny * x/a", "allow y/* x/a")},
            ),
        ),
    ),
    Case(
        number=22,
        name="should allow ingress access from updated pod",
        pods="x/a x/b",
        besides="x/c",
        steps=(
            Step(
                policies=(
                    policy("x", "from-updated", POD_A, ingress=[{"from": [pods(labels(pod2="updated"))]}]),
                ),
                expect={ANY: ("deny * x/a",)},
            ),
            Step(
                labelled={"pod x/b": {"pod2": "updated"}},
                expect={ANY: ("deny * x/a", "allow x/b x/a")},
            ),
        ),
    ),
    Case(
        number=24,
        name="should deny ingress access to updated pod",
        pods="x/a y/a",
        steps=(
            Step(
                policies=(policy("x", "isolated", labels(target="isolated"), ingress=[]),),
                expect={ANY: ()},
            ),
            Step(
                labelled={"pod x/a": {"target": "isolated"}},
                expect={ANY: ("deny * x/a",)},
            ),
        ),
    ),
    Case(
        number=31,
        name="should enforce multiple ingress policies with ingress allow-all policy taking precedence",
        pods="x/a y/a",
        steps=(
            Step(
                policies=(policy("x", "only-80", EVERYTHING, ingress=[{"ports": [port(80)]}]),),
                expect={"TCP 80": (), "TCP 81, UDP 80": ("deny * x/*",)},
            ),
            Step(
                policies=(policy("x", "allow-all", EVERYTHING, ingress=[EVERYTHING]),),
                expect={ANY: ()},
            ),
        ),
    ),
    Case(
        number=32,
        name="should enforce multiple egress policies with egress allow-all policy taking precedence",
        pods="x/a y/a",
        steps=(
            Step(
                policies=(policy("x", "only-80", EVERYTHING, egress=[{"ports": [port(80), DNS]}]),),
                expect={"TCP 80": (), "TCP 81, UDP 80": ("deny x/* *",)},
            ),
            Step(
                policies=(policy("x", "allow-all", EVERYTHING, egress=[EVERYTHING]),),
                expect={ANY: ()},
            ),
        ),
    ),
    Case(
        number=33,
        name="should stop enforcing policies after they are deleted",
        pods="x/a y/a",
        steps=(
            Step(
                policies=(policy("x", "deny-all", EVERYTHING, ingress=[], egress=[]),),
                expect={ANY: ("deny * x/*", "deny x/* *")},
            ),
            Step(gone=("x/deny-all",), expect={ANY: ()}),
        ),
    ),
)
