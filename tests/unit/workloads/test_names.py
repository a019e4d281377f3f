from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tortie.net.ifnames import MAX_LENGTH
from tortie.workloads import names

IDS = st.text("0123456789abcdef", min_size=12, max_size=64)


def test_pods_have_calicos_interface_name() -> None:
    # "cali" and the first 11 digits of: printf default.web-0 | sha1sum
    assert names.pod_interface("cali", "default", "web-0", "eth0") == "cali0d7763386da"


def test_a_second_interface_of_a_pod_has_a_name_of_its_own() -> None:
    assert names.pod_interface("cali", "a", "b", "net1") != names.pod_interface("cali", "a", "b", "eth0")


def test_containers_have_the_first_characters_of_their_id() -> None:
    assert names.bare_interface("cali", "0123456789abcdef", "eth0") == "cali0123456789a"
    assert names.bare_interface("cali", "c1", "eth0") == "calic1"


def test_ids_that_begin_alike_do_not_share_an_interface() -> None:
    one = names.bare_interface("cali", "cnitool-77383ca0b0715733ca6f", "eth0")
    other = names.bare_interface("cali", "cnitool-77383ca0b0715733ca70", "eth0")
    assert one != other


def test_handles_are_calicos() -> None:
    assert names.handle_id("k8s-pod-network", "3f2a", "eth0") == "k8s-pod-network.3f2a"
    assert names.handle_id("k8s-pod-network", "3f2a", "net1") == "k8s-pod-network.3f2a.net1"


def test_profiles_are_calicos() -> None:
    assert names.profile_names("shop", "cart") == ("kns.shop", "ksa.shop.cart")
    assert names.profile_names("shop", "") == ("kns.shop",)


@given(IDS)
def test_a_pods_mac_is_local_and_of_one_interface(container_id: str) -> None:
    mac = names.pod_mac(container_id, "eth0")
    first = int(mac[:2], 16)
    assert first & 0x02
    assert not first & 0x01
    assert len(mac) == 17
    assert mac == names.pod_mac(container_id, "eth0")


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=80), st.sampled_from(["eth0", "net1"]))
def test_every_interface_name_fits_the_kernel(namespace: str, pod: str, ifname: str) -> None:
    for prefix in ("cali", "tap", "averylongprefix"):
        assert len(names.pod_interface(prefix, namespace, pod, ifname)) <= MAX_LENGTH
