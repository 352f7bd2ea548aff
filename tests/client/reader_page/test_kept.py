"""What the page keeps: readings with what came after them, for the owner alone, in one file that survives a restart."""

import dataclasses
import json
import sqlite3
from contextlib import closing

import pytest

from client.reader_page.kept import Found, KeptReadings, Known, Verdict
from client.reading.request import LesionRequest
from client.reading.result import to_result
from shared_model.errors import ConfigError


@pytest.fixture(scope="module")
def reading(room):
    return room.reader.read(LesionRequest(pictures=()))


def test_a_restart_finds_key_and_readings(tmp_path, reading):
    first = KeptReadings(tmp_path / "kept.sqlite")
    first.add(reading, study="s", patient="p", user="ada")
    first.add_opinion(reading.reading_id, Verdict.AGREE, "first", user="ada")
    first.add_opinion(reading.reading_id, Verdict.DISAGREE, "second", user="grace")
    first.add_pathology(reading.reading_id, Known.BENIGN, user="ada")
    first.add_pathology(reading.reading_id, Known.MALIGNANT, user="grace")
    second = KeptReadings(tmp_path / "kept.sqlite")
    kept = second.get(reading.reading_id)
    assert second.key == first.key
    assert (kept.reading, kept.study, kept.patient, kept.user) == (reading, "s", "p", "ada")
    assert [(each.user, each.verdict, each.why) for each in kept.opinions] == [
        ("ada", "agree", "first"),
        ("grace", "disagree", "second"),
    ]
    assert (kept.pathology, kept.pathology_user) == (Known.MALIGNANT, "grace")
    assert second.counts() == {"s": 1}
    assert second.of_patient("p") == Found(readings=(kept,), num_not_shown=0)
    assert second.of_patient("q") == Found(readings=(), num_not_shown=0)
    assert second.with_outcome(10).readings == (kept,)


def test_the_table_has_the_last_opinion_of_every_reading(tmp_path, reading):
    kept = KeptReadings(tmp_path / "kept.sqlite")
    kept.add(reading, study="s", patient="p", user="@ada")
    kept.add_opinion(reading.reading_id, Verdict.AGREE, "+1", user="ada")
    header, line = kept.to_csv().decode().splitlines()
    cells = dict(zip(header.split(","), line.split(","), strict=True))
    assert (cells["outcome"], cells["probability"], cells["why"], cells["user"]) == ("refused", "", "+1", "'@ada")


def test_a_file_that_others_may_read_or_that_lies_elsewhere_is_not_used(tmp_path):
    path, link = tmp_path / "kept.sqlite", tmp_path / "link.sqlite"
    KeptReadings(path)
    assert path.stat().st_mode & 0o777 == 0o600
    link.symlink_to(path)
    with pytest.raises(ConfigError, match="Expected a file of its own"):
        KeptReadings(link)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        KeptReadings(path)
    link.unlink()
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="Expected a file of its own"):
        KeptReadings(link)


def test_an_opinion_of_no_reading_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="Expected the kept readings in"):
        KeptReadings(tmp_path / "kept.sqlite").add_opinion("0" * 32, Verdict.AGREE, "", user="ada")


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "kept.sqlite").write_bytes(b"no database" * 100)
    (tmp_path / "kept.sqlite").chmod(0o600)
    with pytest.raises(ConfigError, match=r"Expected the kept readings in .*kept\.sqlite"):
        KeptReadings(tmp_path / "kept.sqlite")


def test_a_reading_of_the_first_schema_version_has_the_time_at_which_it_was_kept(tmp_path, reading):
    path = tmp_path / "kept.sqlite"
    kept = KeptReadings(path)
    kept.add(reading, study="s", patient="p", user="ada")
    with closing(sqlite3.connect(path)) as connection, connection:
        values = json.loads(connection.execute("SELECT content FROM readings").fetchone()[0])
        del values["read_at"]
        content = json.dumps(values | {"schema_version": 1})
        connection.execute("UPDATE readings SET content = ?, time = '2026-01-05T09:00:00+00:00'", (content,))
    found = kept.get(reading.reading_id)
    assert found.reading.read_at == found.time == "2026-01-05T09:00:00+00:00"
    assert found.reading.reading_id == reading.reading_id


