from __future__ import annotations

import pytest

from tortie.agent.refresh import ProcessSettings, RestartNeeded, SettingsWatch
from tortie.resources.felix_configuration import (
    FELIX_CONFIGURATION,
    FelixConfigurationSpec,
    HealthTimeoutOverride,
)
from tortie.resources.node import NODE, NodeSpec
from tortie.resources.resource import Delete, Metadata, Put, Resource, ResourceKey


def felix(name: str, **fields: object) -> Put:
    spec = FelixConfigurationSpec(**fields)  # type: ignore[arg-type]
    return Put(Resource(key=ResourceKey(FELIX_CONFIGURATION, name), spec=spec))


def labelled(**labels: str) -> Put:
    return Put(Resource(key=ResourceKey(NODE, "node1"), metadata=Metadata(labels=labels), spec=NodeSpec()))


def test_nothing_said_is_the_defaults() -> None:
    settings = SettingsWatch("node1", {}).resolve()
    assert settings == ProcessSettings(restart=(None, None))
    assert (settings.health_port, settings.metrics_port, settings.log_level) == (9099, 9091, "info")


def test_the_nodes_own_wins_over_the_clusters_and_the_environment_over_both() -> None:
    watch = SettingsWatch("node1", {"FELIX_HEALTHPORT": "7000", "FELIX_PROMETHEUSMETRICSENABLED": "false"})
    watch.take([felix("default", log_severity_screen="Debug", prometheus_metrics_port=1, health_port=2)])
    watch.take(
        [felix("node.node1", prometheus_metrics_port=3), felix("node.other", prometheus_metrics_port=4)]
    )
    settings = watch.resolve()
    assert (settings.log_level, settings.metrics_port, settings.health_port) == ("debug", 3, 7000)
    assert not settings.metrics_enabled


def test_a_selector_picks_by_the_nodes_labels() -> None:
    watch = SettingsWatch("node1", {})
    watch.take([felix("ssd", node_selector='disk == "ssd"', health_port=5)])
    assert watch.resolve().health_port == 9099
    assert watch.take([labelled(disk="ssd")])
    assert watch.resolve().health_port == 5
    assert watch.take([Delete(ResourceKey(FELIX_CONFIGURATION, "ssd"))])
    assert watch.resolve().health_port == 9099


def test_what_does_not_concern_us_changes_nothing() -> None:
    watch = SettingsWatch("node1", {})
    assert not watch.take([Put(Resource(key=ResourceKey(NODE, "node2"), spec=NodeSpec()))])


def test_values_that_cannot_be_understood_count_as_unset() -> None:
    watch = SettingsWatch("node1", {"FELIX_HEALTHPORT": "many"})
    timeouts = (
        HealthTimeoutOverride(name="CalculationGraph", timeout="soon"),
        HealthTimeoutOverride(name="InternalDataplaneMainLoop", timeout="1m30s"),
    )
    watch.take([felix("default", log_severity_screen="Loud", health_timeout_overrides=timeouts)])
    settings = watch.resolve()
    assert (settings.log_level, settings.health_port) == ("info", 9099)
    assert settings.health_timeouts == (("InternalDataplaneMainLoop", 90.0),)


@pytest.mark.parametrize(
    ("field", "value"), [("interface_prefix", "wl"), ("endpoint_status_path_prefix", "/var/run/x")]
)
def test_some_changes_need_a_new_process(field: str, value: str) -> None:
    watch = SettingsWatch("node1", {})
    before = watch.resolve()
    watch.take([felix("default", log_severity_screen="Debug")])
    assert watch.resolve().needs_restart(before) == ()
    watch.take([felix("default", **{field: value})])
    assert watch.resolve().needs_restart(before) == (field,)
    assert field in str(RestartNeeded((field,)))
