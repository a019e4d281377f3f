"""The command ``tortie`` as a user types it, against a lab of the test's own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TORTIE = (sys.executable, "-m", "tortie")


class LabCommand:
    """Runs ``tortie …`` for one lab."""

    def __init__(self, name: str, environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._environment = dict(environment or {})

    def run(
        self, *argv: str, check: bool = True, timeout: float = 120, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """``tortie ARGV``, the lab named by TORTIE_LAB."""
        done = subprocess.run(
            [*TORTIE, *argv],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            input=stdin,
            env={**_environment(), "TORTIE_LAB": self.name, **self._environment},
        )
        if check and done.returncode:
            raise AssertionError(
                f"tortie {' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done

    def json(self, *argv: str, check: bool = True) -> Any:
        """What ``tortie ARGV -o json`` prints."""
        return json.loads(self.run(*argv, "-o", "json", check=check).stdout)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json("lab", "status")
        return found

    def node(self, name: str) -> dict[str, Any]:
        return next(node for node in self.status()["nodes"] if node["name"] == name)

    def pid(self, unit: str) -> int | None:
        """Of ``node1/agent``, ``node1/bird`` or ``etcd``; None while it does not run. Read where the supervisor writes it: the
        command's own start would take longer than the restart that a test waits for."""
        units = json.loads(Path(f"/run/tortie/labs/{self.name}/units.json").read_text())
        found: int | None = units["pids"].get(unit)
        return found

    def inside(self, place: str, *argv: str, check: bool = True) -> str:
        """The output of a command run in a node or pod."""
        return self.run("lab", "exec", place, "--", *argv, check=check).stdout

    def add_pod(self, name: str, node: str, *more: str) -> dict[str, Any]:
        found: dict[str, Any] = self.json("lab", "pod", "add", name, "--node", node, *more)
        return found

    def exports(self, *more: str) -> dict[str, str]:
        """The variables that ``lab env`` exports."""
        lines = self.run("lab", "env", *more).stdout.splitlines()
        return dict(line.removeprefix("export ").split("=", 1) for line in lines)

    def namespace(self, place: str) -> str:
        """The network namespace of a node, of ``fabric``, or of a pod of the namespace ``default``."""
        return f"{self.name}.{place if place == 'fabric' or place.startswith('node') else f'default.{place}'}"

    def here(self, place: str, *argv: str, check: bool = True) -> str:
        """As `inside`, in milliseconds: without the command ``tortie`` in between."""
        done = subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.namespace(place)}", *argv],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{place}: {' '.join(argv)} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def reaches(self, place: str, address: str) -> bool:
        """Whether one echo is answered within a second."""
        return " 1 received" in self.here(place, "ping", "-nc1", "-W1", address, check=False)

    def fetch(self, node: str, port: int, path: str) -> tuple[int, str]:
        """What the node's own HTTP server answers: the status (0: nobody does) and the body."""
        url = f"http://localhost:{port}{path}"
        answer = self.here(node, "curl", "-sm5", "-w", "\n%{http_code}", url, check=False)
        body, _, status = answer.rpartition("\n")
        return int(status or 0), body

    def ready(self, node: str) -> bool:
        return self.fetch(node, 9099, "/readiness")[0] == 200

    def apply(self, *documents: Mapping[str, Any], check: bool = True) -> subprocess.CompletedProcess[str]:
        """``tortie apply`` of these to the lab's datastore."""
        text = "\n".join(f"---\n{json.dumps(document)}" for document in documents)
        return self.run(*self._datastore(), "apply", "-f", "-", check=check, stdin=text)

    def get(self, *argv: str) -> Any:
        """``tortie get ARGV -o json`` of the lab's datastore."""
        return self.json(*self._datastore(), "get", *argv)

    def delete(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(*self._datastore(), "delete", *argv, check=check)

    def tortie(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """``tortie ARGV`` with the lab's datastore."""
        return self.run(*self._datastore(), *argv, check=check)

    def _datastore(self) -> tuple[str, str]:
        return ("--datastore", str(self.status()["datastore"]))


@contextmanager
def lab(name: str, *options: str, environment: Mapping[str, str] | None = None) -> Iterator[LabCommand]:
    """A lab that is up, and down again whatever happens. ``environment``: what its agents are told besides."""
    made = LabCommand(name, environment)
    try:
        made.run("lab", "up", *options)
        yield made
    finally:
        made.run("lab", "down")


def wait_until(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    """Look again and again until the condition holds; fails naming ``what``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


async def finish(*argv: str) -> str:
    """Run a program beside others; its whole output."""
    child = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await child.communicate()
    return output.decode()


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
