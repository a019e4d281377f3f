"""``KIND [NAME…]`` on the command line: which resources are meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tortie.errors import UsageError

if TYPE_CHECKING:
    from tortie.resources.kind_info import KindInfo
    from tortie.resources.resource import ResourceKey


def kind_and_names(words: Sequence[str]) -> tuple[KindInfo, list[str]]:
    """``pools a b`` or ``pool/a``. Raises `UsageError`."""
    from tortie.resources import registry

    if not words:
        kinds = ", ".join(each.words[0] for each in registry.KINDS if each.for_users)
        raise UsageError(f"name a kind ({kinds}) or files with -f")
    word, slash, name = words[0].partition("/")
    return registry.find(word), [*([name] if slash else []), *words[1:]]


def kinds_and_names(words: Sequence[str]) -> tuple[list[KindInfo], list[str]]:
    """Also ``pools,nodes``. Raises `UsageError`."""
    from tortie.resources import registry

    several = [each for each in words[0].split(",") if each] if words else []
    if len(several) < 2:
        info, names = kind_and_names([*several, *words[1:]])
        return [info], names
    return [registry.find(each) for each in dict.fromkeys(several)], list(words[1:])


def one_key(kind: str, name: str, namespace: str) -> tuple[KindInfo, ResourceKey]:
    """``KIND [NAMESPACE/]NAME``; ``namespace`` is for a name without one. Raises `UsageError`."""
    from tortie.resources import registry
    from tortie.resources.resource import ResourceKey

    info = registry.find(kind)
    within, slash, own = name.rpartition("/")
    if slash and not info.namespaced:
        raise UsageError(f"a {info.title} is in no namespace: write {own}")
    return info, ResourceKey(info.kind, own, (within if slash else namespace) if info.namespaced else "")
