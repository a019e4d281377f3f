"""Shared by all tests: lanes, namespaces that are always cleaned up, and a check that a run leaves nothing behind."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tortie.testing import capabilities

settings.register_profile(
    "tortie", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tortie")

NETNS_DIR = Path("/run/netns")
RUN = f"tt-{os.getpid()}-"
"""What every name that this process makes begins with."""

_numbers = itertools.count(1)
_ROOT_FOLDERS = {
    "kernel": ("netns",),
    "lab": ("netns",),
    "netpol": ("netns",),
    "runtime": ("netns", "containerd"),
    "vm": ("qemu",),
}
"""What every test in a folder needs, without saying so."""


# ---- lanes -------------------------------------------------------------------------------------------------------


def needs_of(item: pytest.Item) -> tuple[str, ...]:
    """The features that a test names, and those of its folder, in that order and each once."""
    named = [str(name) for mark in item.iter_markers("needs") for name in mark.args]
    folders = item.path.relative_to(Path(__file__).parent).parts[:-1]
    implied = [name for folder in folders for name in _ROOT_FOLDERS.get(folder, ())]
    return tuple(dict.fromkeys([*implied, *named]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        unknown = set(needs_of(item)) - capabilities.FEATURES
        if unknown:
            raise pytest.UsageError(
                f"{item.nodeid}: needs({', '.join(sorted(unknown))}) names no known feature"
            )
        item.user_properties.append(("lane", capabilities.lane_of(*needs_of(item))))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What is missing is an error of the test, with a remedy; nothing is skipped."""
    capabilities.require(*needs_of(item))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What ran where."""
    counts: Counter[tuple[str, str]] = Counter()
    seconds: defaultdict[str, float] = defaultdict(float)
    for outcome in ("passed", "failed", "error", "skipped", "xfailed", "xpassed"):
        for report in _reports(terminalreporter, outcome):
            lane = next((str(value) for name, value in report.user_properties if name == "lane"), "none")
            counts[lane, outcome] += 1
            seconds[lane] += report.duration
    terminalreporter.section(f"what ran where (kernel {os.uname().release})")
    row = "{:<15}{:>8}{:>8}{:>8}{:>10}"
    terminalreporter.write_line(row.format("lane", "passed", "failed", "errors", "seconds"))
    for lane in capabilities.LANES:
        shown = [counts[lane, outcome] for outcome in ("passed", "failed", "error")]
        terminalreporter.write_line(row.format(lane, *shown, f"{seconds[lane]:.1f}"))


def _reports(terminalreporter: pytest.TerminalReporter, outcome: str) -> list[pytest.TestReport]:
    found: list[object] = terminalreporter.stats.get(outcome, [])
    return [report for report in found if isinstance(report, pytest.TestReport)]


# ---- names, namespaces, folders ----------------------------------------------------------------------------------


@pytest.fixture
def unique_name() -> Callable[[], str]:
    """Makes names (``tt-<pid>-<n>``) for labs and namespaces that no other run uses."""
    return lambda: f"{RUN}{next(_numbers)}"


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A folder with a path short enough for Unix sockets (108 bytes), gone after the test."""
    path = Path(tempfile.mkdtemp(prefix="tt-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def netns(unique_name: Callable[[], str]) -> Iterator[Callable[[], str]]:
    """Makes network namespaces with their loopback up; returns the name as ``ip netns`` knows it.

    After the test they go, with whatever still runs in them, also when the test failed.
    """
    made: list[str] = []

    def make() -> str:
        capabilities.require("netns")
        name = unique_name()
        made.append(name)
        _ip("netns", "add", name)
        _ip("-n", name, "link", "set", "lo", "up")
        return name

    yield make
    for name in reversed(made):
        remove_netns(name)


def remove_netns(name: str) -> None:
    """End what runs in the namespace and remove it; what is gone already is no error."""
    for _ in range(50):
        done = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
        running = done.stdout.split() if done.returncode == 0 else []
        if not running:
            break
        for pid in running:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def left_namespaces() -> list[str]:
    """The namespaces of this run that are still there: those whose name holds the run's prefix."""
    return sorted(path.name for path in NETNS_DIR.glob(f"*{RUN}*")) if NETNS_DIR.is_dir() else []


@pytest.fixture(scope="session", autouse=True)
def _nothing_left() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Fails the run, after cleaning up, when it leaves a namespace behind."""
    yield
    left = left_namespaces()
    for name in left:
        remove_netns(name)
    assert not left, f"the run left network namespaces behind: {', '.join(left)}"
