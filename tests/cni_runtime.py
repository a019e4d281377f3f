"""A container runtime as far as networks go: executes the plugins of a list as the CNI specification says, all versions.

Written against https://www.cni.dev/docs/spec/#section-3-execution-of-network-configurations, and independent of what Tortie
itself has for its lab, so that the two check each other.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEBIAN_PLUGINS = Path("/usr/lib/cni")


class PluginError(Exception):
    """A plugin's error result."""

    def __init__(self, plugin: str, command: str, code: int, message: str, details: str = "") -> None:
        super().__init__(plugin, command, code, message, details)
        self.plugin = plugin
        self.command = command
        self.code = code
        self.message = message
        self.details = details


class Killed(Exception):
    """The plugin was ended by a signal."""


@dataclass(frozen=True)
class Container:
    """One sandbox: an id, a namespace's path, and the pod that it is for."""

    netns: str
    id: str = field(default_factory=lambda: secrets.token_hex(32))
    ifname: str = "eth0"
    pod: str = ""
    namespace: str = "default"
    arguments: Mapping[str, str] = field(default_factory=dict[str, str])
    capabilities: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def environment(self, command: str, path: str) -> dict[str, str]:
        arguments = dict(self.arguments)
        if self.pod:
            arguments |= {
                "IgnoreUnknown": "1",
                "K8S_POD_NAMESPACE": self.namespace,
                "K8S_POD_NAME": self.pod,
                "K8S_POD_INFRA_CONTAINER_ID": self.id,
            }
        return {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.id,
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": self.ifname,
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in arguments.items()),
            "CNI_PATH": path,
        }


class Runtime:
    """Executes one network list. ``node`` is the network namespace (by name) that the plugins run in."""

    def __init__(
        self, conflist: Mapping[str, Any], bin_dirs: Sequence[Path], *, node: str = "", seconds: float = 60.0
    ) -> None:
        self.conflist = dict(conflist)
        self.bin_dirs = [*bin_dirs, DEBIAN_PLUGINS]
        self.node = node
        self.seconds = seconds
        self.results: dict[tuple[str, str], dict[str, Any]] = {}

    @property
    def version(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.conflist["cniVersion"].split("."))

    def add(self, container: Container) -> dict[str, Any]:
        """ADD through the whole list; when one fails, DEL through the whole list, as the specification says."""
        result: dict[str, Any] | None = None
        try:
            for plugin in self.conflist["plugins"]:
                result = self.call(plugin, container, "ADD", previous=result)
        except PluginError:
            self.delete(container, forgiving=True)
            raise
        assert result is not None
        self.results[container.id, container.ifname] = result
        return result

    def delete(self, container: Container, *, forgiving: bool = False) -> None:
        """DEL in reverse order."""
        previous = self.results.get((container.id, container.ifname)) if self.version >= (0, 4, 0) else None
        for plugin in reversed(self.conflist["plugins"]):
            try:
                self.call(plugin, container, "DEL", previous=previous)
            except PluginError:
                if not forgiving:
                    raise
        self.results.pop((container.id, container.ifname), None)

    def check(self, container: Container, *, without: Sequence[str] = ()) -> None:
        for plugin in self.conflist["plugins"]:
            if plugin["type"] not in without:
                self.call(plugin, container, "CHECK", previous=self.results[container.id, container.ifname])

    def collect(self, alive: Sequence[Container]) -> None:
        """GC: of the network, what is not among ``alive``."""
        valid = [{"containerID": one.id, "ifname": one.ifname} for one in alive]
        for plugin in self.conflist["plugins"]:
            config = self.config(plugin) | {"cni.dev/valid-attachments": valid}
            self.run(plugin["type"], {"CNI_COMMAND": "GC", "CNI_PATH": self.path}, config)

    def status(self) -> None:
        for plugin in self.conflist["plugins"]:
            self.run(plugin["type"], {"CNI_COMMAND": "STATUS", "CNI_PATH": self.path}, self.config(plugin))

    def versions(self, plugin: str) -> list[str]:
        out = self.run(plugin, {"CNI_COMMAND": "VERSION"}, {"cniVersion": self.conflist["cniVersion"]})
        assert out is not None
        versions: list[str] = out["supportedVersions"]
        return versions

    # ---- one plugin ----

    @property
    def path(self) -> str:
        return ":".join(map(str, self.bin_dirs))

    def config(self, plugin: Mapping[str, Any], container: Container | None = None) -> dict[str, Any]:
        """The plugin's own configuration, derived from the list's."""
        config = dict(plugin) | {"cniVersion": self.conflist["cniVersion"], "name": self.conflist["name"]}
        offered: dict[str, bool] = config.pop("capabilities", {})
        if container is not None:
            used = {name: value for name, value in container.capabilities.items() if offered.get(name)}
            if used:
                config["runtimeConfig"] = used
        return config

    def call(
        self,
        plugin: Mapping[str, Any],
        container: Container,
        command: str,
        *,
        previous: dict[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        config = self.config(plugin, container)
        if previous is not None:
            config["prevResult"] = previous
        out = self.run(plugin["type"], container.environment(command, self.path), config)
        if command == "ADD":
            assert out is not None, f"{plugin['type']} ADD printed nothing"
            assert out["cniVersion"] == self.conflist["cniVersion"]
        return out

    def start(
        self, name: str, environment: Mapping[str, str], config: Mapping[str, Any]
    ) -> subprocess.Popen[bytes]:
        program = next(path / name for path in self.bin_dirs if (path / name).exists())
        inside = ["nsenter", f"--net=/run/netns/{self.node}"] if self.node else []
        child = subprocess.Popen(
            [*inside, str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], **environment},
        )
        assert child.stdin is not None
        child.stdin.write(json.dumps(config).encode())
        child.stdin.close()
        child.stdin = None
        return child

    def run(
        self, name: str, environment: Mapping[str, str], config: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        child = self.start(name, environment, config)
        try:
            stdout, stderr = child.communicate(timeout=self.seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            raise Killed(name) from None
        return self.outcome(name, environment["CNI_COMMAND"], child.returncode, stdout, stderr)

    @staticmethod
    def outcome(name: str, command: str, status: int, stdout: bytes, stderr: bytes) -> dict[str, Any] | None:
        if status == 0:
            return json.loads(stdout) if stdout.strip() else None
        if status == -signal.SIGKILL:
            raise Killed(name)
        try:
            error = json.loads(stdout)
            code, message = error["code"], error["msg"]
        except (ValueError, KeyError):
            raise AssertionError(
                f"{name} {command} ended with {status} and no CNI error: {stdout!r} {stderr!r}"
            ) from None
        raise PluginError(name, command, code, message, error.get("details", ""))
