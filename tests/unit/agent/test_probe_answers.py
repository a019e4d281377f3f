from __future__ import annotations

from tortie.agent.probes import parse_times


def test_times_of_each_target_in_the_order_asked() -> None:
    text = "10.0.0.2 : 0.05 0.07 0.06\nfd00::1 : - - -\n10.0.0.3 : 1.5 - 2.5\n"
    answers = parse_times(text, ["10.0.0.3", "fd00::1", "10.0.0.2"], 3)
    assert [(one["target"], one["received"], one["rtt_ms"]) for one in answers] == [
        ("10.0.0.3", 2, 2.5),
        ("fd00::1", 0, None),
        ("10.0.0.2", 3, 0.06),
    ]


def test_noise_and_targets_that_are_not_spoken_of() -> None:
    text = "ICMP Host Unreachable from 10.0.0.1 for ICMP Echo sent to 10.0.0.2\n10.0.0.2 : x y\n"
    assert parse_times(text, ["10.0.0.2"], 2)[0]["received"] == 0
