"""The written form of a ledger: what was written once is read, and written, the same for ever."""

import dataclasses
import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.privacy.ledger import Ledger
from client.privacy.ledger_database import read_history
from client.privacy.ledger_entries import (
    FORMAT,
    CohortAdded,
    Committed,
    Forgotten,
    Opened,
    Purpose,
    Reserved,
    Retired,
    Row,
    Unprotected,
    read_entries,
    to_row,
)
from client.privacy.ledger_history import Limits
from client.privacy.ledger_reservation import StoredReply
from shared_model.config.choices import NoiseSource
from shared_model.errors import LedgerError
from shared_model.privacy.mechanism import Mechanism
from shared_model.system.hash_chain import FIRST_PREVIOUS

EARLIER = Path(__file__).with_name("ledger_format_2.sql")
"""SQLite's dump of a ledger of today's format, of which one reservation was never committed."""
FOREIGN = Path(__file__).with_name("ledger_format_1.sql")
"""The same of a ledger that knew patients by the spelling of their identifiers."""
EARLIER_KEY = bytes(range(32))
EARLIER_HEAD = "aa4ea5e1e8a91542e58cf86d15f5f7f7f5938c32d559950a3c4d9b04d42732be"
FOREIGN_HEAD = "31ee670b86f9f2b957b2cd9bc8d01d1af51eca3cafdfc3e5ce2814db3505d585"
TIME = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


@st.composite
def reserved(draw):
    """A release, with or without secure sums."""
    mechanism = Mechanism(
        noise_multiplier=draw(st.floats(0.1, 100)),
        sampling_rate=draw(st.floats(0.01, 1)),
        num_steps=draw(st.integers(1, 1000)),
    )
    shares = st.floats(0.1, mechanism.noise_multiplier).map(
        lambda noise: dataclasses.replace(mechanism, noise_multiplier=noise)
    )
    return Reserved(
        purpose=draw(st.sampled_from(Purpose)),
        run=draw(st.text()),
        server_round=draw(st.integers(1, 1000)),
        request=draw(st.text()),
        cohort=draw(st.text()),
        num_patients_declared=draw(st.integers(0, 10**6)),
        mechanism=mechanism,
        delta=draw(st.floats(1e-9, 0.1)),
        target_epsilon=draw(st.floats(0.1, 100)),
        max_grad_norm=draw(st.floats(0.01, 100)),
        noise=draw(st.sampled_from(NoiseSource)),
        own_share=draw(st.none() | shares),
    )


CONTENTS = st.one_of(
    st.builds(CohortAdded, cohort=st.text(), num_patients=st.integers(0, 10**6)),
    st.builds(Committed, reservation=st.integers(1, 10**6), reply=st.text()),
    st.builds(Forgotten, patient=st.text()),
    st.builds(Retired, successor=st.text()),
    st.builds(
        Unprotected,
        purpose=st.sampled_from(Purpose),
        run=st.text(),
        cohort=st.text(),
        num_patients_declared=st.integers(0, 10**6),
    ),
    reserved(),
)


def opened(**changes):
    return dataclasses.replace(Opened(ledger="name", key_check="check", format=FORMAT), **changes)


def rows_of(*contents):
    rows, previous = [], FIRST_PREVIOUS
    for number, content in enumerate(contents, start=1):
        rows.append(to_row(content, sequence=number, time=TIME, previous=previous))
        previous = rows[-1].digest
    return rows


def with_digest(row):
    """A row that its writer wanted so."""
    return dataclasses.replace(row, digest=row.computed_digest())


def restored(path, dump, *, sequence, head):
    """Make the ledger of a dump at ``path``."""
    connection = sqlite3.connect(path)
    connection.executescript(dump.read_text())
    connection.close()
    path.with_name(f"{path.name}.key").write_bytes(EARLIER_KEY)
    path.with_name(f"{path.name}.head").write_text(json.dumps({"sequence": sequence, "digest": head}))
    return path


@pytest.fixture
def earlier(tmp_path):
    return restored(tmp_path / "ledger.sqlite", EARLIER, sequence=9, head=EARLIER_HEAD)


def stored_rows(path):
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT * FROM entries ORDER BY sequence").fetchall()
    finally:
        connection.close()


class TestEarlierLedger:
    def test_it_verifies(self, earlier):
        history = read_history(earlier)
        assert history.head.digest == EARLIER_HEAD
        assert len(history.entries) == 9
        assert {len(members) for members in history.members.values()} == {1, 2}
        assert history.forgotten < history.known

    def test_its_entries_would_be_written_the_same(self, earlier):
        rows = stored_rows(earlier)
        previous = FIRST_PREVIOUS
        for entry, row in zip(read_history(earlier).entries, rows, strict=True):
            written = to_row(entry.content, sequence=entry.sequence, time=entry.time, previous=previous)
            assert dataclasses.astuple(written) == row
            previous = written.digest

    def test_it_goes_on(self, earlier):
        before = stored_rows(earlier)
        ledger = Ledger(earlier)
        cohort = ledger.cohort(["P_1", "P_2"])
        first, crashed = (read_history(earlier).entries[number].content for number in (2, 5))
        assert cohort.fingerprint == first.cohort
        limits = Limits(max_epsilon=None, max_delta=1e-4)

        def reserve(release):
            return ledger.reserve(release, cohort, limits, reply_bytes=100)

        assert reserve(first) == StoredReply(content=b"\x00first reply")
        again = reserve(crashed)
        assert again.noise_key.hex().startswith("ae3fea79")
        assert again.witness.startswith("35a91d84")
        # The patient who was forgotten since takes part no longer.
        assert again.members == {ledger.pseudonym("p_0002")}
        reserve(dataclasses.replace(first, request="new"))
        assert stored_rows(earlier)[:-1] == before

    def test_its_spellings_are_remembered(self, earlier):
        assert Ledger(earlier).recognise(["P_1", "P_2", "P_3", "P_9"]).num_respelt == 1

    def test_an_older_format_is_refused_in_one_line(self, tmp_path):
        path = restored(tmp_path / "old.sqlite", FOREIGN, sequence=10, head=FOREIGN_HEAD)
        for open_it in (Ledger, read_history):
            with pytest.raises(LedgerError, match=r"format=1 == 2\. Install the version that began it") as caught:
                open_it(path)
            assert "\n" not in str(caught.value)


