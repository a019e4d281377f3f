"""Small words for labels, names, nets and ports: few, so that what is drawn at random meets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")

LABELS: Mapping[str, Sequence[str]] = {
    "app": ("web", "webmail", "db"),
    "env": ("prod", "dev"),
    "zone": ("a", "b"),
}
TEAMS: Mapping[str, Sequence[str]] = {"team": ("red", "blue"), "env": ("prod", "dev")}
ROLES: Mapping[str, Sequence[str]] = {"role": ("ops", "plain")}
NAMESPACES = ("red", "blue", "green")
ACCOUNTS = ("default", "admin")
POLICY_NAMES = ("a", "a-b", "p", "p-1", "q", "z")
ORDERS = (None, -1.5, 1, 1, 2, 5, 1000, 1001)
SERVICES = ("front", "back")
PORT_NAMES: Mapping[str, Sequence[tuple[str, int]]] = {
    "web": (("TCP", 80), ("TCP", 8080), ("UDP", 80)),
    "dns": (("UDP", 53), ("TCP", 53), ("UDP", 5353)),
    "sig": (("SCTP", 7777), ("TCP", 7777), ("SCTP", 80)),
}
PORTS: Sequence[int | str] = (
    53,
    80,
    81,
    443,
    8080,
    65535,
    "80:90",
    "1:1024",
    "8000:8080",
    "443:443",
    "7777:7778",
)
NETS: Mapping[int, Sequence[str]] = {
    4: (
        "10.65.0.2", "10.65.0.2/31", "10.65.0.0/30", "10.65.0.5/30", "10.65.0.4/30", "10.65.0.0/29", "10.65.0.0/16",
        "198.18.2.0/24", "198.18.2.16/28", "198.18.2.24/29", "198.18.2.20", "198.51.100.0/25", "0.0.0.0/0",
    ),
    6: (
        "fd65::2", "fd65::2/127", "fd65::/126", "fd65::4/126", "fd65::5/126", "fd65::/125", "fd65::/48",
        "2001:db8:5::/64", "2001:db8:5::10/124", "2001:db8:5::18/125", "2001:db8:5::14", "2001:db8:1::/64", "::/0",
    ),
}  # fmt: skip
MASKED: Mapping[int, Sequence[str]] = {
    version: [each for each in nets if each not in ("10.65.0.5/30", "fd65::5/126")]
    for version, nets in NETS.items()
}
"""Those without bits beyond their length, as rules must have them; network sets need not."""
OUTSIDE: Mapping[int, Sequence[str]] = {
    4: ("198.18.2.2", "203.0.113.200"),
    6: ("2001:db8:5::2", "2001:db8:f::7"),
}
ICMP_TYPES: Mapping[str, Sequence[int]] = {"ICMP": (8, 13), "ICMPv6": (128, 139)}
"""Those that begin a conversation, so that the kernel takes them for new ones."""
OTHER_PROTOCOLS: Sequence[int | str] = (47, 50, 89, 253, "UDPLite")


def some_labels(rng: Random, words: Mapping[str, Sequence[str]]) -> dict[str, str]:
    return {key: rng.choice(values) for key, values in words.items() if rng.random() < 0.7}


def chance(rng: Random, likelihood: float) -> bool:
    return rng.random() < likelihood


def few(rng: Random, words: Sequence[T], most: int = 3) -> list[T]:
    """One to so many of them, each once."""
    return rng.sample(words, min(len(words), rng.choice((1, 1, 2, most))))


def selector(rng: Random, words: Mapping[str, Sequence[str]], *, deep: int = 1) -> str:
    """A selector over these labels, of every shape the language has."""
    if deep and chance(rng, 0.25):
        left, right = selector(rng, words, deep=deep - 1), selector(rng, words, deep=deep - 1)
        joined = f"{left} {rng.choice(('&&', '||'))} {right}"
        return f"!({joined})" if chance(rng, 0.15) else joined
    key = rng.choice(tuple(words))
    value = rng.choice(words[key])
    several = "{" + ", ".join(f"'{each}'" for each in few(rng, words[key], 2)) + "}"
    start, end = value[:-1] or value, value[1:] or value
    return rng.choice(
        (
            f"{key} == '{value}'",
            f"{key} == '{value}'",
            f'{key} == "{value}"',
            f"{key} != '{value}'",
            f"{key} != '{value}'",
            f"!({key} == '{value}')",
            f"has({key})",
            f"!has({key})",
            f"{key} in {several}",
            f"{key} not in {several}",
            f"{key} contains '{end}'",
            f"{key} starts with '{start}'",
            f"{key} ends with '{end}'",
            "all()",
        )
    )
