"""The fixtures that every kernel test stands on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import remove_netns
from tests.kernel.agent_process import until

pytest_plugins = ["pytester"]


def pids(name: str) -> list[str]:
    shown = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=True)
    return shown.stdout.split()


def test_a_namespace_is_a_new_one_with_loopback_up(netns: Callable[[], str]) -> None:
    first, second = netns(), netns()
    assert first != second
    for name in (first, second):
        seen = subprocess.run(
            ["ip", "-n", name, "-br", "link"], capture_output=True, text=True, check=True
        ).stdout
        assert seen.split()[0] == "lo"
        assert "LOOPBACK,UP" in seen


def test_processes_in_a_namespace_end_with_it(netns: Callable[[], str]) -> None:
    name = netns()
    process = subprocess.Popen(["ip", "netns", "exec", name, "sleep", "600"])
    try:
        until(lambda: str(process.pid) in pids(name))
        remove_netns(name)
        assert process.wait(timeout=10) == -9
        assert not Path("/run/netns", name).exists()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("leak", [False, True])
def test_a_leak_fails_the_run(pytester: pytest.Pytester, leak: bool) -> None:
    pytester.makeconftest((Path(__file__).parent.parent / "conftest.py").read_text())
    pytester.makepyfile(f"""
        import subprocess
        def test_makes_a_namespace(unique_name):
            if {leak}:
                subprocess.run(["ip", "netns", "add", "lab-" + unique_name() + "-node1"], check=True)
    """)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, errors=int(leak))
    if leak:
        result.stdout.fnmatch_lines(["*the run left network namespaces behind: lab-tt-*-node1*"])
