from __future__ import annotations

from collections.abc import Mapping

import pytest

from tortie.cni.config import NetConf, parse_config
from tortie.cni.request import Arguments, parse_arguments
from tortie.errors import InvalidResource
from tortie.net.addresses import Address, Prefix
from tortie.workloads.wishes import Wishes, read_wishes

P = "cni.projectcalico.org/"


def conf(extra: str = "") -> NetConf:
    return parse_config(f'{{"cniVersion": "1.0.0", "name": "net", "type": "tortie"{extra}}}'.encode())


def read(
    pod: Mapping[str, str] | None = None,
    namespace: Mapping[str, str] | None = None,
    config: NetConf | None = None,
    arguments: Arguments | None = None,
) -> Wishes:
    return read_wishes(
        config or conf(), arguments or parse_arguments(""), pod=pod or {}, namespace=namespace or {}
    )


def test_nobody_asks_for_anything() -> None:
    assert read() == Wishes()


def test_the_pods_pools_weigh_more_than_the_namespaces_and_those_more_than_the_configurations() -> None:
    config = conf(', "ipam": {"type": "tortie-ipam", "ipv4_pools": ["conf"], "ipv6_pools": ["conf6"]}')
    namespace = {P + "ipv4pools": '["ns"]'}
    assert read(config=config).ipv4_pools == ("conf",)
    assert read(namespace=namespace, config=config).ipv4_pools == ("ns",)
    wishes = read({P + "ipv4pools": '["pod", "10.1.0.0/16"]'}, namespace, config)
    assert wishes.ipv4_pools == ("pod", "10.1.0.0/16")
    assert wishes.ipv6_pools == ("conf6",)


def test_a_requested_address_comes_from_the_annotation_first() -> None:
    config = conf(', "runtimeConfig": {"ips": ["10.0.0.2/24"]}, "args": {"cni": {"ips": ["10.0.0.3"]}}')
    arguments = parse_arguments("IP=10.0.0.4")
    assert read({P + "ipAddrs": '["10.0.0.1"]'}, config=config, arguments=arguments).addresses == (
        Address.parse("10.0.0.1"),
    )
    assert read(config=config, arguments=arguments).addresses == (Address.parse("10.0.0.2"),)
    conventional = conf(', "args": {"cni": {"ips": ["10.0.0.3"]}}')
    assert read(config=conventional, arguments=arguments).addresses == (Address.parse("10.0.0.3"),)
    assert read(arguments=arguments).addresses == (Address.parse("10.0.0.4"),)


def test_one_address_of_each_family_may_be_requested() -> None:
    wishes = read({P + "ipAddrs": '["10.0.0.1", "fd00::1"]'})
    assert wishes.addresses == (Address.parse("10.0.0.1"), Address.parse("fd00::1"))


def test_families() -> None:
    wishes = read({P + "ipFamilies": '["IPv6"]'})
    assert (wishes.ipv4, wishes.ipv6) == (False, True)
    wishes = read(config=conf(', "ipam": {"assign_ipv4": "true", "assign_ipv6": "false"}'))
    assert (wishes.ipv4, wishes.ipv6) == (True, False)


def test_macs_are_written_as_the_kernel_writes_them() -> None:
    assert read({P + "hwAddr": "02-AB-cd-00-00-01"}).mac == "02:ab:cd:00:00:01"
    assert read(arguments=parse_arguments("MAC=02:00:00:00:00:09")).mac == "02:00:00:00:00:09"


def test_allowed_sources() -> None:
    wishes = read({P + "allowedSourcePrefixes": '["192.168.1.1/24", "fd00::/64"]'})
    assert wishes.allowed_sources == (Prefix.parse("192.168.1.0/24"), Prefix.parse("fd00::/64"))


@pytest.mark.parametrize(
    ("annotation", "value", "says"),
    [
        ("ipAddrs", "10.0.0.1", "is not a JSON list"),
        ("ipAddrs", '["10.0.0.300"]', "10.0.0.300"),
        ("ipAddrs", '["10.0.0.1", "10.0.0.2"]', "more than one address of a family"),
        ("ipv4pools", '{"a": 1}', "is not a JSON list"),
        ("ipFamilies", '["ipv5"]', "a family is ipv4 or ipv6"),
        ("hwAddr", "01:00:00:00:00:01", "is not the MAC address of one interface"),
        ("hwAddr", "nonsense", "nonsense"),
        ("allowedSourcePrefixes", '["x/8"]', "x/8"),
        ("ipAddrsNoIpam", '["10.0.0.1"]', "is not supported"),
    ],
)
def test_a_bad_annotation_is_named_with_its_value(annotation: str, value: str, says: str) -> None:
    with pytest.raises(InvalidResource) as raised:
        read({P + annotation: value})
    assert f"metadata.annotations[{P}{annotation}]" in str(raised.value)
    assert says in str(raised.value)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(InvalidResource, match="CNI_ARGS IP: nowhere"):
        read(arguments=parse_arguments("IP=nowhere"))
    with pytest.raises(InvalidResource, match=r"args\.cni"):
        read(config=conf(', "args": {"cni": {"ips": "10.0.0.1"}}'))
