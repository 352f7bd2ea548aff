"""What is timed on a ledger: rounds, and opening it, after no release and after many."""

import pytest

from client.privacy.ledger import Ledger
from client.privacy.ledger_entries import Committed, Reserved
from simulations.benchmarks import ledger_times
from simulations.benchmarks.ledger_times import measure_ledgers


@pytest.fixture
def timed(monkeypatch):
    """Play two rounds and open the ledger, and keep its history."""
    histories = []

    def interleaved(actions, *, num_repeats):
        actions["round"]()
        actions["round"]()
        opened = actions["open"]()
        assert isinstance(opened, Ledger)
        histories.append([entry.content for entry in opened.history().entries])
        return {"round": [0.3, 0.1, 0.2], "open": [0.5, 0.4, 0.6]}

    monkeypatch.setattr(ledger_times, "interleaved", interleaved)
    monkeypatch.setattr(ledger_times, "_MANY_RELEASES", 5)
    return histories


def test_rounds_reserve_and_commit_on_a_young_ledger_and_on_an_old_one(timed):
    young, old = measure_ledgers(12, 3)
    assert (young.num_earlier_releases, old.num_earlier_releases) == (0, 5)
    for times, history in zip((young, old), timed, strict=True):
        releases = [content for content in history if isinstance(content, Reserved)]
        # An old ledger has more to verify: every earlier round is two entries.
        assert len(releases) == times.num_earlier_releases + 2
        assert len([content for content in history if isinstance(content, Committed)]) == len(releases)
        assert {release.num_patients_declared for release in releases} == {12}
        assert len({release.request for release in releases}) == len(releases)


def test_times_are_medians(timed):
    young, _ = measure_ledgers(12, 3)
    assert (young.round_seconds, young.open_seconds, young.target_seconds) == (0.2, 0.5, 0.02)
