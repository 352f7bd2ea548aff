"""The ledger on a real disk: what it grants, what it refuses, what it notices, and what survives kill -9."""

import dataclasses
import hashlib
import os
import shutil
import sqlite3
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.privacy import ledger_database, ledger_files, ledger_store, pseudonyms
from client.privacy.ledger import Ledger
from client.privacy.ledger_database import read_history
from client.privacy.ledger_entries import Committed, Forgotten, Purpose, Reserved, Unprotected
from client.privacy.ledger_history import Limits, composed_epsilon
from client.privacy.ledger_reservation import Reservation, StoredReply
from client.privacy.pseudonyms import PSEUDONYM_BYTES
from shared_model.config.choices import NoiseSource
from shared_model.errors import BudgetError, LedgerError, ProtocolError
from shared_model.privacy.mechanism import Mechanism

PATIENTS = [f"ZQXCANARYQXZ-{number}" for number in range(30)]
NO_LIMIT = Limits(max_epsilon=None, max_delta=1e-4)
PARTS = [slice(0, 30), slice(0, 15), slice(15, 30), slice(10, 20)]
STEP = Mechanism(noise_multiplier=2.431, sampling_rate=1.0, num_steps=1)


def release_of(cohort, *, request="request", run="run", target_epsilon=8.0, mechanism=STEP, purpose=Purpose.TRAINING):
    return Reserved(
        purpose=purpose,
        run=run,
        server_round=1,
        request=request,
        cohort=cohort.fingerprint,
        num_patients_declared=30,
        mechanism=mechanism,
        delta=1e-4,
        target_epsilon=target_epsilon,
        max_grad_norm=0.5,
        noise=NoiseSource.SECURE,
    )


def reserve(ledger, request, *, patients=PATIENTS, limits=NO_LIMIT, **release):
    cohort = ledger.cohort(patients)
    return ledger.reserve(release_of(cohort, request=request, **release), cohort, limits, reply_bytes=100)


def answer(ledger, request, *, reply=None, **asked):
    granted = reserve(ledger, request, **asked)
    if isinstance(granted, Reservation):
        ledger.commit(granted, reply or request.encode())
    return granted


def reserved(history):
    return [entry.content for entry in history.entries if isinstance(entry.content, Reserved)]


def bytes_on_disk(path):
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


@pytest.fixture
def new_path(tmp_path):
    """Where no ledger is yet."""
    return tmp_path / "site" / "ledger.sqlite"


@pytest.fixture
def path(new_path):
    Ledger.create(new_path)
    return new_path


class TestCreation:
    def test_opening_never_creates(self, new_path):
        with pytest.raises(LedgerError, match=r"Expected a ledger at .* never took part begins one: fedmammo"):
            Ledger(new_path)
        assert not new_path.parent.exists()

    def test_a_ledger_is_created_once(self, path):
        name = Ledger(path).name
        with pytest.raises(LedgerError, match="a second one would forget what the first spent"):
            Ledger.create(path)
        assert Ledger(path).name == name

    def test_ledgers_have_names_and_secrets_of_their_own(self, tmp_path):
        ledgers = [Ledger.create(tmp_path / name) for name in "ab"]
        assert len({ledger.name for ledger in ledgers}) == len({ledger.role_secret for ledger in ledgers}) == 2
        assert Ledger(tmp_path / "a").role_secret == ledgers[0].role_secret

    @pytest.mark.parametrize("beside", [".key", ".head"])
    def test_where_a_ledger_was_lost_none_is_created(self, path, beside):
        for file in path.parent.iterdir():
            if file.name != path.name + beside:
                file.unlink()
        with pytest.raises(LedgerError, match="it is lost; get it back"):
            Ledger.create(path)


