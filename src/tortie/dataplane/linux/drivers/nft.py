"""The tables of ours, brought in line in one atomic batch."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from tortie.dataplane.api import Outcome
from tortie.dataplane.linux.drivers.thread import KernelThread
from tortie.dataplane.linux.rules import names
from tortie.errors import KernelError, TortieError
from tortie.host.nft import (
    DROP,
    Chain,
    ChainKey,
    Counter,
    CounterKey,
    ElementKey,
    ElementValue,
    NftKey,
    NftValue,
    Rule,
    Set,
    SetKey,
    Table,
    TableFamily,
    TableKey,
    Verdict,
)
from tortie.kernel.api import Rules
from tortie.kernel.nft import Batch, Refused

_ROUNDS = 12
"""So often a batch is sent again without what the kernel named, before the culprit is sought by halves."""


_CLOSED = Chain.of(Rule((Counter(), DROP), "the kernel refused what should stand here"))
_EMPTY = Chain.of()
"""What stands in place of a chain that the kernel refuses: whoever goes there is not let through by what stood there before."""


@dataclass
class _Todo:
    """What a batch is to do, sorted by what it is done to."""

    put: dict[NftKey, NftValue]
    gone: set[NftKey]
    singly: set[SetKey] = field(default_factory=set[SetKey])
    """Sets whose elements go one a message, so that a refusal tells which."""

    def drop(self, key: NftKey) -> None:
        self.put.pop(key, None)
        self.gone.discard(key)

    def replace(self, key: NftKey) -> bool:
        """Put a chain that does no harm in place of this one. False when that cannot be, or was tried."""
        chain = self.put.get(key)
        if not isinstance(chain, Chain) or chain.hook is not None or chain in (_CLOSED, _EMPTY):
            return False
        self.put[key] = _CLOSED if chain.closes else _EMPTY
        return True

    def __bool__(self) -> bool:
        return bool(self.put or self.gone)


class NftDriver:
    """Keeps in mind what stands in the kernel, for a change must say what it replaces.

    When the kernel refuses a batch, what it names is left out and reported, and the rest is sent again; where it names nothing
    the culprit is sought by halves. A table of another schema is replaced whole, in the same batch, so that there is never none.
    """

    name: ClassVar[str] = "nft"

    def __init__(self, rules: Rules, thread: KernelThread) -> None:
        self._rules = rules
        self._thread = thread
        self._specs: dict[SetKey, Set] = {}
        self._values: dict[ElementKey, Verdict | bytes] = {}
        self._stale: set[TableFamily] = set()
        self._generation = -1

    async def read(self) -> Mapping[NftKey, NftValue]:
        return await self._thread.run(self._read)

    async def apply(self, put: Mapping[NftKey, NftValue], gone: frozenset[NftKey]) -> Outcome:
        return await self._thread.run(lambda: self._apply(_Todo(dict(put), set(gone))))

    @property
    def generation(self) -> int:
        """The generation of nf_tables after our last reading or batch; -1 before."""
        return self._generation

    async def disturbed(self) -> bool:
        """Whether anybody else has changed, or may have changed, our tables since we last read or wrote."""
        return await self._thread.run(self._disturbed)

    def _disturbed(self) -> bool:
        if self._stale or self._generation < 0:
            return True
        generation = self._rules.generation()
        if generation == self._generation:
            return False
        changes, ours = self._rules.news()
        if ours or generation - self._generation != changes:
            # A change that nobody has told us of yet counts as one of ours.
            self._generation = -1
            return True
        self._generation = generation
        return False

    def _read(self) -> dict[NftKey, NftValue]:
        self._rules.news()
        while True:
            generation = self._rules.generation()
            found = self._rules.read()
            if self._rules.generation() == generation:
                break
        tables = [value for value in found.values() if isinstance(value, Table)]
        self._stale = {
            table.family for table in tables if table.schema != names.SCHEMA or table.family in self._stale
        }
        if self._stale:
            found = {key: value for key, value in found.items() if key.family not in self._stale}
            for family in self._stale:
                found[TableKey(family)] = Table(family, names.TABLE, schema=0)
        self._generation = generation
        self._specs = {
            key: value for key, value in found.items() if isinstance(key, SetKey) and isinstance(value, Set)
        }
        self._values = {
            key: value
            for key, value in found.items()
            if isinstance(key, ElementKey) and isinstance(value, Verdict | bytes)
        }
        return found

    def _apply(self, todo: _Todo) -> Outcome:
        failed: dict[NftKey, TortieError] = {}
        refused: Refused | None = None
        for _ in range(_ROUNDS):
            if not todo:
                return Outcome(failed)
            batch, refused = self._commit(todo)
            if refused is None:
                return Outcome(failed)
            if refused.unattributed is not None or not self._leave_out(todo, batch, refused, failed):
                break
        if refused is not None and not self._renew_closed(todo):
            return Outcome(
                dict.fromkeys((*todo.put, *todo.gone), next(iter(refused.errors.values()))) | failed
            )
        self._by_halves(todo, in_order(todo.put, todo.gone), failed)
        return Outcome(failed)

    def _renew_closed(self, todo: _Todo) -> bool:
        """Before halves: what replaces a table has all that guards the node in it, with every policy closed. False when even that
        is refused; then the old table stands."""
        if not any(isinstance(key, TableKey) and key.family in self._stale for key in todo.put):
            return True
        part = _Todo(dict(todo.put), set(todo.gone))
        for key in todo.put:
            if isinstance(key, ChainKey) and names.is_of_policy(key.name):
                part.replace(key)
        return self._commit(part)[1] is None

    def _commit(self, todo: _Todo) -> tuple[Batch, Refused | None]:
        batch = self._compose(todo)
        refused = self._rules.commit(batch)
        if refused is None and batch.requests:
            self._generation += 1
            self._note(todo)
        return batch, refused

    def _leave_out(
        self, todo: _Todo, batch: Batch, refused: Refused, failed: dict[NftKey, TortieError]
    ) -> bool:
        """Take out what the kernel named. False when that changes nothing."""
        changed = False
        replaced: set[NftKey] = set()
        for place, error in refused.errors.items():
            key = batch.owners[place]
            if isinstance(key, SetKey) and batch.is_elements(place):
                changed = changed or key not in todo.singly
                todo.singly.add(key)
            elif key in todo.gone and error.errno == errno.ENOENT:
                todo.gone.discard(key)
                changed = True
            elif isinstance(key, ElementKey) and self._stands_otherwise(key, error):
                changed = True
            elif key in replaced:
                continue  # several of its rules are refused
            elif key in todo.put or key in todo.gone:
                failed[key] = error
                if todo.replace(key):
                    replaced.add(key)
                else:
                    todo.drop(key)
                changed = True
                if isinstance(key, SetKey) and error.errno == errno.EEXIST:
                    # Someone made a set of another type under our name: after the next reading the table is made anew.
                    self._stale.add(key.family)
        return changed

    def _stands_otherwise(self, key: ElementKey, error: KernelError) -> bool:
        """The element is there with a verdict that we did not know: say so, and it is replaced. False when that was tried."""
        if error.errno not in (errno.EEXIST, errno.EBUSY) or key in self._values:
            return False
        self._values[key] = Verdict("continue")
        return True

    def _by_halves(self, todo: _Todo, keys: list[NftKey], failed: dict[NftKey, TortieError]) -> None:
        """Do as much as can be done: each half on its own, what is referred to first."""
        if not keys:
            return
        part = _Todo(
            {key: todo.put[key] for key in keys if key in todo.put}, {key for key in keys if key in todo.gone}
        )
        _, refused = self._commit(part)
        if refused is None:
            return
        if len(keys) == 1:
            error = next(iter(refused.errors.values()))
            if keys[0] not in part.gone or error.errno != errno.ENOENT:
                failed.setdefault(keys[0], error)
            if part.replace(keys[0]):
                self._commit(part)
            return
        middle = len(keys) // 2
        self._by_halves(todo, keys[:middle], failed)
        self._by_halves(todo, keys[middle:], failed)

    def _compose(self, todo: _Todo) -> Batch:
        """What is referred to comes before what refers to it, and goes after."""
        batch = Batch(names.TABLE)
        chains: dict[ChainKey, Chain] = {}
        added: dict[SetKey, dict[ElementKey, ElementValue]] = {}
        removed: dict[SetKey, dict[ElementKey, ElementValue]] = {}
        specs = dict(self._specs)
        for value in todo.put.values():
            if isinstance(value, Table):
                if value.family in self._stale:
                    batch.delete_table(value.family)
                batch.put_table(value)
        for key, value in todo.put.items():
            if isinstance(key, SetKey) and isinstance(value, Set):
                specs[key] = value
                batch.put_set(key, value)
            elif isinstance(key, ChainKey) and isinstance(value, Chain):
                chains[key] = value
            elif isinstance(key, CounterKey):
                batch.put_counter(key)
            elif isinstance(key, ElementKey):
                leads = value if isinstance(value, Verdict | bytes) else None
                added.setdefault(SetKey(key.family, key.set_name), {})[key] = leads
                if key in self._values and key.family not in self._stale:
                    removed.setdefault(SetKey(key.family, key.set_name), {})[key] = None
        for chain_key, chain in chains.items():
            batch.put_chain(chain_key, chain.hook)
        for chain_key, chain in chains.items():
            batch.flush_chain(chain_key)
            for rule in chain.rules:
                batch.add_rule(chain_key, rule)
        for key in todo.gone:
            if isinstance(key, ElementKey):
                set_key = SetKey(key.family, key.set_name)
                # Those of a set that goes go with it; but a verdict holds a chain, which goes before the set.
                if set_key in specs and (set_key not in todo.gone or specs[set_key].verdicts):
                    removed.setdefault(set_key, {})[key] = None
        for set_key, elements in removed.items():
            for portion in _portions(elements, singly=set_key in todo.singly):
                batch.delete_elements(set_key, specs[set_key], portion)
        for set_key, elements in added.items():
            if set_key not in specs:
                specs[set_key] = Set(("ifname",))  # not ours to know: the kernel will refuse it, and say why
            for portion in _portions(elements, singly=set_key in todo.singly):
                batch.put_elements(set_key, specs[set_key], portion)
        gone_chains = [key for key in todo.gone if isinstance(key, ChainKey)]
        for chain_key in gone_chains:
            batch.flush_chain(chain_key)
        for chain_key in gone_chains:
            batch.delete_chain(chain_key)
        for key in todo.gone:
            if isinstance(key, SetKey):
                batch.delete_set(key)
            elif isinstance(key, CounterKey):
                batch.delete_counter(key)
        return batch

    def _note(self, todo: _Todo) -> None:
        """All of it is in the kernel now."""
        for key in todo.gone:
            if isinstance(key, SetKey):
                self._specs.pop(key, None)
            elif isinstance(key, ElementKey):
                self._values.pop(key, None)
        renewed = {value.family for value in todo.put.values() if isinstance(value, Table)} & self._stale
        if renewed:
            self._stale -= renewed
            self._specs = {key: spec for key, spec in self._specs.items() if key.family not in renewed}
            self._values = {key: v for key, v in self._values.items() if key.family not in renewed}
        for key, value in todo.put.items():
            if isinstance(key, SetKey) and isinstance(value, Set):
                self._specs[key] = value
            elif isinstance(key, ElementKey) and isinstance(value, Verdict | bytes):
                self._values[key] = value


def in_order(put: Mapping[NftKey, NftValue], gone: Iterable[NftKey]) -> list[NftKey]:
    """Each key after those that it refers to: tables, sets, counters, chains (those that are jumped to first), elements; then
    what goes."""
    chains = {
        key: value for key, value in put.items() if isinstance(key, ChainKey) and isinstance(value, Chain)
    }
    ordered: list[NftKey] = [key for key in put if isinstance(key, TableKey)]
    ordered += [key for key in put if isinstance(key, SetKey | CounterKey)]
    done: set[ChainKey] = set()

    def visit(key: ChainKey) -> None:
        if key in done or key not in chains:
            return
        done.add(key)
        for name in sorted(chains[key].references()):
            visit(ChainKey(key.family, name))
        ordered.append(key)

    for key in chains:
        visit(key)
    going = list(gone)
    ordered += [key for key in going if isinstance(key, ElementKey)]
    ordered += [key for key in put if isinstance(key, ElementKey)]
    ordered += [key for key in going if isinstance(key, ChainKey)]
    ordered += [key for key in going if isinstance(key, SetKey | CounterKey)]
    return ordered


def _portions(
    elements: Mapping[ElementKey, ElementValue], *, singly: bool
) -> Iterable[Mapping[ElementKey, ElementValue]]:
    return ({key: verdict} for key, verdict in elements.items()) if singly else (elements,)
