"""Which items do selectors match? Kept up to date, item by item and selector by selector.

Items that are labelled alike (the pods of one Deployment) form one group, and selectors are matched with groups. A new selector
is set algebra over the labels of all groups; a new group, or one whose labels change, is matched with those selectors alone whose
rarest required label it has. Labels are the item's own and those of its parents (profiles); its own win, then the first parent's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar, cast

from pyroaring import BitMap

from tortie.calc.postings import Label, Postings
from tortie.calc.required_terms import Term, Terms, mentioned, required_terms
from tortie.selector import Selector

ItemT = TypeVar("ItemT", bound=Hashable)
KeyT = TypeVar("KeyT", bound=Hashable)
Flat = tuple[str, ...]
"""Labels as they are kept: name, value, name, value, in the order of names."""


_NOTHING = BitMap()


class _Group(Generic[ItemT]):
    __slots__ = ("items", "labels", "matched", "number", "parents")

    def __init__(self, number: int, labels: Flat, parents: tuple[str, ...]) -> None:
        self.number = number
        self.labels = labels
        self.parents = parents
        self.matched: BitMap = _NOTHING
        """The selectors that match it; never changed while it is `_NOTHING`."""
        self.items: dict[ItemT, None] | tuple[ItemT] | None = None
        """Nearly always few; one alone without a dict around it."""

    def set_matched(self, number: int, matched: bool) -> None:
        if not matched:
            self.matched.discard(number)
        elif self.matched is _NOTHING:
            self.matched = BitMap((number,))
        else:
            self.matched.add(number)

    def add(self, item: ItemT) -> None:
        if self.items is None:
            self.items = (item,)
        else:
            if isinstance(self.items, tuple):
                self.items = {self.items[0]: None}
            self.items[item] = None

    def discard(self, item: ItemT) -> None:
        if isinstance(self.items, dict):
            self.items.pop(item, None)
            self.items = self.items or None
        else:
            self.items = None


class _Watch(Generic[KeyT]):
    __slots__ = ("groups", "key", "selector", "terms")

    def __init__(self, key: KeyT, selector: Selector, terms: Terms | None, groups: BitMap) -> None:
        self.key = key
        self.selector = selector
        self.terms = terms
        self.groups = groups
        """Those that match."""


class LabelIndex(Generic[KeyT, ItemT]):
    """``started(key, item)`` is called when a selector begins to match an item, ``stopped`` when it ends.

    They must not change the index.
    """

    def __init__(
        self, started: Callable[[KeyT, ItemT], None], stopped: Callable[[KeyT, ItemT], None]
    ) -> None:
        self._started = started
        self._stopped = stopped
        self._groups: list[_Group[ItemT]] = []
        self._free_groups: list[int] = []
        self._group_of: dict[tuple[Flat, tuple[str, ...]], int] = {}
        self._items: dict[ItemT, _Group[ItemT]] = {}
        self._parents: dict[str, Flat] = {}
        self._children: dict[str, BitMap] = {}
        self._postings = Postings()
        self._watches: list[_Watch[KeyT]] = []
        self._free_watches: list[int] = []
        self._number_of: dict[KeyT, int] = {}
        self._by_term: dict[Term, BitMap] = {}
        self._without_term = BitMap()
        self._mentions: dict[str, BitMap] = {}

    def __len__(self) -> int:
        return len(self._items)

    @property
    def selectors(self) -> int:
        return len(self._number_of)

    # Items

    def put(self, item: ItemT, labels: Mapping[str, str], parents: Sequence[str] = ()) -> None:
        """The item is labelled like this from now on."""
        before = self._items.get(item)
        after = self._group(_flat(labels), tuple(map(sys.intern, parents)))
        if before is after:
            return
        after.add(item)
        self._items[item] = after
        self._move(item, before, after)

    def drop(self, item: ItemT) -> None:
        before = self._items.pop(item, None)
        if before is not None:
            self._move(item, before, None)

    def _move(self, item: ItemT, before: _Group[ItemT] | None, after: _Group[ItemT] | None) -> None:
        was = _NOTHING if before is None else before.matched
        now = _NOTHING if after is None else after.matched
        for number in was - now:
            self._stopped(self._watches[number].key, item)
        for number in now - was:
            self._started(self._watches[number].key, item)
        if before is not None:
            before.discard(item)
            if before.items is None:
                self._forget(before)

    def set_parent(self, name: str, labels: Mapping[str, str] | None) -> None:
        """What the children of this parent inherit from now on; None for nothing. It need not have children yet."""
        old, new = self._parents.get(name, ()), _flat(labels or {})
        if old == new:
            return
        groups = [self._groups[number] for number in self._children.get(name, ())]
        before = [self._effective(group) for group in groups]
        if new:
            self._parents[sys.intern(name)] = new
        else:
            del self._parents[name]
        for group, old_labels in zip(groups, before, strict=True):
            self._relabel(group, old_labels, self._effective(group))

    def _relabel(self, group: _Group[ItemT], before: dict[str, str], after: dict[str, str]) -> None:
        gone, come = before.items() - after.items(), after.items() - before.items()
        self._postings.discard(group.number, gone)
        self._postings.add(group.number, come)
        concerned = BitMap()
        for label in {label for label, _ in gone | come}:
            concerned |= self._mentions.get(label, BitMap())
        for number in (self._candidates(before.items()) | self._candidates(after.items())) & concerned:
            watch = self._watches[number]
            was, now = group.number in watch.groups, watch.selector.matches(after)
            if was is now:
                continue
            group.set_matched(number, now)
            tell = self._started if now else self._stopped
            if now:
                watch.groups.add(group.number)
            else:
                watch.groups.discard(group.number)
            for item in group.items or ():
                tell(watch.key, item)

    # Groups

    def _group(self, labels: Flat, parents: tuple[str, ...]) -> _Group[ItemT]:
        number = self._group_of.get((labels, parents))
        if number is not None:
            return self._groups[number]
        number = self._free_groups.pop() if self._free_groups else len(self._groups)
        group: _Group[ItemT] = _Group(number, labels, parents)
        if number == len(self._groups):
            self._groups.append(group)
        else:
            self._groups[number] = group
        self._group_of[labels, parents] = number
        for name in parents:
            self._children.setdefault(name, BitMap()).add(number)
        effective = self._effective(group)
        self._postings.all.add(number)
        self._postings.add(number, effective.items())
        watches = self._watches
        for candidate in self._candidates(effective.items()):
            if watches[candidate].selector.matches(effective):
                watches[candidate].groups.add(number)
                group.set_matched(candidate, True)
        return group

    def _forget(self, group: _Group[ItemT]) -> None:
        for number in group.matched:
            self._watches[number].groups.discard(group.number)
        self._postings.discard(group.number, self._effective(group).items())
        self._postings.all.discard(group.number)
        for name in set(group.parents):
            children = self._children[name]
            children.discard(group.number)
            if not children:
                del self._children[name]
        del self._group_of[group.labels, group.parents]
        self._groups[group.number] = cast("_Group[ItemT]", None)
        self._free_groups.append(group.number)

    def _effective(self, group: _Group[ItemT]) -> dict[str, str]:
        merged: dict[str, str] = {}
        for name in reversed(group.parents):
            merged.update(_pairs(self._parents.get(name, ())))
        merged.update(_pairs(group.labels))
        return merged

    def _candidates(self, labels: Iterable[Label]) -> BitMap:
        found = self._without_term.copy()
        for label, value in labels:
            for term in ((label, value), (label, None)):
                numbers = self._by_term.get(term)
                if numbers is not None:
                    found |= numbers
        return found

    # Selectors

    def watch(self, key: KeyT, selector: Selector) -> None:
        """Tell of matches of this selector from now on, beginning with all that there are. A key stands for one selector."""
        if key in self._number_of:
            if self._watches[self._number_of[key]].selector == selector:
                return
            self.unwatch(key)
        number = self._free_watches.pop() if self._free_watches else len(self._watches)
        terms = required_terms(selector.root, self._cost)
        watch = _Watch(key, selector, terms, self._postings.matching(selector.root).copy())
        if number == len(self._watches):
            self._watches.append(watch)
        else:
            self._watches[number] = watch
        self._number_of[key] = number
        for term in terms or ():
            self._by_term.setdefault(term, BitMap()).add(number)
        if terms is None:
            self._without_term.add(number)
        for label in mentioned(selector.root):
            self._mentions.setdefault(label, BitMap()).add(number)
        for group in watch.groups:
            self._groups[group].set_matched(number, True)
        for item in self._items_in(watch.groups):
            self._started(key, item)

    def unwatch(self, key: KeyT) -> None:
        """Forget the selector; each of its matches stops."""
        number = self._number_of.pop(key, None)
        if number is None:
            return
        watch = self._watches[number]
        for term in watch.terms or ():
            _discard(self._by_term, term, number)
        self._without_term.discard(number)
        for label in mentioned(watch.selector.root):
            _discard(self._mentions, label, number)
        self._watches[number] = cast("_Watch[KeyT]", None)
        self._free_watches.append(number)
        for group in watch.groups:
            self._groups[group].set_matched(number, False)
        for item in self._items_in(watch.groups):
            self._stopped(key, item)

    def matched(self, item: ItemT) -> Iterator[KeyT]:
        """The selectors that match an item now."""
        return (self._watches[number].key for number in self._items[item].matched)

    def likeness(self, item: ItemT) -> bytes:
        """Equal for items that the same selectors match now."""
        return self._items[item].matched.serialize()

    def matching(self, key: KeyT) -> Iterator[ItemT]:
        """The items that a watched selector matches now."""
        return self._items_in(self._watches[self._number_of[key]].groups)

    def _items_in(self, groups: BitMap) -> Iterator[ItemT]:
        for number in groups:
            yield from self._groups[number].items or ()

    def _cost(self, term: Term) -> int:
        """How many groups have it. Before there are any, how many selectors hang on it stands for that."""
        return 1000 * self._postings.count(*term) + len(self._by_term.get(term, ()))


def _discard(sets: dict[ItemT, BitMap], key: ItemT, number: int) -> None:
    found = sets[key]
    found.discard(number)
    if not found:
        del sets[key]


def _flat(labels: Mapping[str, str]) -> Flat:
    flat: list[str] = []
    for label in sorted(labels):
        flat += (sys.intern(label), sys.intern(labels[label]))
    return tuple(flat)


def _pairs(flat: Flat) -> Iterator[Label]:
    return zip(flat[::2], flat[1::2], strict=True)
