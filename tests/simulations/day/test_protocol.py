"""The page that a day leaves behind, and that a day with one wrong step is a wrong day."""

import io

import pytest
from rich.console import Console

from shared_model.errors import ConfigError
from simulations.day import play as day
from simulations.day.protocol import Protocol


@pytest.fixture
def protocol(tmp_path):
    made = Protocol(path=tmp_path / "protocol.md", console=Console(file=io.StringIO()))
    made.begin("A day", "Nothing is real.")
    return made


def test_every_step_is_written_as_it_happens(protocol):
    protocol.step("She reads", expected="a reading", seen="72 %", is_met=True)
    assert protocol.path.read_text().splitlines()[-3:] == [
        "1. She reads", "   - expected: a reading", "   - seen: 72 %: as expected",
    ]  # fmt: skip
    assert protocol.end()
    assert "1 steps, all as expected." in protocol.path.read_text()


def test_one_wrong_step_makes_the_day_wrong(protocol):
    protocol.step("She reads", expected="a reading", seen="72 %", is_met=True)
    protocol.step("She sends", expected="found", seen="nothing", is_met=False)
    assert not protocol.end()
    assert "2 steps, 1 not as expected: She sends." in protocol.path.read_text()


def test_a_day_on_which_nothing_happened_is_wrong(protocol):
    assert not protocol.end()


def test_nothing_of_an_earlier_day_stays(protocol):
    protocol.step("Earlier", expected="", seen="", is_met=True)
    protocol.begin("Another day")
    assert "Earlier" not in protocol.path.read_text()


def test_a_day_that_breaks_off_says_why_and_is_wrong(tmp_path, monkeypatch):
    def broken(_folder):
        raise ConfigError("Expected a kit, got none.")

    monkeypatch.setattr(day.loopback, "is_alone", lambda: True)
    monkeypatch.setattr(day, "site_in", broken)
    assert not day.play(tmp_path / "day", Console(file=io.StringIO()))
    assert "seen: Expected a kit, got none.: **not as expected**" in (tmp_path / "day" / day.PROTOCOL).read_text()


def test_nobody_plays_where_others_would_reach_the_pacs(tmp_path, monkeypatch):
    monkeypatch.setattr(day.loopback, "is_alone", lambda: False)
    with pytest.raises(ConfigError, match="loopback alone"):
        day.play(tmp_path / "day", Console(file=io.StringIO()))
    assert not (tmp_path / "day").exists()


@pytest.mark.parametrize("name", ["notes.txt", day.PROTOCOL])
def test_a_folder_of_something_else_is_left_alone(tmp_path, monkeypatch, name):
    """A run that was killed is removed before it is trained again, and a day of other films has another release."""
    monkeypatch.setattr(day.loopback, "is_alone", lambda: True)
    (tmp_path / "run").mkdir()
    (tmp_path / name).write_text("# A day with four real films of CBIS-DDSM\n")
    with pytest.raises(ConfigError, match="new, empty, or of an earlier day"):
        day.play(tmp_path, Console(file=io.StringIO()))
    assert {path.name for path in tmp_path.iterdir()} == {"run", name}
