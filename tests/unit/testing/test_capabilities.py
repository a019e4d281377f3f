"""Features are found by trying; a missing one names itself and the remedy."""

from __future__ import annotations

import pytest

from tortie.testing import capabilities
from tortie.testing.capabilities import Feature, Missing


def test_a_missing_feature_says_what_why_and_what_to_do() -> None:
    missing = Missing(Feature("bird", "kernel device", "there is no program bird", "run: make setup"))
    assert str(missing) == "this test needs bird: there is no program bird; run: make setup"


def test_require_raises_for_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_root_is_there(name: str) -> Feature:
        return Feature(name, "kernel device", "" if name == "root" else "it is away", "fetch it")

    monkeypatch.setattr(capabilities, "feature", only_root_is_there)
    capabilities.require("root")
    with pytest.raises(Missing, match="needs etcd: it is away; fetch it"):
        capabilities.require("root", "etcd")


def test_the_farthest_lane_wins() -> None:
    assert capabilities.lane_of() == "none"
    assert capabilities.lane_of("netns", "bird") == "kernel device"
    assert capabilities.lane_of("netns", "bpf") == "BPF"
    assert capabilities.lane_of("bpf", "qemu", "root") == "QEMU"


def test_every_feature_can_be_probed() -> None:
    for name in sorted(capabilities.FEATURES):
        found = capabilities.feature(name)
        assert found.name == name
        assert found.remedy
