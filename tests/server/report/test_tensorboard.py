"""TensorBoard event files, read back record by record."""

import importlib.util
import itertools
import shutil
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from server.report.tensorboard import EVENTS_FOLDER, write_events
from server.results.document import RESULTS_FILE, read_results
from shared_model.errors import ConfigError
from simulations.commands.app import main


@pytest.fixture
def folder(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "run")


def events_of(folder):
    """A record is its length (uint64), a checksum, the bytes, a checksum (TensorFlow, record_writer.h)."""
    (path,) = folder.glob("events.out.tfevents.*")
    content, position = path.read_bytes(), 0
    while position < len(content):
        (length,) = struct.unpack_from("<Q", content, position)
        yield Event.FromString(content[position + 12 : position + 12 + length])
        position += 12 + length + 4


def scalars_of(folder):
    values = [(value, event) for event in events_of(folder) for value in event.summary.value]
    return {(value.tag, event.step): value.simple_value for value, event in values if value.HasField("simple_value")}


def test_every_round_and_final_figure_is_there(folder, capsys):
    assert main(["server", "events", str(folder)]) == 0
    assert EVENTS_FOLDER in capsys.readouterr().out
    results, scalars = read_results(folder / RESULTS_FILE), scalars_of(folder / EVENTS_FOLDER)
    for entry in results.rounds:
        assert scalars["rounds/auroc", entry.round] == pytest.approx(entry.auroc)
        assert scalars["rounds/epsilon", entry.round] == pytest.approx(entry.epsilon)
    last = results.rounds[-1].round
    assert scalars["final/lesion/auroc", last] == pytest.approx(results.final.auroc)
    assert scalars["final/lesion/auroc/low", last] == pytest.approx(results.final.auroc_interval.low)
    texts = [value.tag for event in events_of(folder / EVENTS_FOLDER) for value in event.summary.value]
    assert {"configuration/text_summary", "privacy/text_summary"} <= set(texts)


def test_rounds_stand_at_the_time_when_they_ended(folder):
    target = write_events(folder)
    times = {e.step: e.wall_time for e in events_of(target) if any(v.tag == "rounds/seconds" for v in e.summary.value)}
    rounds = read_results(folder / RESULTS_FILE).rounds
    ordered = [times[entry.round] for entry in rounds]
    assert [b - a for a, b in itertools.pairwise(ordered)] == pytest.approx(
        [entry.seconds for entry in rounds[1:]], abs=1e-5
    )


def test_a_second_call_replaces_the_first(folder):
    write_events(folder)
    assert len(list(write_events(folder).glob("events.out.tfevents.*"))) == 1


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"Expected a finished run"):
        write_events(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'federated-mammography\[tensorboard\]'"):
        write_events(tmp_path)
