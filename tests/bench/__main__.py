"""``python -m tests.bench [--write] [SUBJECT …]``: measure, print, and with ``--write`` publish in docs/benchmarks.md."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import importlib
import os
import platform
import sys
import time
from pathlib import Path

from tests.bench.figures import Figure

SUBJECTS = (
    "cni",
    "ipam",
    "calc",
    "dataplane",
    "policy-load",
    "policy-latency",
    "policy-path",
    "policy-cni",
    "policy-memory",
    "startup",
    "throughput",
    "idle",
    "verdict",
)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("subjects", nargs="*", choices=[*SUBJECTS, []], help="all when none is named")
    parser.add_argument("--write", action="store_true", help=f"publish in {PAGE.name}")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("the figures need network namespaces: run as root")
    sections: list[str] = []
    for subject in options.subjects or SUBJECTS:
        started = time.monotonic()
        print(f"{subject} …", file=sys.stderr, flush=True)
        figures = asyncio.run(importlib.import_module(f"tests.bench.{subject.replace('-', '_')}").run())
        sections.append(_section(subject, figures))
        print(sections[-1], flush=True)
        print(f"{subject}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    if options.write:
        _publish("\n".join(sections))
    return 0


def _section(subject: str, figures: list[Figure]) -> str:
    lines = [f"### {subject}", "", "| what | figure | target | met | runs |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *(figure.row() for figure in figures), ""])


def _publish(text: str) -> None:
    page = PAGE.read_text()
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    when = datetime.datetime.now(datetime.UTC).date().isoformat()
    kernel, python = platform.release(), platform.python_version()
    machine = f"Measured on {when}: Linux {kernel}, {os.cpu_count()} shared cores, Python {python}."
    PAGE.write_text(f"{head}{BEGIN}\n\n{machine}\n\n{text}\n{END}{tail}")


sys.exit(main())
