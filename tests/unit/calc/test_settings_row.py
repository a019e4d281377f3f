"""How FelixConfiguration becomes the row of settings, where a value needs reading."""

from __future__ import annotations

import pytest

from tortie.calc.settings import settings_row
from tortie.desired.settings import FAILSAFE_OUTBOUND, FailsafePort
from tortie.net.addresses import Prefix
from tortie.resources.felix_configuration import FelixConfigurationSpec, ProtoPort


def test_failsafe_ports_are_read_and_stay_the_defaults_where_none_are_given() -> None:
    ports = (ProtoPort(protocol="TCP", port=22), ProtoPort(protocol="udp", port=68, net="10.0.0.1/8"))
    row, problems = settings_row([FelixConfigurationSpec(failsafe_inbound_host_ports=ports)])
    assert row.failsafe_inbound == (FailsafePort(6, 22), FailsafePort(17, 68, Prefix.parse("10.0.0.0/8")))
    assert row.failsafe_outbound == FAILSAFE_OUTBOUND
    assert not problems


@pytest.mark.parametrize("ports", [(), (ProtoPort(port=1),)])
def test_a_list_replaces_the_defaults_also_when_it_is_empty(ports: tuple[ProtoPort, ...]) -> None:
    row, _ = settings_row([FelixConfigurationSpec(failsafe_outbound_host_ports=ports)])
    assert len(row.failsafe_outbound) == len(ports)


def test_a_protocol_without_ports_leaves_the_defaults_and_is_reported() -> None:
    row, problems = settings_row(
        [FelixConfigurationSpec(failsafe_outbound_host_ports=(ProtoPort(protocol="icmp"),))]
    )
    assert row.failsafe_outbound == FAILSAFE_OUTBOUND
    assert [(each.field, "icmp" in each.reason) for each in problems] == [
        ("spec.failsafeOutboundHostPorts", True)
    ]
