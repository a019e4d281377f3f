"""What the registry says of a kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tortie.columns import Column
from tortie.errors import InvalidResource
from tortie.resources.findings import Findings
from tortie.resources.resource import Kind, Resource, ResourceKey
from tortie.resources.shape import Path, dotted

CALICO = "projectcalico.org"
CORE = ""

NAME = Column[Resource[Any]]("NAME", lambda r: r.key.name)
NAMESPACE = Column[Resource[Any]]("NAMESPACE", lambda r: r.key.within)


def _metadata(resource: Resource[Any]) -> list[InvalidResource]:
    return Findings(resource).found


def _may_change(_old: Resource[Any], _new: Resource[Any]) -> list[InvalidResource]:
    return []


def _fits_in(_resource: Resource[Any], _others: Sequence[Resource[Any]]) -> list[InvalidResource]:
    return []


def _as_is(resource: Resource[Any]) -> Resource[Any]:
    return resource


def _spec_as_is(_: ResourceKey, spec: Any) -> Any:
    return spec


@dataclass(frozen=True, kw_only=True, eq=False)
class KindInfo:
    """All that other rooms need to know of a kind; each kind's module makes one, and `registry` lists it.

    ``validate`` finds everything wrong with one resource by itself; ``normalise`` fills defaults and writes addresses
    in their canonical form, as Calico does before it stores. Rules between resources are functions of the kind's module.
    """

    kind: Kind
    version: str = "v3"
    plural: str
    spec: type[msgspec.Struct]
    namespaced: bool = False
    bare: bool = False
    """Stored as the spec's JSON alone, at a key of its own: there is no room for labels and annotations."""
    rooted: bool = False
    """The document has no ``spec``: the spec's fields stand at its root, beside ``metadata``."""
    older: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = field(
        default_factory=dict[str, Callable[[dict[str, Any]], dict[str, Any]]]
    )
    """Other values of ``apiVersion`` that are taken, and how such a document becomes one of ours."""
    for_users: bool = True
    """Taken by ``apply`` and shown in the list of kinds."""
    aliases: tuple[str, ...] = ()
    columns: Sequence[Column[Resource[Any]]] = (NAME,)
    validate: Callable[[Resource[Any]], list[InvalidResource]] = _metadata
    normalise: Callable[[Resource[Any]], Resource[Any]] = _as_is
    changes: Callable[[Resource[Any], Resource[Any]], list[InvalidResource]] = _may_change
    """What is wrong with replacing the first by the second: fields that may not change."""
    checked: bool = False
    """What is stored, perhaps by others, is validated and normalised when it is followed (`taking`)."""
    needs: tuple[Kind, ...] = ()
    """Kinds whose resources ``among`` looks at."""
    among: Callable[[Resource[Any], Sequence[Resource[Any]]], list[InvalidResource]] = _fits_in
    """What is wrong with the resource among those of the kinds that it ``needs``."""
    known: frozenset[str] = frozenset()
    """Names of spec fields that exist and that we only carry along."""
    open: bool = False
    """Another's schema (Kubernetes'): fields we do not know are no mistake."""
    stored_names: Mapping[str, str] = field(default_factory=dict[str, str])
    """For a bare kind: names in storage that differ from those in the document."""
    key_of: Callable[[str, Mapping[str, Any]], ResourceKey] | None = None
    """For a kind whose key is not its name and namespace: the key that follows from the name and the document's spec."""
    complete: Callable[[ResourceKey, Any], Any] = _spec_as_is
    """For a bare kind: adds to the spec what only its key says."""
    trim: Callable[[Any], Any] | None = None
    """For a bare kind: takes from the spec what its key says, before it is stored."""

    @property
    def api_version(self) -> str:
        return f"{self.kind.group}/{self.version}" if self.kind.group else self.version

    @property
    def title(self) -> str:
        """Its name for people."""
        return str(self.kind)

    @property
    def words(self) -> tuple[str, ...]:
        """What it is called on the command line: the first is its proper one."""
        if self.title != self.kind.name:  # the plural is another's
            return (*self.aliases, self.title.lower())
        return (self.plural, *self.aliases)

    @property
    def qualified(self) -> Iterator[str]:
        """The same with its group, as kubectl has them: ``ippools.projectcalico.org``, ``ippool.v3.projectcalico.org``."""
        versions = [version.rpartition("/")[2] for version in (self.api_version, *self.older)]
        if self.kind.group:
            for word in dict.fromkeys((self.plural, self.kind.name.lower(), *self.aliases)):
                yield f"{word}.{self.kind.group}"
                yield from (f"{word}.{version}.{self.kind.group}" for version in versions)

    def place(self, path: Path) -> str:
        """A path below ``spec`` as it stands in the document."""
        return dotted(path[1:] if self.rooted and path[:1] == ("spec",) and len(path) > 1 else path)
