"""The tracker against a model that keeps everything and compares everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tortie.dataplane.delta_tracker import DeltaTracker

KEYS = st.integers(0, 5)
VALUES = st.one_of(st.none(), st.integers(0, 2))


class Tracking(RuleBasedStateMachine):
    """``kernel`` is what is really there; `take` is answered by doing all, some or none of it."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker: DeltaTracker[int, int | None] = DeltaTracker()
        self.wanted: dict[int, int | None] = {}
        self.kernel: dict[int, int | None] = {}

    @initialize(kernel=st.dictionaries(KEYS, VALUES))
    def start(self, kernel: dict[int, int | None]) -> None:
        self.kernel = dict(kernel)
        self.tracker.saw(kernel)

    @rule(key=KEYS, value=VALUES)
    def want(self, key: int, value: int | None) -> None:
        self.wanted[key] = value
        self.tracker.want(key, value)

    @rule(key=KEYS)
    def unwant(self, key: int) -> None:
        self.wanted.pop(key, None)
        self.tracker.unwant(key)

    @rule(failing=st.sets(KEYS), half_done=st.sets(KEYS), late_key=KEYS, late_value=VALUES)
    def work(self, failing: set[int], half_done: set[int], late_key: int, late_value: int | None) -> None:
        pending = self.tracker.take()
        assert not (pending.put.keys() & pending.gone)
        for key, value in pending.put.items():
            assert self.wanted.get(key, "absent") == value, "only what is wanted is put"
        assert not (pending.gone & self.wanted.keys())
        # Meanwhile someone changes their mind: the work goes on with what was handed out.
        self.want(late_key, late_value)
        for key in [*pending.put, *pending.gone]:
            if key in failing and key not in half_done:
                continue
            if key in pending.put:
                self.kernel[key] = pending.put[key]
            else:
                self.kernel.pop(key, None)
        self.tracker.did(
            {key: value for key, value in pending.put.items() if key not in failing}, pending.gone - failing
        )
        self.tracker.failed([key for key in [*pending.put, *pending.gone] if key in failing])

    @rule(key=KEYS, value=VALUES, gone=st.booleans(), everything=st.booleans())
    def tamper_and_look(self, key: int, value: int | None, gone: bool, everything: bool) -> None:
        if gone:
            self.kernel.pop(key, None)
        else:
            self.kernel[key] = value
        self.tracker.saw(dict(self.kernel), only=None if everything else [key])

    @invariant()
    def a_round_without_failures_brings_all_in_line(self) -> None:
        # On a copy: the tracker itself goes on dirty.
        copy: DeltaTracker[int, int | None] = DeltaTracker()
        copy.__dict__.update(
            {
                name: value.copy() if isinstance(value, dict | set) else value
                for name, value in self.tracker.__dict__.items()
            }
        )
        pending = copy.take()
        kernel = {key: value for key, value in self.kernel.items() if key not in pending.gone} | dict(
            pending.put
        )
        assert kernel == self.wanted
        copy.did(pending.put, pending.gone)
        assert not copy.take()


TestTracking = Tracking.TestCase


@given(st.dictionaries(KEYS, VALUES))
def test_what_is_there_already_is_not_written(state: dict[int, int | None]) -> None:
    tracker: DeltaTracker[int, int | None] = DeltaTracker()
    tracker.saw(state)
    for key, value in state.items():
        tracker.want(key, value)
    assert not tracker.take()


@given(st.dictionaries(KEYS, VALUES, min_size=1), st.dictionaries(KEYS, VALUES))
def test_a_whole_reading_forgets_doubts(wanted: dict[int, int | None], actual: dict[int, int | None]) -> None:
    tracker: DeltaTracker[int, int | None] = DeltaTracker()
    for key, value in wanted.items():
        tracker.want(key, value)
    tracker.failed(tracker.take().put)
    tracker.saw(actual)
    pending = tracker.take()
    assert dict(pending.put) == {k: v for k, v in wanted.items() if k not in actual or actual[k] != v}
    assert pending.gone == actual.keys() - wanted.keys()


def test_what_is_taken_is_taken_once() -> None:
    tracker: DeltaTracker[str, int] = DeltaTracker()
    tracker.want("a", 1)
    assert dict(tracker.take().put) == {"a": 1}
    assert not tracker.is_dirty
    assert not tracker.take()
    tracker.failed(["a"])
    tracker.unwant("a")
    assert tracker.take().gone == {"a"}, "what failed may be half there"
