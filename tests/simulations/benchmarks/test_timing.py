import pytest

from simulations.benchmarks import timing
from simulations.benchmarks.timing import interleaved


def test_interleaved_takes_turns_and_drops_the_first(monkeypatch):
    clock, turns = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def action(name, seconds):
        def run():
            turns.append(name)
            # The first turn is slow.
            clock[0] += seconds if len(turns) > 4 else 100

        return run

    def untimed():
        turns.append("before")
        clock[0] += 1000

    found = interleaved({"a": action("a", 1.0), "b": action("b", 2.0)}, num_repeats=2, before_each=untimed)
    assert turns == ["before", "a", "before", "b"] * 3
    assert found == {"a": [1.0, 1.0], "b": [2.0, 2.0]}


def test_interleaved_needs_a_repeat():
    with pytest.raises(ValueError, match="Expected num_repeats=0 >= 1"):
        interleaved({}, num_repeats=0)
