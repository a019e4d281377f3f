"""``KIND [NAME…]`` on the command line: which resources are meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tortie.errors import UsageError

if TYPE_CHECKING:
    from tortie.resources.kind_info import KindInfo


def kind_and_names(words: Sequence[str]) -> tuple[KindInfo, list[str]]:
    """``pools a b`` or ``pool/a``. Raises `UsageError`."""
    from tortie.resources import registry

    if not words:
        kinds = ", ".join(each.words[0] for each in registry.KINDS if each.for_users)
        raise UsageError(f"name a kind ({kinds}) or files with -f")
    word, slash, name = words[0].partition("/")
    return registry.find(word), [*([name] if slash else []), *words[1:]]