def rewritten(path, content, reading_id=None):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE readings SET content = ?", (content,))
        if reading_id is not None:
            connection.execute("UPDATE readings SET reading_id = ?", (reading_id,))
    connection.close()


@pytest.mark.parametrize("version", [1, 2])
def test_what_an_earlier_version_kept_is_shown(tmp_path, reading, version):
    kept = KeptReadings(tmp_path / "kept.sqlite")
    kept.add(reading, study="s", patient="p", user="ada")
    values = json.loads(to_result(reading)) | {"schema_version": version}
    for view in values["views"]:
        del view["grey_levels"], view["map"]
    if values["answer"] is not None:
        del values["answer"]["local"]
    if version == 1:
        del values["read_at"]
    rewritten(tmp_path / "kept.sqlite", json.dumps(values))
    assert kept.of_patient("p").num_not_shown == 0
    found = kept.get(reading.reading_id)
    unread = [dataclasses.replace(view, grey_levels=None, map=None) for view in reading.views]
    assert found.reading == dataclasses.replace(reading, read_at=found.reading.read_at, views=tuple(unread))
    assert found.reading.read_at == (found.time if version == 1 else reading.read_at)


@pytest.mark.parametrize(
    "content", ['{"schema_version": 99}', "{}", "[]", "no JSON", "[" * 9000, '{"schema_version": 3}']
)
def test_what_another_version_kept_is_counted_and_stops_nothing(tmp_path, reading, content):
    kept = KeptReadings(tmp_path / "kept.sqlite")
    kept.add(reading, study="s", patient="p", user="ada")
    rewritten(tmp_path / "kept.sqlite", content)
    assert kept.of_patient("p") == kept.newest(9) == Found(readings=(), num_not_shown=1)
    assert kept.get(reading.reading_id) is None
    assert "1 written by another version of this program, or damaged; not shown" in kept.to_csv().decode()


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "yesterday"])
def test_a_reading_of_a_time_that_no_page_can_show_is_not_shown(tmp_path, reading, time):
    kept = KeptReadings(tmp_path / "kept.sqlite")
    kept.add(reading, study="s", patient="p", user="ada")
    with closing(sqlite3.connect(tmp_path / "kept.sqlite")) as connection, connection:
        connection.execute("UPDATE readings SET time = ?", (time,))
    assert kept.of_patient("p") == Found(readings=(), num_not_shown=1)


@pytest.mark.parametrize("table", ["opinions", "outcomes"])
def test_what_came_after_a_reading_is_found_without_a_look_at_all_others(tmp_path, table):
    KeptReadings(tmp_path / "kept.sqlite")
    with closing(sqlite3.connect(tmp_path / "kept.sqlite")) as connection:
        query = f"EXPLAIN QUERY PLAN SELECT * FROM {table} WHERE reading_id = '0'"  # noqa: S608, our own words
        assert all("USING INDEX" in row[3] for row in connection.execute(query))


def test_a_reading_under_another_identifier_or_with_an_unknown_verdict_is_not_shown(tmp_path, reading):
    kept = KeptReadings(tmp_path / "kept.sqlite")
    kept.add(reading, study="s", patient="p", user="ada")
    rewritten(tmp_path / "kept.sqlite", to_result(reading), reading_id="0" * 32)
    assert kept.newest(9).num_not_shown == 1
    rewritten(tmp_path / "kept.sqlite", to_result(reading), reading_id=reading.reading_id)
    kept.add_opinion(reading.reading_id, Verdict.AGREE, "", user="ada")
    assert kept.newest(9).num_not_shown == 0
    with sqlite3.connect(tmp_path / "kept.sqlite") as connection:
        connection.execute("UPDATE opinions SET verdict = 'perhaps'")
    connection.close()
    assert kept.newest(9).num_not_shown == 1
