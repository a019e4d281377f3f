"""Packets that go on while something is broken, and how many of them were lost."""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.lab.lab_command import LabCommand

INTERVAL_MS = 10
ANSWER_MS = 2000
MOST_UNDER_WAY = 20
"""A busy machine answers late; a path that is broken at the end has lost half a second's."""


class Pinging:
    """Echoes from one place to one address, 100 a second."""

    def __init__(self, lab: LabCommand, source: str, address: str) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by stop)
        self._what = f"{source} to {address}"
        self._child = subprocess.Popen(
            [
                "nsenter",
                f"--net=/run/netns/{lab.namespace(source)}",
                *("fping", "-l", f"-p{INTERVAL_MS}", f"-t{ANSWER_MS}", address),
            ],
            stdout=self._said,
            stderr=self._said,
        )

    def stop(self) -> tuple[int, int]:
        """End it: how many were sent and lost. The last few that nobody answered may have been under way."""
        self._child.send_signal(signal.SIGINT)
        self._child.wait(timeout=10)
        self._said.seek(0)
        text = self._said.read()
        self._said.close()
        answered = {int(number) for number in re.findall(r" : \[(\d+)\], \d+ bytes", text)}
        counted = re.search(r"xmt/rcv/%loss = (\d+)/", text)
        assert answered, f"{self._what}: {text[-500:]}"
        assert counted, f"{self._what}: {text[-500:]}"
        sent, last = int(counted[1]), max(answered)
        under_way = sent - 1 - last
        lost = last + 1 - len(answered)
        return sent, lost + (under_way if under_way > MOST_UNDER_WAY else 0)

    def kill(self) -> None:
        self._child.kill()
        self._child.wait()


@contextmanager
def no_loss(lab: LabCommand, *paths: tuple[str, str]) -> Iterator[None]:
    """Nothing may be lost between these places (source, address) while the block runs."""
    with ExitStack() as stack:
        running = [Pinging(lab, source, address) for source, address in paths]
        for pinging in running:
            stack.callback(pinging.kill)
        time.sleep(0.3)  # some before the fault
        yield
        time.sleep(0.5)  # and some after it
        for (source, address), pinging in zip(paths, running, strict=True):
            sent, lost = pinging.stop()
            assert sent > 50, f"{source} to {address}: only {sent} were sent"
            assert lost == 0, f"{source} to {address}: {lost} of {sent} were lost"


@contextmanager
def watching(lab: LabCommand, node: str) -> Iterator[list[str]]:
    """Notes every change of routes, rules, interfaces, addresses and nftables while the block runs.

    The list is filled when the block ends.
    """
    inside = ["nsenter", f"--net=/run/netns/{lab.namespace(node)}"]
    seen: list[str] = []
    with tempfile.TemporaryFile("w+") as said:
        watchers = [
            subprocess.Popen([*inside, *argv], stdout=said, stderr=said)
            for argv in (
                ("stdbuf", "-oL", "ip", "monitor", "route", "rule", "link", "address"),
                ("stdbuf", "-oL", "nft", "monitor"),
            )
        ]
        try:
            time.sleep(0.3)
            yield seen
            time.sleep(0.3)
        finally:
            for watcher in watchers:
                watcher.kill()
                watcher.wait()
        said.seek(0)
        seen += said.read().splitlines()
