"""What every resource is, whatever its kind: a key, metadata, a spec, and what we did not understand of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, NewType, TypeVar, cast

Revision = NewType("Revision", str)
"""A stored state of one resource. Opaque: compared for equality only."""


class Kind(NamedTuple):
    """Group and name, since NetworkPolicy exists in two groups. The core group is ``""``. As text it is what commands, errors and
    metrics call it: Kubernetes' NetworkPolicy is a KubernetesNetworkPolicy, as Calico has one, too."""

    group: str
    name: str

    def __str__(self) -> str:
        return f"Kubernetes{self.name}" if self.group == "networking.k8s.io" else self.name


class ResourceKey(NamedTuple):
    """Where a resource stands. ``within`` is its namespace; for a BlockAffinity its node; else empty."""

    kind: Kind
    name: str
    within: str = ""

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.within}/{self.name}" if self.within else f"{self.kind} {self.name}".rstrip()
        )


@dataclass(frozen=True)
class Origin:
    """The place a resource was read from; ``line`` counts from 1, and ``lines`` are its fields' by dotted path."""

    file: str
    line: int
    lines: Mapping[str, int] = field(default_factory=dict[str, int], compare=False, repr=False)

    def line_of(self, path: str) -> int:
        """The line of a field, or of the nearest thing around it."""
        while path:
            if path in self.lines:
                return self.lines[path]
            cut = max(path.rfind("."), path.rfind("["))
            path = path[: max(cut, 0)]
        return self.line

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


Unknown = Mapping[tuple[str | int, ...], Any]
"""Fields that we do not know, by path from the document's root, as plain JSON values: written back as read."""

NOTHING: Unknown = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, eq=False)
class Metadata:
    """What of the metadata means something to us; the rest is kept among the unknown fields."""

    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    annotations: Mapping[str, str] = field(default_factory=dict[str, str])
    uid: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    finalizers: tuple[str, ...] = ()
    generate_name: str = ""
    owners: tuple[Mapping[str, Any], ...] = ()


SpecT_co = TypeVar("SpecT_co", covariant=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class Resource(Generic[SpecT_co]):
    """One resource. ``revision`` is None when it was never stored; ``status`` is plain JSON or None."""

    key: ResourceKey
    metadata: Metadata = field(default_factory=Metadata)
    spec: SpecT_co
    status: Any = None
    unknown: Unknown = field(default_factory=lambda: NOTHING)
    revision: Revision | None = None
    origin: Origin | None = None

    def place(self, path: str) -> str:
        """File and line of a field, for findings; empty for what was read from no file."""
        return "" if self.origin is None else f"{self.origin.file}:{self.origin.line_of(path)}"

    def with_spec(self, spec: Any) -> Resource[Any]:
        """The same resource with another spec: what an update starts from, so that unknown fields survive."""
        if any(isinstance(part, int) for path in self.unknown for part in path):
            from tortie.resources.shape import follow

            return replace(self, spec=spec, unknown=follow(self.unknown, cast("Any", self.spec), spec))
        return replace(self, spec=spec)


class Put(NamedTuple):
    """The resource exists and looks like this."""

    resource: Resource[Any]

    @property
    def key(self) -> ResourceKey:
        return self.resource.key


class Delete(NamedTuple):
    """The resource does not exist. May be false: a `Put` may follow."""

    key: ResourceKey


class Invalid(NamedTuple):
    """The resource exists and cannot be taken. ``readable`` is what could be read of it, or None: of a policy, what it needs
    to fail closed (`taking`). ``reason`` begins with the field, and does not repeat the key."""

    key: ResourceKey
    reason: str
    readable: Resource[Any] | None = None


Update = Put | Delete | Invalid
