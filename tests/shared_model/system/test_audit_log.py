import json
import os
import stat
import threading
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.errors import ConfigError
from shared_model.system import audit_log as audit_log_module
from shared_model.system.audit_log import AuditLog, head, read, verify
from shared_model.system.hash_chain import FIRST_PREVIOUS

FACTS = st.dictionaries(
    st.from_regex(r"[a-z][a-z_]{0,10}", fullmatch=True),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=200).filter(str.isprintable),
    max_size=4,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "audit.jsonl"


def lines_of(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@settings(max_examples=30)
@given(st.lists(FACTS, min_size=1, max_size=5))
def test_what_is_recorded_stands_there_and_the_chain_holds(tmp_path_factory, entries):
    path = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    for facts in entries:
        # Facts may be called like the arguments of nothing else.
        AuditLog(path).record(
            "asked", **{name: value for name, value in facts.items() if name not in ("event", "self")}
        )
    assert verify(path) == len(entries)
    assert [line["sequence"] for line in lines_of(path)] == list(range(1, len(entries) + 1))
    assert lines_of(path)[0]["previous"] == FIRST_PREVIOUS
    assert head(path) == lines_of(path)[-1]["digest"]


def test_only_the_owner_reads_it(path):
    AuditLog(path).record("started")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("event", "facts"),
    [
        ("Started", {}),
        ("", {}),
        ("started", {"Bytes": 1}),
        ("started", {"number": float("nan")}),
        ("started", {"text": "a\nb"}),
        ("started", {"text": "a" * 201}),
        ("started", {"values": [1]}),
    ],
)
def test_what_is_no_fact(path, event, facts):
    with pytest.raises(ValueError, match="Expected"):
        AuditLog(path).record(event, **facts)
    assert not path.exists() or path.read_bytes() == b""


def record_many(path, by):
    for _ in range(20):
        AuditLog(path).record("made", by=by)


def test_threads_and_processes_lose_nothing(path):
    children = []
    for worker in range(2):
        child = os.fork()
        if child == 0:
            threads = [threading.Thread(target=record_many, args=(path, 10 * worker + number)) for number in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    assert verify(path) == 80
    found = [line["facts"]["by"] for line in lines_of(path)]
    assert {by: found.count(by) for by in found} == {0: 20, 1: 20, 10: 20, 11: 20}


@pytest.mark.parametrize(
    "tamper",
    [
        lambda lines: [lines[0], lines[1].replace(b'"n": 1', b'"n": 7'), *lines[2:]],
        lambda lines: [lines[0], *lines[2:]],
        lambda lines: lines[1:],
        lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
        lambda lines: [*lines[:2], lines[1], *lines[2:]],
        lambda lines: [*lines[:2], b"{}", *lines[2:]],
        lambda lines: [*lines[:2], b"no json", *lines[2:]],
        lambda lines: [*lines[:2], lines[2][:50], *lines[3:]],
    ],
    ids=["edit", "delete", "delete the first", "reorder", "repeat", "insert", "insert noise", "cut a line"],
)
def test_changes_are_noticed(path, tamper):
    for number in range(5):
        AuditLog(path).record("made", n=number)
    path.write_bytes(b"\n".join(tamper(path.read_bytes().splitlines())) + b"\n")
    with pytest.raises(ConfigError, match="Expected line"):
        verify(path)


@pytest.mark.parametrize("torn", [b"{", b'{"sequence": 3, "time": "2026', b"\x00" * 5000])
def test_a_torn_line_is_set_aside_and_said(path, torn):
    for number in range(2):
        AuditLog(path).record("made", n=number)
    with path.open("ab") as file:
        file.write(torn)
    AuditLog(path).record("made", n=2)
    assert verify(path) == 4
    assert [line["event"] for line in lines_of(path)] == ["made", "made", "torn", "made"]
    moved = path.with_name(lines_of(path)[2]["facts"]["moved_to"])
    assert moved.read_bytes() == torn


def test_a_file_that_is_no_log_is_not_added_to(path):
    path.parent.mkdir()
    path.write_bytes(b"notes\n")
    with pytest.raises(ConfigError, match="Expected line the last"):
        AuditLog(path).record("made")
    assert path.read_bytes() == b"notes\n"


def test_no_log(path):
    with pytest.raises(ConfigError, match="Expected an audit log in"):
        verify(path)


def test_cost_does_not_grow_with_the_log(path, monkeypatch):
    """A record reads and parses as much after 300 lines as after 50: the end of the file."""
    work, pread, loads = {"bytes read": 0, "lines parsed": 0}, os.pread, json.loads

    def counting_pread(file, size, start):
        content = pread(file, size, start)
        work["bytes read"] += len(content)
        return content

    def counting_loads(text):
        work["lines parsed"] += 1
        return loads(text)

    def no_other_read(*_):
        raise AssertionError("the log was read otherwise than by os.pread")

    log, spent = AuditLog(path), []
    monkeypatch.setattr(os, "pread", counting_pread)
    monkeypatch.setattr(json, "loads", counting_loads)
    for other in (os, "read"), (Path, "read_bytes"), (Path, "read_text"):
        monkeypatch.setattr(*other, no_other_read)
    for number in range(300):
        before = dict(work)
        log.record("made", n=number)
        spent.append({name: work[name] - before[name] for name in work})
    assert spent[50] == spent[299]
    assert spent[299]["bytes read"] <= 2 * 4096
    assert spent[299]["lines parsed"] == 1
    assert path.stat().st_size > 10 * 4096


def test_a_number_that_is_a_truth_value_is_no_line(path):
    AuditLog(path).record("made")
    path.write_bytes(path.read_bytes().replace(b'"sequence": 1', b'"sequence": true'))
    with pytest.raises(ConfigError, match="Expected line 1 of"):
        verify(path)


def test_a_log_of_an_earlier_version_verifies_and_is_written_the_same(path, monkeypatch):
    """The file was written by the code before ``hash_chain`` existed."""
    earlier = Path(__file__).with_name("audit_log_format_1.jsonl")
    assert verify(earlier) == 3
    times = iter(line["time"] for line in lines_of(earlier))

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.fromisoformat(next(times))

    monkeypatch.setattr(audit_log_module, "datetime", Clock)
    for line in lines_of(earlier):
        AuditLog(path).record(line["event"], **line["facts"])
    assert path.read_bytes() == earlier.read_bytes()


def test_a_log_of_an_earlier_version_goes_on(path):
    earlier = Path(__file__).with_name("audit_log_format_1.jsonl").read_bytes()
    path.parent.mkdir()
    path.write_bytes(earlier)
    AuditLog(path).record("made")
    assert verify(path) == 4
    assert path.read_bytes().startswith(earlier)


def test_lines_are_read_as_they_were_recorded(path):
    assert read(path) == ()
    for number in range(3):
        AuditLog(path).record("made", n=number, text="x", share=0.5, nothing=None)
    lines = read(path)
    assert [(line.sequence, line.event) for line in lines] == [(1, "made"), (2, "made"), (3, "made")]
    assert [dict(line.facts) for line in lines] == [
        {"n": number, "text": "x", "share": 0.5, "nothing": None} for number in range(3)
    ]
    assert all(line.time.tzinfo is not None for line in lines)
    assert [line.time.isoformat(timespec="milliseconds") for line in lines] == [line["time"] for line in lines_of(path)]


def test_a_log_that_was_changed_is_not_read(path):
    AuditLog(path).record("made", n=1)
    path.write_bytes(path.read_bytes().replace(b'"n": 1', b'"n": 2'))
    with pytest.raises(ConfigError, match=r"Expected line 1 of .* as it was written"):
        read(path)
