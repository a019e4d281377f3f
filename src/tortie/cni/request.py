"""One call of the plugin, typed and checked: command, container, interface, arguments, configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from tortie.cni.config import NetConf, parse_config
from tortie.cni.errors import CNIError, Code
from tortie.cni.frames import Forwarded
from tortie.net.ifnames import MAX_LENGTH

Command = Literal["ADD", "DEL", "CHECK", "STATUS", "GC"]
COMMANDS: tuple[Command, ...] = get_args(Command)

MAX_CONTAINER_ID = 253
"""The container's id becomes a part of names in the datastore; runtimes use 64 characters."""

_CONTAINER_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """CNI_ARGS, ``KEY=value;KEY=value``. Keys that we do not know stay in ``others``."""

    pod_namespace: str = ""
    pod_name: str = ""
    pod_uid: str = ""
    infra_container_id: str = ""
    ip: str = ""
    """An address that the container shall get."""
    mac: str = ""
    others: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """What the runtime wants. Of STATUS and GC only ``config`` means anything.

    ``netns`` is CNI_NETNS as the runtime wrote it, in the host's view of files: its descriptor came beside the request
    when ``netns_passed``; else ``netns_error`` says why not, and for DEL that is no fault.
    """

    command: Command
    container_id: str
    ifname: str
    netns: str
    netns_passed: bool
    netns_error: str
    args: Arguments
    config: NetConf


def parse_request(forwarded: Forwarded, config: bytes) -> Request:
    """Check environment and configuration against each other and against the specification.

    Raises `CNIError`, naming the variable or field that is wrong.
    """
    env = forwarded.env
    command = env.get("CNI_COMMAND", "")
    if command not in COMMANDS:
        raise _environment("CNI_COMMAND", command, f"is not one of {', '.join(COMMANDS)}, VERSION")
    parsed = parse_config(config)
    _check_version(command, parsed)
    request = Request(
        command=command,
        container_id=env.get("CNI_CONTAINERID", ""),
        ifname=env.get("CNI_IFNAME", ""),
        netns=env.get("CNI_NETNS", ""),
        netns_passed=forwarded.netns_passed,
        netns_error=forwarded.netns_error,
        args=parse_arguments(env.get("CNI_ARGS", ""), strict=command != "DEL"),
        config=parsed,
    )
    if command in ("ADD", "DEL", "CHECK"):
        _check_container(request)
    if command in ("ADD", "CHECK") and not request.netns_passed:
        raise _environment("CNI_NETNS", request.netns, f"is no network namespace: {request.netns_error}")
    if command == "CHECK" and parsed.previous is None:
        raise CNIError(Code.INVALID_CONFIG, "prevResult: is missing; CHECK compares with the result of ADD")
    if command == "GC" and parsed.alive is None:
        raise CNIError(
            Code.INVALID_CONFIG, "cni.dev/valid-attachments: is missing; GC would not know what to keep"
        )
    return request


def parse_arguments(text: str, *, strict: bool = True) -> Arguments:
    """Read CNI_ARGS. ``strict``: raises `CNIError` with code 4 for a part without ``=``; else it is passed over, as DEL needs
    it: ADD refuses such arguments, and whoever may not even delete asks for ever."""
    pairs: dict[str, str] = {}
    for part in text.split(";"):
        if not part.strip():
            continue
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            if not strict:
                continue
            raise _environment("CNI_ARGS", part, "is not KEY=value")
        pairs[key.strip()] = value.strip()
    return Arguments(
        pod_namespace=pairs.pop("K8S_POD_NAMESPACE", ""),
        pod_name=pairs.pop("K8S_POD_NAME", ""),
        pod_uid=pairs.pop("K8S_POD_UID", ""),
        infra_container_id=pairs.pop("K8S_POD_INFRA_CONTAINER_ID", ""),
        ip=pairs.pop("IP", ""),
        mac=pairs.pop("MAC", ""),
        others=pairs,
    )


def _check_version(command: Command, config: NetConf) -> None:
    version = config.version
    if (command == "CHECK" and not version.has_check) or (
        command in ("GC", "STATUS") and not version.has_gc_and_status
    ):
        raise CNIError(Code.INCOMPATIBLE_VERSION, f"cniVersion: {version} knows no {command}")


def _check_container(request: Request) -> None:
    identifier, ifname = request.container_id, request.ifname
    if not _CONTAINER_ID.fullmatch(identifier):
        rule = "does not start with a letter or digit, or holds more than letters, digits and _ . -"
        raise _environment("CNI_CONTAINERID", identifier, rule if identifier else "is missing")
    if len(identifier) > MAX_CONTAINER_ID:
        rule = f"is longer than {MAX_CONTAINER_ID} characters"
        raise _environment("CNI_CONTAINERID", f"{identifier[:32]}… ({len(identifier)} characters)", rule)
    if not ifname:
        raise _environment("CNI_IFNAME", "", "is missing")
    if len(ifname.encode()) > MAX_LENGTH:
        raise _environment(
            "CNI_IFNAME", ifname, f"is longer than the {MAX_LENGTH} bytes that the kernel allows"
        )
    if ifname in (".", "..") or any(c in "/:" or c.isspace() or not c.isprintable() for c in ifname):
        raise _environment(
            "CNI_IFNAME", ifname, "is no name for an interface: it is . or .., or holds / : or a blank"
        )


def _environment(variable: str, value: str, rule: str) -> CNIError:
    return CNIError(
        Code.INVALID_ENVIRONMENT, f"{variable}: {value} {rule}" if value else f"{variable} {rule}"
    )
