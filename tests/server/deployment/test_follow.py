"""Following a run by the files in its folder: rounds as they finish, the end, and a run that fails or vanishes."""

import pytest

from server.deployment import follow as follow_module
from server.deployment.control import FlowerRun
from server.deployment.follow import follow
from server.federation.checkpoints import CHECKPOINT_FILE
from server.federation.rounds import federate
from server.report.run_folder import RunFolder
from shared_model.errors import RoundError
from tests.scripted_federation import FakeClock, SiteGrid


class World(FakeClock):
    """A clock that lets something happen while somebody sleeps: one event a sleep, then nothing more."""

    def __init__(self, events=()):
        super().__init__()
        self.events = list(events)
        self.num_sleeps = 0

    def sleep(self, seconds):
        super().sleep(seconds)
        self.num_sleeps += 1
        assert self.num_sleeps < 1000, "nothing ends this run"
        if self.events:
            self.events.pop(0)()


class Shown:
    """A display that keeps the rounds it is given."""

    def __init__(self):
        self.rounds = []

    def on_round(self, result):
        self.rounds.append(result)


@pytest.fixture
def config(federation):
    return federation.config()


def flower_run(run_id, status, details=""):
    return FlowerRun(run_id=run_id, status=status, details=details, submitted="2026-01-01T00:00:00+00:00")


@pytest.fixture
def states(config):
    """The content of the checkpoint after each round, and the folder and training that they lead to."""
    folder, contents = RunFolder.open(config), []

    def keep(finished):
        contents.append((folder.path / CHECKPOINT_FILE).read_bytes())

    training = federate(SiteGrid(), config, on_round=keep)
    (folder.path / CHECKPOINT_FILE).unlink()
    return contents, folder, training


@pytest.fixture
def flower_runs(monkeypatch):
    """What Flower says of its runs; the list may be changed while the run is followed."""
    runs = [flower_run("42", "running")]
    asked = []

    def list_runs(kit):
        asked.append(kit)
        return runs

    monkeypatch.setattr(follow_module, "list_runs", list_runs)
    return runs, asked


def set_world(monkeypatch, *events):
    world = World(events)
    monkeypatch.setattr(follow_module, "time", world)
    return world


def reaches(folder, content):
    """An event: the checkpoint is replaced."""
    return lambda: (folder.path / CHECKPOINT_FILE).write_bytes(content)


def test_rounds_are_shown_as_they_finish_and_each_once(states, config, flower_runs, monkeypatch):
    contents, folder, training = states
    shown, seen = Shown(), []

    def note():
        seen.append([entry.round for entry in shown.rounds])

    set_world(
        monkeypatch,
        reaches(folder, contents[0]),
        note,
        note,
        # Two rounds between two looks.
        reaches(folder, contents[2]),
        note,
        lambda: folder.finish(training),
    )
    results = follow(None, "42", config, shown)
    assert seen == [[1], [1], [1, 2, 3]]
    assert shown.rounds == list(training.rounds) == list(results.rounds)


def test_a_run_that_is_finished_already_shows_all_rounds_at_once(states, config, flower_runs, monkeypatch):
    _, folder, training = states
    results = folder.finish(training)
    world = set_world(monkeypatch)
    shown = Shown()
    assert follow(None, "42", config, shown) == results
    assert shown.rounds == list(training.rounds)
    assert world.num_sleeps == 0


def test_flower_is_asked_rarely(states, config, flower_runs, monkeypatch):
    _, folder, training = states
    _, asked = flower_runs
    world = set_world(monkeypatch, *[lambda: None] * 100, lambda: folder.finish(training))
    started = world.now
    follow("kit", "42", config, Shown())
    assert asked == ["kit"] * len(asked)
    assert 0 < len(asked) <= (world.now - started) / 10


def test_the_checkpoint_of_another_run_is_not_shown(states, config, federation, flower_runs, monkeypatch):
    contents, folder, training = states
    other = federation.config("seed=9")
    shown, seen = Shown(), []
    set_world(
        monkeypatch,
        reaches(folder, contents[2]),
        lambda: seen.append(len(shown.rounds)),
        lambda: folder.finish(training),
    )
    follow(None, "42", other, shown)
    assert seen == [0]


def test_a_run_that_failed_says_why(states, config, flower_runs, monkeypatch):
    _, folder, _ = states
    runs, _ = flower_runs
    folder.fail("Expected at least 2 valid replies in round 3, got 1: refused.")
    runs[0] = flower_run("42", "finished:failed")
    set_world(monkeypatch)
    with pytest.raises(RoundError, match=r"^Expected at least 2 valid replies in round 3, got 1: refused\.$"):
        follow(None, "42", config, Shown())


def test_a_run_that_ended_without_a_word_is_what_flower_says(states, config, flower_runs, monkeypatch):
    runs, _ = flower_runs
    runs[0] = flower_run("42", "finished:stopped")
    set_world(monkeypatch)
    with pytest.raises(RoundError, match=r"Flower says finished:stopped; fedmammo server resume goes on"):
        follow(None, "42", config, Shown())


def test_results_that_come_while_flower_is_asked_are_results(states, config, flower_runs, monkeypatch):
    _, folder, training = states
    set_world(monkeypatch)

    def list_runs(kit):
        folder.finish(training)
        return [flower_run("42", "finished:completed")]

    monkeypatch.setattr(follow_module, "list_runs", list_runs)
    assert follow(None, "42", config, Shown()).rounds == training.rounds


def test_a_run_that_flower_does_not_know_is_an_error(states, config, flower_runs, monkeypatch):
    runs, _ = flower_runs
    runs[0] = flower_run("7", "running")
    set_world(monkeypatch)
    with pytest.raises(RoundError, match="Expected the SuperLink to know the run in "):
        follow(None, "42", config, Shown())


def test_a_superlink_that_is_away_is_said_once_and_the_files_are_followed(
    states, config, flower_runs, monkeypatch, caplog
):
    contents, folder, training = states

    def list_runs(_kit):
        raise RoundError("Expected the SuperLink to list the runs, nothing answers.")

    monkeypatch.setattr(follow_module, "list_runs", list_runs)
    shown = Shown()
    # Long enough for several questions to Flower.
    set_world(monkeypatch, reaches(folder, contents[0]), *[lambda: None] * 100, lambda: folder.finish(training))
    assert follow(None, "42", config, shown).rounds == training.rounds
    assert shown.rounds == list(training.rounds)
    assert caplog.messages == [
        "Expected the SuperLink to list the runs, nothing answers. The run is followed by its files."
    ]


def test_what_flower_says_of_a_failure_is_passed_on(states, config, flower_runs, monkeypatch):
    runs, _ = flower_runs
    runs[0] = flower_run("42", "finished:failed", "Expected the bundle a, got b.")
    set_world(monkeypatch)
    with pytest.raises(RoundError, match=r"Flower says finished:failed: Expected the bundle a, got b\."):
        follow(None, "42", config, Shown())


def test_a_run_without_a_number_is_followed_by_its_files(states, config, flower_runs, monkeypatch):
    _, folder, training = states
    _, asked = flower_runs
    set_world(monkeypatch, *[lambda: None] * 50, lambda: folder.finish(training))
    follow(None, None, config, Shown())
    assert asked == []
