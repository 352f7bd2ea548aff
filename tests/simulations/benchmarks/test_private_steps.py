import pytest
import torch

from simulations.benchmarks import private_steps as privacy_benchmark
from simulations.benchmarks.private_steps import interleaved, synthetic_lesions


def test_interleaved_takes_turns_and_drops_the_first(monkeypatch):
    clock, turns = [0.0], []
    monkeypatch.setattr(privacy_benchmark.time, "perf_counter", lambda: clock[0])

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


def test_synthetic_cohort_has_the_size_of_cbis_ddsm_masses():
    lesions = synthetic_lesions(250, shape=(320,), clinical_width=20)
    _, sizes = torch.unique(lesions.patients, return_counts=True)
    assert lesions.num_patients == 250
    assert (int(sizes.min()), int(sizes.max())) == (1, 24)
    assert 1.7 < float(sizes.float().mean()) < 2.3
    assert lesions.images.shape == (len(lesions), 320)
    assert lesions.clinical.shape == (len(lesions), 20)
    again = synthetic_lesions(250, shape=(320,), clinical_width=20)
    assert torch.equal(lesions.images, again.images)
