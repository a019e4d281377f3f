"""Collects everything that is wrong with one resource, field by field."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from tortie.errors import InvalidResource, SelectorSyntaxError
from tortie.net.addresses import Address, Interface, Prefix
from tortie.resources.resource import Resource
from tortie.selector import parse
from tortie.selector.ast import Global

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_DURATION = re.compile(r"0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))+")
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_AS_DOTTED = re.compile(r"([0-9]{1,5})\.([0-9]{1,5})")
MAX_AS = 4294967295


def as_number(value: int | str) -> int:
    """An AS number from a number, its digits or the dotted form ``1.10``. Raises `ValueError`."""
    if isinstance(value, int):
        number = value
    elif dotted := _AS_DOTTED.fullmatch(value):
        high, low = int(dotted[1]), int(dotted[2])
        if high > 65535 or low > 65535:
            raise ValueError("is not an AS number: each half is at most 65535")
        number = high << 16 | low
    elif value.isascii() and value.isdigit():
        number = int(value)
    else:
        raise ValueError("is not an AS number")
    if not 1 <= number <= MAX_AS:
        raise ValueError(f"is not between 1 and {MAX_AS}")
    return number


class Findings:
    """One resource's findings. Each check adds what it finds and goes on, so that a user sees all at once."""

    def __init__(self, resource: Resource[Any]) -> None:
        self.key = str(resource.key)
        self._place = resource.place
        self.found: list[InvalidResource] = []
        self._metadata(resource)

    def add(self, field: str, value: object, rule: str) -> None:
        """Note that the field's value breaks a rule; the text reads on after the value."""
        self.found.append(InvalidResource(field, value, rule, self.key, self._place(field)))

    def _metadata(self, resource: Resource[Any]) -> None:
        name = resource.key.name
        if not name:
            self.add("metadata.name", None, "is required")
        for label, value in resource.metadata.labels.items():
            self.label_name("metadata.labels", label)
            self.label_value(f"metadata.labels[{label}]", value)

    def required(self, field: str, value: object) -> bool:
        if value in (None, "", ()):
            self.add(field, None, "is required")
            return False
        return True

    def subdomain(self, field: str, value: str) -> None:
        """A name as Kubernetes wants most of them (RFC 1123): what gives a file or a key its name."""
        if value and (len(value) > 253 or not _SUBDOMAIN.fullmatch(value)):
            self.add(
                field,
                value,
                "is not a name: at most 253 small letters, digits, '-' and '.', a letter or digit at each end of a part",
            )

    def dns_label(self, field: str, value: str) -> None:
        if value and (len(value) > 63 or not _LABEL.fullmatch(value)):
            self.add(
                field,
                value,
                "is not a name: at most 63 small letters, digits and '-', a letter or digit at each end",
            )

    def one_of(
        self, field: str, value: str | None, choices: Sequence[str], *, any_case: bool = False
    ) -> None:
        known = {choice.lower() for choice in choices} if any_case else choices
        if value and (value.lower() if any_case else value) not in known:
            self.add(field, value, f"is not one of {', '.join(choices)}")

    def between(self, field: str, value: int | None, low: int, high: int) -> None:
        if value is not None and not low <= value <= high:
            self.add(field, value, f"is not between {low} and {high}")

    def port(self, field: str, value: int | None) -> None:
        self.between(field, value, 1, 65535)

    def prefix(self, field: str, value: str, *, masked: bool = True) -> Prefix | None:
        """A CIDR; ``masked`` refuses host bits and says what it should be."""
        try:
            loose = Prefix.parse(value, strict=False)
        except ValueError:
            self.add(field, value, "is not an address with a prefix length")
            return None
        if masked:
            try:
                return Prefix.parse(value)
            except ValueError:
                self.add(field, value, f"has bits beyond its prefix length; its network is {loose}")
                return None
        return loose

    def address(self, field: str, value: str, version: int | None = None) -> Address | None:
        if not value:
            return None
        try:
            found = Address.parse(value)
        except ValueError:
            self.add(field, value, "is not an IP address")
            return None
        if version is not None and found.version != version:
            self.add(field, value, f"is not an IPv{version} address")
        return found

    def interface(self, field: str, value: str, version: int) -> Interface | None:
        """An address with or without a prefix length."""
        if not value:
            return None
        try:
            found = Interface.parse(value)
        except ValueError:
            self.add(field, value, "is not an IP address, with or without a prefix length")
            return None
        if found.address.version != version:
            self.add(field, value, f"is not an IPv{version} address")
        return found

    def selector(self, field: str, value: str | None, *, without_global: bool = False) -> None:
        """A selector; ``global()`` belongs into the namespaceSelector of a rule alone."""
        if not value:
            return
        try:
            selector = parse(value)
        except SelectorSyntaxError as error:
            self.found.append(
                SelectorSyntaxError(field, value, error.column, error.expected, self.key, self._place(field))
            )
            return
        if without_global and selector.has_global:
            self.add(field, value, "uses global(), which only a rule's namespaceSelector can")

    def mixes_global(self, value: str) -> bool:
        """Whether a selector combines ``global()`` with something else."""
        try:
            selector = parse(value)
        except SelectorSyntaxError:
            return False
        return selector.has_global and not isinstance(selector.root, Global)

    def at_most(self, field: str, values: Sequence[Any], most: int) -> None:
        if len(values) > most:
            self.add(field, len(values), f"are too many: there are at most {most}")

    def no_repeats(self, field: str, values: Sequence[str]) -> None:
        for index, value in enumerate(values):
            if value in values[:index]:
                self.add(f"{field}[{index}]", value, "is given twice")

    def number(self, field: str, value: float | None) -> None:
        """Neither infinite nor no number, which YAML can write."""
        if value is not None and not math.isfinite(value):
            self.add(field, value, "is not a finite number")

    def label_name(self, field: str, value: str) -> None:
        """A label's name: an optional domain and ``/``, then at most 63 characters."""
        prefix, slash, tail = value.rpartition("/")
        bad_prefix = slash and (len(prefix) > 253 or not _SUBDOMAIN.fullmatch(prefix))
        if bad_prefix or len(tail) > 63 or not _QUALIFIED.fullmatch(tail):
            self.add(field, value, "is not a label's name")

    def label_value(self, field: str, value: str) -> None:
        if len(value) > 63 or (value and not _QUALIFIED.fullmatch(value)):
            self.add(field, value, "is not a label's value")

    def as_number(self, field: str, value: int | str | None) -> None:
        if value is None:
            return
        try:
            as_number(value)
        except ValueError as error:
            self.add(field, value, str(error))

    def duration(self, field: str, value: str | None) -> None:
        if value and not _DURATION.fullmatch(value):
            self.add(field, value, "is not a duration such as 90s or 1m30s")

    def regex(self, field: str, value: str | None) -> None:
        if not value:
            return
        try:
            re.compile(value)
        except re.error as error:
            self.add(field, value, f"is not a regular expression: {error}")

    def mac(self, field: str, value: str) -> None:
        if value and not _MAC.fullmatch(value):
            self.add(field, value, "is not a MAC address")


def canonical_prefix(text: str) -> str:
    """The CIDR as Calico writes it, or the text as it is when it is none."""
    try:
        return str(Prefix.parse(text))
    except ValueError:
        return text


def canonical_net(text: str) -> str:
    """A network of a rule: without the bits beyond its prefix length; the text as it is when it is none."""
    try:
        return str(Prefix.parse(text, strict=False))
    except ValueError:
        return text


def canonical_interface(text: str) -> str:
    """``172.30.0.11/24``: the address in its canonical form with its prefix length, if it had one."""
    try:
        found = Interface.parse(text)
    except ValueError:
        return text
    return str(found) if "/" in text else str(found.address)


def canonical_as_number(value: int | str | None) -> int | str | None:
    """The number, or what was there when it is none."""
    try:
        return None if value is None else as_number(value)
    except ValueError:
        return value
