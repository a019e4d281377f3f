"""The registry: every kind is found by every word a user may write."""

from __future__ import annotations

import pytest

from tortie.errors import UsageError
from tortie.resources import registry
from tortie.resources.resource import Kind


def test_words() -> None:
    for word in ("ippools", "IPPool", "ipp", "IPPOOL", "pool"):
        assert registry.find(word).kind.name == "IPPool"
    assert registry.find("po").kind == Kind("", "Pod")
    assert registry.find("pods").api_version == "v1"
    assert registry.find("nodes").api_version == "projectcalico.org/v3"


def test_no_word_means_two_kinds() -> None:
    words = [
        word.lower() for each in registry.KINDS for word in {*each.words, each.title.lower(), *each.qualified}
    ]
    assert sorted(words) == sorted(set(words))


@pytest.mark.parametrize("info", [each for each in registry.KINDS if each.kind.group])
def test_words_with_the_group_as_kubectl_has_them(info: registry.KindInfo) -> None:
    for word in (info.plural, info.kind.name, *info.aliases):
        assert registry.find(f"{word}.{info.kind.group}") is info
        assert registry.find(f"{word}.{info.version}.{info.kind.group}") is info


def test_the_group_tells_the_two_network_policies_apart() -> None:
    for word in ("networkpolicies", "NetworkPolicy", "networkpolicies.v1", "netpol"):
        assert registry.find(f"{word}.networking.k8s.io").kind.group == "networking.k8s.io"
    for word in ("networkpolicies", "networkpolicy", "networkpolicies.v3", "np"):
        assert registry.find(f"{word}.projectcalico.org").kind.group == "projectcalico.org"
    assert registry.find("netpol").kind.group == "networking.k8s.io"
    assert registry.find("endpointslices.v1beta1.discovery.k8s.io").kind.name == "EndpointSlice"
    for word in ("pods.projectcalico.org", "ippools.v1.projectcalico.org", "ippools.crd.projectcalico.org"):
        with pytest.raises(UsageError, match="there is no kind"):
            registry.find(word)


def test_an_unknown_word_lists_the_kinds() -> None:
    with pytest.raises(UsageError, match=r"there is no kind 'things'; the kinds are ippools, .*, endpoints$"):
        registry.find("things")
    with pytest.raises(UsageError, match=r"no kind Thing in group core"):
        registry.info(Kind("", "Thing"))
    assert registry.by_document("v1", "IPPool") is None