class TestRows:
    @given(st.lists(CONTENTS, max_size=4))
    def test_what_is_written_is_read(self, contents):
        rows = rows_of(opened(), *contents)
        entries = read_entries(rows)
        assert [entry.content for entry in entries] == [opened(), *contents]
        assert [entry.sequence for entry in entries] == list(range(1, len(rows) + 1))
        assert {entry.time for entry in entries} == {TIME}
        assert [entry.digest for entry in entries] == [row.digest for row in rows]

    def test_a_share_stands_in_the_body_only_where_there_is_one(self):
        step = Mechanism(noise_multiplier=2.0, sampling_rate=1.0, num_steps=1)
        share = dataclasses.replace(step, noise_multiplier=1.0)
        plain = Reserved(
            purpose=Purpose.TRAINING, run="run", server_round=1, request="request", cohort="", num_patients_declared=1,
            mechanism=step, delta=1e-4, target_epsilon=8.0, max_grad_norm=1.0, noise=NoiseSource.SECURE,
        )  # fmt: skip
        bodies = [json.loads(row.body) for row in rows_of(plain, dataclasses.replace(plain, own_share=share))]
        assert "own_share" not in bodies[0]
        assert bodies[1] == bodies[0] | {"own_share": dataclasses.asdict(share)}
        assert (plain.alone, dataclasses.replace(plain, own_share=share).alone) == (step, share)

    @pytest.mark.parametrize("change", [{"num_steps": 2}, {"sampling_rate": 0.5}, {"noise_multiplier": 2.001}])
    def test_a_share_is_of_the_same_steps_with_no_more_noise(self, change):
        whole = {"noise_multiplier": 2.0, "sampling_rate": 1.0, "num_steps": 1}
        body = {
            "purpose": "training", "run": "run", "server_round": 1, "request": "request", "cohort": "",
            "num_patients_declared": 1, "mechanism": whole, "delta": 1e-4, "target_epsilon": 8.0,
            "max_grad_norm": 1.0, "noise": "secure", "own_share": whole | change,
        }  # fmt: skip
        rows = rows_of(opened(), CohortAdded(cohort="", num_patients=0))
        rows[1] = with_digest(dataclasses.replace(rows[1], kind="reserved", body=json.dumps(body, sort_keys=True)))
        with pytest.raises(LedgerError, match=r"Expected ledger entry 2 to be readable: .*no more noise"):
            read_entries(rows)

    def test_nothing_is_no_entries(self):
        assert read_entries([]) == ()

    def test_the_first_entry_opens(self):
        with pytest.raises(LedgerError, match="Expected ledger entry 1 to open the ledger"):
            read_entries(rows_of(Committed(reservation=1, reply="")))

    @pytest.mark.parametrize(
        "change", [{"time": "2020-01-01T00:00:00.000+00:00"}, {"body": "{}"}, {"kind": "opened"}, {"digest": "0" * 64}]
    )
    def test_an_edited_row(self, change):
        rows = rows_of(opened(), CohortAdded(cohort="a", num_patients=1), Committed(reservation=1, reply=""))
        rows[1] = dataclasses.replace(rows[1], **change)
        with pytest.raises(LedgerError, match="Expected ledger entry 2 as it was written: it was changed afterwards"):
            read_entries(rows)

    def test_a_missing_row(self):
        rows = rows_of(opened(), CohortAdded(cohort="a", num_patients=1), Committed(reservation=1, reply=""))
        with pytest.raises(LedgerError, match="Expected ledger entry 2, found entry 3: entries are missing"):
            read_entries([rows[0], rows[2]])

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"kind": "paid"}, "of a known kind, got 'paid'"),
            ({"body": "no json"}, "to be readable"),
            ({"body": '{"cohort": "a"}'}, "to be readable"),
            ({"body": '{"cohort": "a", "num_patients": 1, "more": 1}'}, "to be readable"),
            ({"body": '{"cohort": "a", "num_patients": "1"}'}, "to be readable"),
            ({"time": "yesterday"}, "to be readable"),
        ],
    )
    def test_a_row_that_says_nothing_known(self, change, reason):
        rows = rows_of(opened(), CohortAdded(cohort="a", num_patients=1))
        rows[1] = with_digest(dataclasses.replace(rows[1], **change))
        with pytest.raises(LedgerError, match=f"Expected ledger entry 2 {reason}"):
            read_entries(rows)

    def test_another_format(self):
        with pytest.raises(LedgerError, match=r"Expected a ledger of format=3 == 2\."):
            read_entries(rows_of(opened(format=3)))

    def test_the_body_is_json_with_sorted_keys(self):
        row = to_row(CohortAdded(cohort="a", num_patients=1), sequence=2, time=TIME, previous="p")
        assert row == Row(
            sequence=2,
            time="2026-01-02T03:04:05.678+00:00",
            kind="cohort",
            body='{"cohort": "a", "num_patients": 1}',
            previous="p",
            digest=row.computed_digest(),
        )
