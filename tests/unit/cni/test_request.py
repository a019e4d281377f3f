"""What a runtime may ask, and how what it may not is refused: by name, with the code of the specification."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tortie.cni.config import Attachment, parse_config
from tortie.cni.errors import CNIError, Code
from tortie.cni.frames import Forwarded
from tortie.cni.request import Request, parse_arguments, parse_request

ENV = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_IFNAME": "eth0",
    "CNI_NETNS": "/run/netns/x",
    "CNI_PATH": "/bin",
}
CONF: dict[str, Any] = {"cniVersion": "1.0.0", "name": "net", "type": "tortie"}


def ask(conf: dict[str, Any] | None = None, *, passed: bool = True, **env: str) -> Request:
    forwarded = Forwarded(
        env=ENV | env, netns_passed=passed, netns_error="" if passed else "No such file or directory"
    )
    return parse_request(forwarded, json.dumps(CONF | (conf or {})).encode())


def refused(code: Code, conf: dict[str, Any] | None = None, *, passed: bool = True, **env: str) -> str:
    with pytest.raises(CNIError) as caught:
        ask(conf, passed=passed, **env)
    assert caught.value.code == code, caught.value
    return str(caught.value)


def test_an_add_as_a_container_runtime_sends_it() -> None:
    request = ask(
        {
            "mtu": 1440,
            "ipam": {
                "type": "calico-ipam",
                "assign_ipv6": "true",
                "ipv4_pools": ["default-ipv4-ippool", "10.5.0.0/16"],
            },
            "container_settings": {"allow_ip_forwarding": True},
            "policy_setup_timeout_seconds": 30,
            "runtimeConfig": {"ips": ["10.65.0.7"], "mac": "02:00:00:00:00:07", "portMappings": []},
            "kubernetes": {"kubeconfig": "/etc/cni/net.d/calico-kubeconfig"},
            "log_file_path": "/var/log/x",
        },
        CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=db-0;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u",
    )
    assert (request.command, request.container_id, request.ifname, request.netns) == (
        "ADD",
        "c1",
        "eth0",
        "/run/netns/x",
    )
    assert (request.args.pod_namespace, request.args.pod_name, request.args.pod_uid) == ("shop", "db-0", "u")
    assert request.args.others == {"IgnoreUnknown": "1"}
    config = request.config
    assert config.ipam.is_built_in
    assert (config.ipam.wants_ipv4, config.ipam.wants_ipv6) == (None, True)
    assert config.ipam.ipv4_pools == ("default-ipv4-ippool", "10.5.0.0/16")
    assert config.container_settings.allow_ip_forwarding
    assert (config.mtu, config.policy_setup_timeout_seconds) == (1440, 30)
    assert (config.runtime_config.ips, config.runtime_config.mac) == (("10.65.0.7",), "02:00:00:00:00:07")


def test_another_ipam_is_delegated() -> None:
    assert not ask({"ipam": {"type": "host-local", "subnet": "10.1.0.0/24"}}).config.ipam.is_built_in


def test_a_del_needs_no_namespace() -> None:
    assert not ask(passed=False, CNI_COMMAND="DEL").netns_passed


def test_a_del_passes_over_arguments_that_add_refuses() -> None:
    arguments = ask(CNI_COMMAND="DEL", CNI_ARGS="nonsense;K8S_POD_NAME=p").args
    assert (arguments.pod_name, arguments.others) == ("p", {})


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"CNI_COMMAND": "PUT"}, "CNI_COMMAND: PUT is not one of"),
        ({"CNI_CONTAINERID": ""}, "CNI_CONTAINERID is missing"),
        ({"CNI_CONTAINERID": "../etc"}, "CNI_CONTAINERID: ../etc does not start with"),
        ({"CNI_CONTAINERID": "c" * 254}, "(254 characters) is longer than 253 characters"),
        ({"CNI_IFNAME": ""}, "CNI_IFNAME is missing"),
        ({"CNI_IFNAME": "a-name-too-long0"}, "longer than the 15 bytes"),
        ({"CNI_IFNAME": "eth 0"}, "is no name for an interface"),
        ({"CNI_IFNAME": "eth/0"}, "is no name for an interface"),
        ({"CNI_IFNAME": ".."}, "is no name for an interface"),
        ({"CNI_ARGS": "K8S_POD_NAME"}, "CNI_ARGS: K8S_POD_NAME is not KEY=value"),
    ],
)
def test_a_bad_environment_names_the_variable(env: dict[str, str], message: str) -> None:
    assert message in refused(Code.INVALID_ENVIRONMENT, None, passed=True, **env)


@pytest.mark.parametrize("command", ["ADD", "CHECK"])
def test_a_vanished_namespace_is_refused(command: str) -> None:
    conf: dict[str, Any] = {"prevResult": {"ips": []}}
    message = refused(Code.INVALID_ENVIRONMENT, conf, passed=False, CNI_COMMAND=command)
    assert message == "CNI_NETNS: /run/netns/x is no network namespace: No such file or directory"


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"mtu": "big"}, "mtu: Expected `int`, got `str`"),
        ({"mtu": 67}, "mtu: 67 is not 0 or between 68 and 65535"),
        ({"mtu": 65536}, "mtu: 65536"),
        ({"name": ""}, "name:"),
        ({"name": "a/b"}, "name: a/b"),
        ({"ipam": {"type": "../x"}}, "ipam.type: ../x"),
        ({"ipam": {"type": 3}}, "ipam.type: Expected `str`, got `int`"),
        ({"ipam": {"ipv4_pools": "all"}}, "ipam.ipv4_pools: Expected `array`"),
        ({"ipam": {"assign_ipv4": "maybe"}}, "ipam.assign_ipv4: maybe"),
        ({"policy_setup_timeout_seconds": 1e9}, "policy_setup_timeout_seconds:"),
    ],
)
def test_a_bad_configuration_names_the_field(conf: dict[str, Any], message: str) -> None:
    assert message in refused(Code.INVALID_CONFIG, conf)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"a":', b"\xff"])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(CNIError) as caught:
        parse_config(data)
    assert caught.value.code == Code.INVALID_JSON


@pytest.mark.parametrize("version", ["0.2.0", "0.3.0", "1.2.0", "2", "", "1.0.x"])
def test_other_spec_versions_are_refused(version: str) -> None:
    assert "cniVersion" in refused(Code.INCOMPATIBLE_VERSION, {"cniVersion": version})


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
@pytest.mark.parametrize(
    ("command", "since"),
    [("ADD", "0.3.1"), ("DEL", "0.3.1"), ("CHECK", "0.4.0"), ("STATUS", "1.1.0"), ("GC", "1.1.0")],
)
def test_a_command_is_known_from_its_version_on(command: str, since: str, version: str) -> None:
    conf: dict[str, Any] = {"cniVersion": version, "prevResult": {}, "cni.dev/valid-attachments": []}
    if version >= since:
        assert ask(conf, CNI_COMMAND=command).command == command
    else:
        assert (
            refused(Code.INCOMPATIBLE_VERSION, conf, CNI_COMMAND=command)
            == f"cniVersion: {version} knows no {command}"
        )


def test_check_needs_the_result_of_add() -> None:
    assert "prevResult" in refused(Code.INVALID_CONFIG, None, CNI_COMMAND="CHECK")


def test_gc_tells_nothing_alive_from_not_told() -> None:
    conf: dict[str, Any] = {"cniVersion": "1.1.0"}
    assert "cni.dev/valid-attachments" in refused(Code.INVALID_CONFIG, conf, CNI_COMMAND="GC")
    assert ask(conf | {"cni.dev/valid-attachments": []}, CNI_COMMAND="GC").config.alive == ()
    listed = [{"containerID": "c1", "ifname": "eth0"}]
    expected = (Attachment(container_id="c1", ifname="eth0"),)
    for name in ("cni.dev/valid-attachments", "cni.dev/attachments"):
        assert ask(conf | {name: listed}, CNI_COMMAND="GC").config.alive == expected


def test_arguments() -> None:
    parsed = parse_arguments("IP=10.0.0.7; MAC=02:00:00:00:00:01;;X=a=b;")
    assert (parsed.ip, parsed.mac, parsed.others) == ("10.0.0.7", "02:00:00:00:00:01", {"X": "a=b"})
    assert parse_arguments("").others == {}
