"""The order of the tests: by what was measured, else by the number of slow tests."""

import json
from types import SimpleNamespace

import pytest

from tests import conftest

ROOT = conftest.DURATIONS.parents[1]


def item(name, is_slow=False):
    mark = pytest.mark.slow if is_slow else None
    return SimpleNamespace(path=ROOT / name, nodeid=f"{name}::test", get_closest_marker=lambda _name: mark)


def order(items):
    conftest.pytest_collection_modifyitems(items)
    return [conftest.name_of(each.nodeid) for each in items]


def test_the_longest_files_come_first_and_keep_their_tests_together(tmp_path, monkeypatch):
    monkeypatch.setattr(conftest, "DURATIONS", tmp_path / "durations.json")
    conftest.DURATIONS.write_text('{"b": 7, "c": 100}')
    items = [item("a"), item("new", is_slow=True), item("b", is_slow=True), item("b", is_slow=True), item("c")]
    # A new file with a slow test is reckoned with 5 seconds, whatever else is in it with none.
    assert order(items) == ["c", "b", "b", "new", "a"]


def test_what_was_measured_is_there_and_the_longest_first():
    seconds = json.loads(conftest.DURATIONS.read_text())
    assert list(seconds.values()) == sorted(seconds.values(), reverse=True)
    assert not [name for name in seconds if not (ROOT / name).is_file()]


def test_durations_are_added_up_by_file(tmp_path, monkeypatch):
    monkeypatch.setattr(conftest, "DURATIONS", tmp_path / "durations.json")
    durations = conftest.Durations()
    for nodeid, seconds in (("a.py::one", 0.25), ("b.py::one", 3.5), ("a.py::two", 0.5), ("c.py::one", 1.25)):
        durations.pytest_runtest_logreport(SimpleNamespace(nodeid=nodeid, duration=seconds))
    durations.pytest_sessionfinish()
    assert conftest.DURATIONS.read_text() == '{\n  "b.py": 4,\n  "c.py": 1\n}\n'
