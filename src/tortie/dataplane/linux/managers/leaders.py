"""Names of what several share that stay while they change together."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from datetime import datetime
from typing import Final, Generic, TypeVar

from tortie.dataplane.linux.rules import names

M = TypeVar("M", bound=Hashable)

_AGE: Final = 5
"""Letters of a token that tell seconds; the rest tells those apart who came in the same one."""
_BEGIN: Final = int(datetime.fromisoformat("2020-01-01T00:00:00Z").timestamp())
"""From here they are counted: there is room for 29 years."""


class Tokens:
    """What members have in elections, and groups are named by: nobody has another's, and an older member's is less.

    It is made of the member's name and of the second in which it was made, and is the same after every start. Two members whose
    tokens would be one are told apart by who came first: of one second that is one pair of 2^36, if nobody seeks it.
    """

    def __init__(self) -> None:
        self._tokens: dict[Hashable, tuple[str, str]] = {}
        self._members: dict[str, Hashable] = {}

    def take(self, member: Hashable, created: str) -> str:
        """Its own, until `give_back`. ``created``: RFC 3339, or nothing."""
        before = self._tokens.get(member)
        if before is not None:
            if before[1] == created:
                return before[0]
            del self._members[before[0]]
        token, turn = _token(member, created), 0
        while self._members.setdefault(token, member) != member:
            turn += 1
            token = _token((member, turn), created)
        self._tokens[member] = token, created
        return token

    def give_back(self, member: Hashable) -> None:
        token, _ = self._tokens.pop(member, ("", ""))
        self._members.pop(token, None)


def _token(member: Hashable, created: str) -> str:
    digest = names.group_digest(member)
    try:
        seconds = int(datetime.fromisoformat(created).timestamp()) - _BEGIN
    except ValueError:
        return digest
    return names.in_order(max(seconds, 0), _AGE) + digest[_AGE:]


class Sharers(Generic[M]):
    """Those who share a thing, with a token each; the thing is named after the least of these, its leader.

    Tokens are made of what does not change, and an older sharer's is less. So the name depends on who shares the thing alone, not
    on what it is or how they came to share it: a new agent finds the same. When all of them move on to another thing its name is
    the old one's, and what stands under that name is changed in place. Who comes brings no other name, and of those who go only
    the oldest.
    """

    def __init__(self) -> None:
        self.leader = ""
        """As `elect` found it."""
        self._tokens: dict[M, str] = {}

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def __iter__(self) -> Iterator[M]:
        return iter(self._tokens)

    def join(self, sharer: M, token: str) -> None:
        self._tokens[sharer] = token

    def leave(self, sharer: M) -> None:
        self._tokens.pop(sharer, None)

    def elect(self) -> bool:
        """Whether there is another leader now."""
        before, self.leader = self.leader, min(self._tokens.values(), default="")
        return self.leader != before
