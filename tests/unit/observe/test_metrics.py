from __future__ import annotations

import re
from pathlib import Path

from tortie.observe.metrics import Metrics

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "agent.md"


def test_the_page_and_the_registry_name_the_same_metrics() -> None:
    ours = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in Metrics().registry.collect()
        if family.name.startswith(("felix_", "tortie_"))
    }
    assert set(re.findall(r"^\| `((?:felix|tortie)_\w+)` \|", PAGE.read_text(), re.MULTILINE)) == ours


def test_two_agents_in_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.apply_failures.inc()
    assert b"felix_int_dataplane_failures_total 1.0" in first.render()
    assert b"felix_int_dataplane_failures_total 0.0" in second.render()