class TestGrants:
    def test_twenty_rounds_cost_what_twenty_steps_cost(self, path):
        ledger = Ledger(path)
        granted = [answer(ledger, f"round {number}") for number in range(20)]
        assert [g.epsilon for g in granted] == sorted(g.epsilon for g in granted)
        whole = Mechanism(noise_multiplier=2.431, sampling_rate=1.0, num_steps=20)
        history = read_history(path)
        assert granted[-1].epsilon == pytest.approx(
            composed_epsilon([release_of(ledger.cohort([]), mechanism=whole)], 1e-4)
        )
        assert len(reserved(history)) == 20
        assert sum(isinstance(entry.content, Committed) for entry in history.entries) == 20

    def test_run_promise_holds_whatever_rounds_are_asked(self, path):
        ledger = Ledger(path)
        for number in range(20):
            answer(ledger, f"any {number}")
        with pytest.raises(BudgetError, match=r"promise of epsilon 8: it would reach 8\.\d+"):
            answer(ledger, "one more")
        assert len(reserved(ledger.history())) == 20

    def test_cap_holds_over_runs_and_restarts_and_says_what_is_left(self, path):
        limits = Limits(max_epsilon=4.0, max_delta=1e-4)
        for month in range(6):
            answer(Ledger(path), f"request {month}", run=f"month {month}", limits=limits)
        with pytest.raises(
            BudgetError,
            match=r"Expected epsilon 4\.\d+ <= 4 .* for training this site has spent 3\.\d+, 0\.\d+ is left",
        ):
            answer(Ledger(path), "one more", run="month 6", limits=limits)
        assert 3.5 < composed_epsilon(reserved(read_history(path)), 1e-4) <= 4.0
        assert len(reserved(read_history(path))) == 6

    def test_the_same_request_gets_the_same_bytes_for_nothing(self, path):
        first = answer(Ledger(path), "again", reply=b"\x00update")
        assert isinstance(first, Reservation)
        for _ in range(3):
            second = answer(Ledger(path), "again", reply=b"other noise")
            assert second == StoredReply(content=b"\x00update")
        assert len(reserved(read_history(path))) == 1

    def test_a_crash_counts_as_spent_and_the_same_request_costs_no_more(self, path):
        before = reserve(Ledger(path), "request")
        # Whatever was asked since, by whomever.
        answer(Ledger(path), "another", patients=["a", "b"], run="another")
        after = reserve(Ledger(path), "request", patients=[*PATIENTS, "new"])
        assert after == before
        assert len(reserved(read_history(path))) == 2
        Ledger(path).commit(after, b"reply")
        assert reserve(Ledger(path), "request") == StoredReply(content=b"reply")

    def test_nobody_is_a_cohort_after_a_restart_too(self, path):
        """A site without patients answers like any other, also when it is asked again."""
        pending = reserve(Ledger(path), "request", patients=[])
        assert pending.members == frozenset()
        assert reserve(Ledger(path), "request", patients=[]) == pending
        Ledger(path).commit(pending, b"noise")
        assert reserve(Ledger(path), "request", patients=PATIENTS) == StoredReply(content=b"noise")
        assert list(read_history(path).members.values()) == [frozenset()]

    def test_what_never_came_back_is_spent(self, path):
        alone = reserve(Ledger(path), "first").epsilon
        assert reserve(Ledger(path), "second").epsilon > alone
        assert len(reserved(read_history(path))) == 2

    def test_one_request_is_two_if_it_trains_and_evaluates(self, path):
        trained = answer(Ledger(path), "request", reply=b"update")
        evaluated = answer(Ledger(path), "request", reply=b"histogram", purpose=Purpose.EVALUATION)
        assert isinstance(evaluated, Reservation)
        assert evaluated.noise_key != trained.noise_key
        assert reserve(Ledger(path), "request").content == b"update"

    def test_noise_keys_are_new_for_every_release(self, path):
        keys = [reserve(Ledger(path), str(number)).noise_key for number in range(5)]
        assert len(set(keys)) == 5
        assert {len(key) for key in keys} == {32}

    def test_witnesses_are_a_chain_and_hide_the_ledger(self, path):
        granted = [reserve(Ledger(path), str(number)) for number in range(3)]
        assert [g.previous_witness for g in granted] == ["", granted[0].witness, granted[1].witness]
        assert reserve(Ledger(path), "1").previous_witness == granted[0].witness
        digests = {entry.digest for entry in read_history(path).entries}
        assert digests.isdisjoint(g.witness for g in granted)

    def test_old_replies_are_dropped_and_never_made_anew(self, path, monkeypatch):
        monkeypatch.setattr(ledger_database, "MAX_REPLY_BYTES", 50)
        ledger = Ledger(path)
        for number in range(3):
            answer(ledger, f"r{number}", reply=bytes(40))
        with pytest.raises(ProtocolError, match="no longer kept"):
            answer(ledger, "r0")
        assert answer(ledger, "r2") == StoredReply(content=bytes(40))
        assert len(reserved(ledger.history())) == 3

    @pytest.mark.parametrize("patients", [[*PATIENTS, "new"], PATIENTS[:3], ["a", "b", PATIENTS[-1]], ["a", "b"], []])
    def test_the_price_is_the_runs_own_whoever_takes_part(self, path, patients):
        """A price that counted what patients had spent before would tell whether two cohorts share somebody."""
        ledger = Ledger(path)
        alone = answer(ledger, "first").epsilon
        assert answer(ledger, "second", patients=patients, run="another").epsilon == alone
        both = composed_epsilon([release_of(ledger.cohort([]))] * 2, 1e-4)
        assert answer(ledger, "third", patients=patients).epsilon == both

    def test_cohorts_that_share_nobody_share_the_sites_budget(self, path):
        limits = Limits(max_epsilon=4.0, max_delta=1e-4)
        for number in range(6):
            answer(Ledger(path), str(number), run=str(number), patients=[f"patient {number}"], limits=limits)
        with pytest.raises(BudgetError, match=r"this site has spent 3\.\d+"):
            answer(Ledger(path), "one more", run="one more", patients=["somebody else"], limits=limits)

    def test_every_purpose_has_the_whole_budget_and_nobody_gets_it_twice(self, path):
        """A patient whose role changed between two runs is left out of the second; nobody outside can tell."""
        ledger, limits = Ledger(path), Limits(max_epsilon=4.0, max_delta=1e-4)
        for number in range(6):
            answer(ledger, str(number), run=str(number), patients=["a", "b"], limits=limits)
        asked = {"patients": ["b", "c"], "purpose": Purpose.EVALUATION, "run": "evaluation", "limits": limits}
        assert reserve(ledger, "evaluation", **asked).members == {ledger.pseudonym("c")}

    def test_a_forgotten_patient_takes_part_no_longer_and_keeps_what_she_spent(self, path):
        ledger = Ledger(path)
        answer(ledger, "first")
        pending = reserve(ledger, "pending")
        assert ledger.pseudonym(PATIENTS[0]) in pending.members
        assert ledger.forget(PATIENTS[0].lower())
        assert not ledger.forget("never seen")
        assert ledger.forget(PATIENTS[0])
        assert sum(isinstance(entry.content, Forgotten) for entry in ledger.history().entries) == 2
        for request in ("pending", "second"):
            assert reserve(ledger, request).members == ledger.cohort(PATIENTS[1:]).members
        assert (
            ledger.note_unprotected(
                Unprotected(purpose=Purpose.EVALUATION, run="run", cohort="", num_patients_declared=30),
                ledger.cohort(PATIENTS),
                NO_LIMIT,
            )
            == ledger.cohort(PATIENTS[1:]).members
        )
        history = read_history(path)
        hers = [r for r in reserved(history) if ledger.pseudonym(PATIENTS[0]) in history.members[r.cohort]]
        assert [r.request for r in hers] == ["first", "pending"]

    def test_forgetting_nobody(self, path):
        with pytest.raises(ValueError, match="Expected an identifier that names a patient"):
            Ledger(path).forget("unknown")

    def test_a_retired_ledger_can_be_read_and_grants_nothing(self, path, tmp_path):
        ledger = Ledger(path)
        answer(ledger, "before")
        pending = reserve(ledger, "pending")
        ledger.move_to(tmp_path / "elsewhere")
        entries = read_history(path).entries
        for change in (
            lambda: reserve(Ledger(path), "after"),
            lambda: Ledger(path).commit(pending, b"reply"),
            lambda: Ledger(path).forget("a"),
            lambda: Ledger(path).enter_lost([], forgotten=[bytes(16)], patients=[]),
        ):
            with pytest.raises(LedgerError, match="this copy was retired when the ledger moved elsewhere"):
                change()
        assert reserve(Ledger(path), "before") == StoredReply(content=b"before")
        assert read_history(path).entries == Ledger(path).history().entries == entries

    def test_unprotected_release_is_recorded_once_and_leaves_nothing(self, path):
        ledger = Ledger(path)
        cohort = ledger.cohort(PATIENTS)
        release = Unprotected(
            purpose=Purpose.EVALUATION, run="run", cohort=cohort.fingerprint, num_patients_declared=30
        )
        for _ in range(3):
            ledger.note_unprotected(release, cohort, NO_LIMIT)
        assert sum(isinstance(entry.content, Unprotected) for entry in ledger.history().entries) == 1
        # A later run's price is its own; what bounds the patient is for the site's report.
        assert answer(ledger, "private", run="other").epsilon < 8
        capped = {"run": "other", "limits": Limits(max_epsilon=100.0, max_delta=1e-4)}
        with pytest.raises(BudgetError, match="Expected epsilon inf <= 100"):
            reserve(ledger, "capped", purpose=Purpose.EVALUATION, **capped)
        # For the other purpose there is budget, of which these patients have none left.
        assert reserve(ledger, "capped", patients=[*PATIENTS, "new"], **capped).members == {ledger.pseudonym("new")}
        with pytest.raises(BudgetError, match="Expected a private release"):
            ledger.note_unprotected(release, cohort, Limits(max_epsilon=100.0, max_delta=1e-4))


