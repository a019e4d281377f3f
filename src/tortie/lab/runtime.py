"""The part of a container runtime that networking sees: it runs the plugins of a network list one after the other.

Source: the CNI specification, "Execution of Network Configurations" (https://www.cni.dev/docs/spec/).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tortie.errors import ProgramFailed, TortieError, UsageError
from tortie.kernel import process

PLUGIN_SECONDS = 150.0
DEBIAN_PLUGINS = "/usr/lib/cni"


class PluginFailed(TortieError):
    """A plugin answered with an error: the CNI code, its message and its details."""

    def __init__(self, plugin: str, command: str, code: int, message: str, details: str = "") -> None:
        super().__init__(plugin, command, code, message, details)
        self.plugin = plugin
        self.command = command
        self.code = code
        self.message = message
        self.details = details

    def __str__(self) -> str:
        details = f" ({self.details})" if self.details else ""
        return f"{self.plugin} {self.command} failed with CNI error {self.code}: {self.message}{details}"


class Sandbox:
    """One container's attachment to one network list, in the namespace of the node that runs it."""

    def __init__(
        self,
        *,
        node_netns: str,
        bin_dir: Path,
        conf_dir: Path,
        container_id: str,
        netns: str,
        arguments: Mapping[str, str],
        interface: str = "eth0",
    ) -> None:
        self._node_netns = node_netns
        self._bin_dir = bin_dir
        self._list = _network_list(conf_dir)
        self._environment = {
            "CNI_CONTAINERID": container_id,
            "CNI_NETNS": f"/run/netns/{netns}",
            "CNI_IFNAME": interface,
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in arguments.items()),
            "CNI_PATH": f"{bin_dir}:{DEBIAN_PLUGINS}",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }

    async def add(self) -> dict[str, Any]:
        """Attach; the last plugin's result. Raises `PluginFailed`: the caller then owes a `delete`."""
        result: dict[str, Any] | None = None
        for plugin in self._list["plugins"]:
            result = await self._run("ADD", plugin, result)
        return result or {}

    async def delete(self, result: Mapping[str, Any] | None) -> None:
        """Detach, the last plugin first. ``result`` is what `add` returned, if it did."""
        for plugin in reversed(self._list["plugins"]):
            await self._run("DEL", plugin, result)

    async def _run(
        self, command: Literal["ADD", "DEL"], plugin: Mapping[str, Any], previous: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        config = {**plugin, "name": self._list["name"], "cniVersion": self._list["cniVersion"]}
        if previous is not None:
            config["prevResult"] = previous
        kind = str(plugin["type"])
        program = next((path for path in self._candidates(kind) if path.exists()), None)
        if program is None:
            raise UsageError(f"CNI plugin {kind!r} is neither in {self._bin_dir} nor in {DEBIAN_PLUGINS}")
        outcome = await process.run(
            ["nsenter", f"--net=/run/netns/{self._node_netns}", str(program)],
            stdin=json.dumps(config).encode(),
            environment={**self._environment, "CNI_COMMAND": command},
            timeout_seconds=PLUGIN_SECONDS,
            check=False,
        )
        return _answer(kind, command, outcome.status, outcome.stdout, outcome.stderr)

    def _candidates(self, kind: str) -> Sequence[Path]:
        return (self._bin_dir / kind, Path(DEBIAN_PLUGINS) / kind)


def _network_list(conf_dir: Path) -> dict[str, Any]:
    lists = sorted(conf_dir.glob("*.conflist"))
    if not lists:
        raise UsageError(f"{conf_dir} holds no network list: run 'tortie cni install' for this node")
    found: dict[str, Any] = json.loads(lists[0].read_text())
    return found


def _answer(plugin: str, command: str, status: int, stdout: bytes, stderr: bytes) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(stdout) if stdout.strip() else {}
    except ValueError:
        raise ProgramFailed(
            f"{plugin} {command}", status, (stdout + stderr).decode(errors="replace")[-500:]
        ) from None
    if status:
        if "code" not in answer:
            raise ProgramFailed(f"{plugin} {command}", status, stderr.decode(errors="replace")[-500:])
        raise PluginFailed(
            plugin, command, int(answer["code"]), str(answer.get("msg", "")), str(answer.get("details", ""))
        )
    return answer
