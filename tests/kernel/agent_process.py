"""A real agent in a network namespace, with an SQLite datastore of its own and no BIRD unless a test starts one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tortie.admin.client import AdminClient
from tortie.errors import TortieError
from tortie.kernel import netns

T = TypeVar("T")


def until(condition: Callable[[], T], seconds: float = 15.0) -> T:
    """The condition's value as soon as it is true; an assertion with the last value when it never is."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {seconds} s: last {value!r}"
        time.sleep(0.01)


def uplink(namespace: str, address: str = "172.30.77.11/24") -> None:
    """An interface eth0 with an address, whose other end is in the same namespace."""
    ip = ["ip", "-n", namespace]
    subprocess.run([*ip, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0-far"], check=True)
    subprocess.run([*ip, "addr", "add", address, "dev", "eth0"], check=True)
    for link in ("eth0", "eth0-far"):
        subprocess.run([*ip, "link", "set", link, "up"], check=True)


class AgentProcess:
    """``environment`` comes on top of what points the agent to its folders."""

    def __init__(self, namespace: str, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.namespace = namespace
        self.run_dir = folder / "run"
        self.log = folder / "agent.log"
        self.environment = {
            **os.environ,
            "NODENAME": "node1",
            "TORTIE_RUN_DIR": str(self.run_dir),
            "TORTIE_STATE_DIR": str(folder / "state"),
            "TORTIE_DATASTORE": f"sqlite://{folder}/tortie.db",
            "CALICO_IPV4POOL_CIDR": "10.65.0.0/16",
            **(environment or {}),
        }
        self.client = AdminClient(self.run_dir / "admin.sock")
        self.child: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, through: Sequence[str] = ()) -> AgentProcess:
        """``through``: a program that starts it, with that program's own arguments."""
        argv = [
            "nsenter",
            f"--net=/run/netns/{self.namespace}",
            *through,
            sys.executable,
            "-m",
            "tortie",
            "agent",
            "run",
        ]
        with self.log.open("ab") as log:
            self.child = subprocess.Popen([*argv, *options], env=self.environment, stderr=log, stdout=log)
        return self

    @property
    def pid(self) -> int:
        assert self.child is not None
        return self.child.pid

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send the signal, and return the exit code."""
        assert self.child is not None
        if self.child.poll() is None:
            self.child.send_signal(number)
        return self.child.wait(15)

    def close(self) -> None:
        if self.child is not None and self.child.poll() is None:
            self.child.kill()
            self.child.wait(15)

    def status(self) -> dict[str, Any] | None:
        """What it says of itself; None while it does not answer."""
        try:
            answer: dict[str, Any] = self.client.call_sync("status", timeout_seconds=3)
        except TortieError:
            return None
        return answer

    def ready(self, seconds: float = 20.0) -> AgentProcess:
        """Wait until it is ready."""
        end = time.monotonic() + seconds
        while True:
            answer = self.status()
            if answer is not None and answer["ready"]:
                return self
            ended = self.child is None or self.child.poll() is not None
            assert not ended, f"ended: {answer}\n{self.log.read_text()}"
            assert time.monotonic() < end, f"not ready: {answer}\n{self.log.read_text()}"
            time.sleep(0.02)

    def get(self, path: str, port: int = 9099) -> tuple[int, str]:
        """Status and body of an HTTP request from within the namespace; (0, "") when nobody answers."""

        def connect() -> socket.socket:
            return socket.create_connection(("127.0.0.1", port), timeout=3)

        try:
            with netns.run(self.namespace, connect) as connection:
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                answer = b""
                while piece := connection.recv(65536):
                    answer += piece
        except OSError:
            return 0, ""
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()