class TestRecognition:
    def test_how_many_are_known_and_respelt(self, path):
        ledger = Ledger(path)
        ledger.remember_spellings(["P_1", "P_2", "P_3"])
        found = ledger.recognise(["P_1", "p_2", "P_0003", "P_4"])
        assert (found.num_known, found.num_unknown, found.num_respelt) == (3, 1, 2)
        assert not found.has_releases
        ledger.remember_spellings(["p_2"])
        assert ledger.recognise(["p_2", "P_2"]).num_respelt == 0
        answer(ledger, "request")
        assert ledger.recognise([]).has_releases
        # Seen in a cohort, under a spelling that nobody wrote down.
        found = ledger.recognise([PATIENTS[0], PATIENTS[1].lower()])
        assert (found.num_known, found.num_respelt) == (2, 0)

    def test_an_identifier_that_names_nobody(self, path):
        with pytest.raises(ValueError, match="scientific notation"):
            Ledger(path).recognise(["1.23E+11"])


class TestDisk:
    def test_a_noise_key_is_gone_from_every_file_once_its_reply_is_stored(self, path):
        """Who takes the disk later cannot compute a noise again and take it from a reply."""
        ledger = Ledger(path)
        waiting = [reserve(ledger, f"waiting {number}", run=str(number)) for number in range(200)]
        granted = reserve(ledger, "request")
        assert granted.noise_key in bytes_on_disk(path)
        ledger.commit(granted, b"reply")
        assert granted.noise_key not in bytes_on_disk(path)
        for number, reservation in enumerate(waiting):
            assert reservation.noise_key in bytes_on_disk(path)
            ledger.commit(reservation, bytes(number))
            assert reservation.noise_key not in bytes_on_disk(path)

    def test_files_are_the_owners_and_name_no_patient(self, path):
        answer(Ledger(path), "request")
        for file in path.parent.iterdir():
            assert b"ZQXCANARYQXZ" not in file.read_bytes()
            if file.suffix != ".sqlite-journal":
                assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file

    def test_fingerprints_differ_between_sites(self, tmp_path):
        first, second = (Ledger.create(tmp_path / name).cohort(PATIENTS).fingerprint for name in ("a", "b"))
        assert first != second

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE entries SET body = replace(body, '2.431', '9.431') WHERE sequence = 3",
            "DELETE FROM entries WHERE sequence = 3",
            "DELETE FROM entries WHERE sequence > 4",
            "UPDATE entries SET sequence = 99 WHERE sequence = 3",
            "UPDATE entries SET time = '2020-01-01T00:00:00.000+00:00' WHERE sequence = 2",
            "DELETE FROM members WHERE pseudonym = (SELECT MIN(pseudonym) FROM members)",
            "INSERT INTO members VALUES ('x', x'00')",
            "INSERT INTO members SELECT CAST(cohort AS BLOB), x'00000000000000000000000000000000' FROM members LIMIT 1",
            "UPDATE members SET cohort = CAST(cohort AS BLOB) WHERE pseudonym = (SELECT MIN(pseudonym) FROM members)",
        ],
    )
    def test_changes_are_noticed_and_stop_training(self, path, statement):
        ledger = Ledger(path)
        for number in range(3):
            answer(ledger, f"request {number}")
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()
        with pytest.raises(LedgerError, match="Expected"):
            answer(ledger, "next")
        with pytest.raises(LedgerError, match="Expected"):
            Ledger(path)
        with pytest.raises(LedgerError, match="Expected"):
            read_history(path)

    def test_two_patients_in_one_row_are_noticed(self, path):
        """The same bytes in the same order, under which neither of the two would be found again."""
        ledger = Ledger(path)
        answer(ledger, "request")
        with sqlite3.connect(path) as connection:
            rows = connection.execute("SELECT cohort, pseudonym FROM members ORDER BY pseudonym LIMIT 2").fetchall()
            connection.executemany("DELETE FROM members WHERE cohort = ? AND pseudonym = ?", rows)
            connection.execute("INSERT INTO members VALUES (?, ?)", (rows[0][0], rows[0][1] + rows[1][1]))
        connection.close()
        for opening in (Ledger, read_history, lambda _: ledger.history()):
            with pytest.raises(LedgerError, match=r"Expected the patients of cohort .* as they were recorded"):
                opening(path)

    def test_a_changed_reply_is_not_sent(self, path):
        answer(Ledger(path), "request")
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE replies SET content = x'00'")
        connection.close()
        with pytest.raises(LedgerError, match="the reply of ledger entry 3 as it was written"):
            answer(Ledger(path), "request")

    @pytest.mark.parametrize("lost", ["ledger.sqlite", "ledger.sqlite.key", "ledger.sqlite.head"])
    def test_a_lost_file_stops_training(self, path, lost):
        answer(Ledger(path), "request")
        (path.parent / lost).unlink()
        with pytest.raises(LedgerError, match="Expected"):
            answer(Ledger(path), "next")

    def test_an_older_copy_is_noticed(self, path):
        ledger = Ledger(path)
        answer(ledger, "first")
        copy = path.with_suffix(".copy")
        shutil.copy(path, copy)
        answer(ledger, "second")
        shutil.copy(copy, path)
        with pytest.raises(LedgerError, match="cut short or replaced"):
            answer(ledger, "third")

    def test_older_copies_of_all_files_are_noticed_by_a_process_that_knew_more(self, path, tmp_path):
        ledger = Ledger(path)
        answer(ledger, "first")
        shutil.copytree(path.parent, tmp_path / "backup")
        answer(ledger, "second")
        shutil.copytree(tmp_path / "backup", path.parent, dirs_exist_ok=True)
        with pytest.raises(LedgerError, match="it was replaced"):
            answer(ledger, "third")

    def test_what_nobody_touched_is_not_verified_again(self, path, monkeypatch):
        ledger = Ledger(path)
        answer(ledger, "first")
        calls = []
        monkeypatch.setattr(ledger_database, "verified_history", lambda *_: calls.append(1))
        answer(ledger, "second")
        ledger.history()
        assert calls == []
        monkeypatch.undo()
        assert read_history(path) == ledger.history()

    def test_members_are_hashed_when_they_are_read_and_never_again(self, path, monkeypatch):
        ledger = Ledger(path)
        for number in range(5):
            answer(ledger, f"request {number}", patients=PATIENTS[number:])
        hashed = []
        sha256 = hashlib.sha256

        def counting(content=b""):
            if content and len(content) % PSEUDONYM_BYTES == 0 and content[:PSEUDONYM_BYTES] in known:
                hashed.append(content)
            return sha256(content)

        known = read_history(path).known
        monkeypatch.setattr(pseudonyms.hashlib, "sha256", counting)
        reopened = Ledger(path)
        assert len(hashed) == 5
        for number in range(5, 8):
            answer(reopened, f"request {number}", patients=PATIENTS)
        assert len(hashed) == 6

    def test_a_history_that_nobody_changed_opens_no_database(self, path, monkeypatch):
        ledger = Ledger(path)
        answer(ledger, "first")
        connections, connect = [], ledger_database.connect
        monkeypatch.setattr(ledger_database, "connect", lambda *a, **k: connections.append(1) or connect(*a, **k))
        assert ledger.history() == ledger.history()
        assert connections == []
        answer(Ledger(path), "of another process")
        connections.clear()
        assert len(reserved(ledger.history())) == 2
        assert len(connections) == 1
        for change in (Path.unlink, lambda head: head.write_text('{"sequence": 9, "digest": "x"}')):
            change(path.with_name(path.name + ".head"))
            with pytest.raises(LedgerError, match="Expected"):
                ledger.history()

    def test_a_history_has_what_another_process_wrote_where_the_files_clock_stands_still(self, path, monkeypatch):
        monkeypatch.setattr(ledger_files, "file_state", lambda _: (0,))
        first, second = Ledger(path), Ledger(path)
        for number in range(6):
            answer((first, second)[number % 2], str(number), run=str(number))
            assert first.history() == second.history() == read_history(path)
            assert len(reserved(first.history())) == number + 1

    def test_entries_of_another_process_count_even_where_the_files_clock_stands_still(self, path, monkeypatch):
        monkeypatch.setattr(ledger_files, "file_state", lambda _: (0,))
        limits, ledgers = Limits(max_epsilon=4.0, max_delta=1e-4), [Ledger(path), Ledger(path)]
        for number in range(6):
            answer(ledgers[number % 2], str(number), run=str(number), limits=limits)
        for ledger in ledgers:
            with pytest.raises(BudgetError, match="is left"):
                answer(ledger, "one more", run="one more", limits=limits)

    def test_a_clock_that_goes_back_changes_nothing_but_the_times(self, path, monkeypatch):
        class Clock(datetime):
            times = iter(datetime(2030 - year, 1, 1, tzinfo=UTC) for year in range(100))

            @classmethod
            def now(cls, tz=None):
                return next(cls.times)

        monkeypatch.setattr(ledger_store, "datetime", Clock)
        spent = [answer(Ledger(path), str(number)).epsilon for number in range(3)]
        assert spent == sorted(set(spent))
        entries = Ledger(path).history().entries[1:]
        assert [entry.time.year for entry in entries] == [2030 - number for number in range(len(entries))]
        with pytest.raises(BudgetError, match="is left"):
            answer(Ledger(path), "more", run="more", limits=Limits(max_epsilon=spent[-1], max_delta=1e-4))

    def test_another_sites_key_is_noticed(self, path):
        answer(Ledger(path), "request")
        Ledger.create(path.with_name("other"))
        shutil.copy(path.with_name("other.key"), path.with_name(path.name + ".key"))
        with pytest.raises(LedgerError, match="found another"):
            Ledger(path)

    def test_no_ledger_to_read(self, new_path):
        with pytest.raises(LedgerError, match="Expected a ledger at"):
            read_history(new_path)

    def test_a_folder_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(LedgerError, match="that can be read and written"):
            Ledger.create(tmp_path / "file" / "ledger.sqlite")


