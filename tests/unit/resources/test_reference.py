"""The reference of resources is the one that the code makes."""

from __future__ import annotations

from pathlib import Path

from tortie.resources import registry
from tortie.resources.reference import page


def test_the_page_is_current() -> None:
    written = Path(__file__).parents[3] / "docs/reference/resources.md"
    assert written.read_text() == page(), "python -m tortie.resources.reference > docs/reference/resources.md"


def test_the_page_has_every_kind_and_its_fields() -> None:
    text = page()
    for info in registry.KINDS:
        assert (f"\n## {info.kind.name}\n" in text) is info.for_users
    assert "| `blockSize` | integer |  |" in text
    assert "| `bgp.ipv4Address` | string |  |" in text
    assert "| `failsafeInboundHostPorts[].port` | integer | `0` |" in text