@settings(max_examples=25)
@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 6),
            st.sampled_from([slice(0, 30), slice(0, 15), slice(15, 30), slice(10, 20)]),
            st.booleans(),
        ),
        max_size=15,
    )
)
def test_any_sequence_of_requests_and_crashes_stays_below_the_cap(tmp_path_factory, steps):
    """Requests may repeat, cohorts may overlap, replies may never come: nothing is lost, nothing passes the cap."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    Ledger.create(path)
    limits, granted_by_request, answered = Limits(max_epsilon=4.0, max_delta=1e-4), {}, set()
    for request, patients, crashes in steps:
        ledger, name = Ledger(path), str(request)
        try:
            granted = reserve(ledger, name, patients=PATIENTS[patients], run=name, limits=limits)
        except BudgetError:
            assert name not in granted_by_request
            continue
        if name in answered:
            assert granted == StoredReply(content=name.encode())
            continue
        # After a crash the very same is granted again.
        assert granted_by_request.setdefault(name, granted) == granted
        if not crashes:
            ledger.commit(granted, name.encode())
            answered.add(name)
    history = Ledger(path).history()
    assert len(reserved(history)) == len(granted_by_request)
    for members in history.members.values():
        of_patient = [r for r in reserved(history) if not history.members[r.cohort].isdisjoint(members)]
        of_all_members = [r for r in of_patient if history.members[r.cohort] >= members]
        assert composed_epsilon(of_all_members, 1e-4) <= 4.0


@pytest.mark.slow
def test_four_clients_racing_never_spend_the_same_budget_twice(tmp_path):
    path = tmp_path / "ledger.sqlite"
    Ledger.create(path)
    limits, pipes = Limits(max_epsilon=4.0, max_delta=1e-4), []
    for worker in range(4):
        hear, tell = os.pipe()
        if os.fork() == 0:
            granted = 0
            for number in range(8):
                try:
                    answer(Ledger(path), f"{worker} {number}", run=f"{worker} {number}", limits=limits)
                    granted += 1
                except BudgetError:
                    pass
            os.write(tell, str(granted).encode())
            os._exit(0)
        os.close(tell)
        pipes.append(hear)
    total = sum(int(os.read(hear, 100)) for hear in pipes)
    for _ in pipes:
        os.wait()
    history = read_history(path)
    assert len(reserved(history)) == total
    assert 3.5 < composed_epsilon(reserved(history), 1e-4) <= 4.0


def test_flipped_bits_are_noticed_or_change_nothing(path):
    ledger = Ledger(path)
    for number in range(2):
        answer(ledger, f"request {number}")
    digests = [entry.digest for entry in read_history(path).entries]
    whole = path.read_bytes()
    for position in range(0, len(whole), 97):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        try:
            assert [entry.digest for entry in read_history(path).entries] == digests
        except LedgerError:
            continue
    path.write_bytes(whole)
    assert dataclasses.asdict(read_history(path).entries[0])
